"""Takes the Dockerfile's steps without an engine: the wheel, and a virtual environment with it in a room's /opt."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

from deploy.container_check.room import Room

VENV = "/opt/aiwm-supervisor"
_PIP = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "http", "HTTP", "SSL_"))}
#: What the wheel holds beside Python modules.
_OTHER = {".html", ".js", ".css", ".svg", ".typed"}


class StepError(Exception):
    """A step of the Dockerfile failed; the message is what it said."""


def run(args: Sequence[str], seconds: float = 600.0) -> str:
    """Run a step to its end; what it wrote.

    Raises:
        StepError: it failed.
    """
    done = subprocess.run(args, capture_output=True, text=True, check=False, timeout=seconds)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise StepError(f"exit {done.returncode}: {said[-1] if said else 'without a word'}")
    return done.stdout


def build_wheel(root: Path, folder: Path) -> Path:
    """Build the wheel of a source tree with the backend that is installed here, without a network."""
    folder.mkdir(exist_ok=True)
    script = "import os, sys, hatchling.build as b; os.chdir(sys.argv[1]); print(b.build_wheel(sys.argv[2]))"
    return folder / run([sys.executable, "-c", script, str(root), str(folder)]).splitlines()[-1]


def contents(wheel: Path, root: Path) -> list[str]:
    """What is missing in a wheel, and what should not be in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        str(Path(place) / path.relative_to(root / source))
        for source, place in (("supervisor", "supervisor"), ("agents", "supervisor_bundled"))
        for path in (root / source).rglob("*")
        if path.is_file() and (path.suffix == ".py" or path.suffix in _OTHER)
    }
    found = {name for name in names if ".dist-info/" not in name}
    problems = [f"{name} is missing" for name in sorted(wanted - found)]
    return problems + [f"{name} does not belong there" for name in sorted(found - wanted)]


def install(room: Room, wheel: Path, requirements: Path | None, constraints: Path) -> None:
    """Make the virtual environment, with its dependencies from a network, or borrowed where no requirements are given.

    Raises:
        StepError: a step failed.
    """
    room.bind(wheel.parent, "/build")
    env = {"PATH": f"{VENV}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", **_PIP}

    for value in _PIP.values():
        # A certificate or a folder of packages that pip is pointed to.
        if value.startswith("/") and Path(value).exists():
            room.bind(Path(value), value)

    def step(*args: str) -> None:
        run(room.command(args, env=env))

    base = Path(sys.executable).resolve()
    step(str(base), "-m", "venv", VENV)
    if requirements is None:
        borrowed = Path(sysconfig.get_paths()["purelib"])
        room.bind(borrowed, "/borrowed")
        site = f"{VENV}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        (room.root / site.lstrip("/") / "borrowed.pth").write_text("/borrowed\n")
    else:
        room.bind(requirements.parent, "/requirements")
        room.bind(constraints.parent, "/constraints")
        step(
            *("pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"),
            *(
                "--constraint",
                f"/constraints/{constraints.name}",
                "--requirement",
                f"/requirements/{requirements.name}",
            ),
        )
    step("pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", f"/build/{wheel.name}")
    if requirements is not None:
        step("pip", "check")
