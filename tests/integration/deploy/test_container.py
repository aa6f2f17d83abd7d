"""The image and compose.yaml without an engine, and the distributions that they are built from."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.container_check import image, room, static
from deploy.container_check.dockerfile import read
from tests.support.paths import ROOT

pytestmark = pytest.mark.timeout(300)


def check(**environment: str) -> str:
    """What the check says where it finds nothing wrong."""
    done = subprocess.run(
        [sys.executable, "deploy/check-container", "--quick"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_check_says_what_it_did_not_check(tmp_path: Path) -> None:
    """Where nothing can be played, which is so without the tools."""
    open_questions = check(PATH=str(tmp_path)).split("Not checked:\n")[1]
    for what in ("compose.yaml played as processes", "container engine", "Prometheus", "Grafana", "not pulled"):
        assert what in open_questions


def need_room() -> None:
    """Skips where namespaces are refused, which is no fault of ours; CI has to have the tools."""
    if "CI" in os.environ and (absent := room.absent_tools()):
        pytest.fail(f"CI lacks {', '.join(absent)}")
    if why := room.missing():
        pytest.skip(why)


def test_compose_yaml_is_played_without_an_engine() -> None:
    """Builds the wheel, installs it, and plays compose.yaml: sandbox, import, supervisor, traffic, probes, stop."""
    need_room()
    assert "ok   people talk and are answered" in check()


def test_namespaces_that_are_refused_are_no_failure_and_tools_that_ci_lacks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    # Whoever runs this may be nobody.
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(pytest.fail.Exception, match="CI lacks unshare, nsenter, chroot, setpriv, mount"):
        need_room()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="missing: apt-get install"):
        need_room()
    for tool in ("unshare", "nsenter", "chroot", "setpriv", "mount"):
        (tmp_path / tool).write_text("#!/bin/sh\necho Operation not permitted >&2\nexit 1\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.skip.Exception, match="namespaces are refused: Operation not permitted"):
        need_room()


Change = Callable[[dict[str, Any]], object]

WRONG: dict[str, tuple[Change, str]] = {
    "a key that Compose does not know": (
        lambda s: s["supervisor"].update(read_olny=True),
        "services.supervisor.read_olny: Extra inputs",
    ),
    "a setting that does not exist": (
        lambda s: s["supervisor"]["environment"].update(SUPERVISOR_ADMIN_HOTS="x"),
        "supervisor: SUPERVISOR_ADMIN_HOTS is no setting",
    ),
    "a file that is not there": (
        lambda s: s["prepare"]["volumes"].append("./nowhere:/x:ro"),
        "prepare: ./nowhere is not there to be mounted",
    ),
    "a volume that is none": (
        lambda s: s["supervisor"]["volumes"].append("nothing:/x"),
        "supervisor: nothing is no volume",
    ),
    "a service that is none": (
        lambda s: s["grafana"]["depends_on"].update(loki={"condition": "service_started"}),
        "grafana: depends on loki, which is no service",
    ),
    "a health that nobody looks at": (
        lambda s: s["prometheus"].pop("healthcheck"),
        "grafana: waits until prometheus is healthy, which has no health check",
    ),
    "an address of nobody": (
        lambda s: s["supervisor"]["environment"].update(SUPERVISOR_API_URL="http://sandbx:8641/dev/aiwm"),
        "supervisor: SUPERVISOR_API_URL leads to sandbx:8641, where no service is",
    ),
    "a port for everybody": (
        lambda s: s["sandbox"].update(ports=["8641:8641"]),
        "sandbox: port 8641:8641 is open to the network",
    ),
    "a root file system to write to": (
        lambda s: s["grafana"].pop("read_only"),
        "grafana: its root file system can be written to",
    ),
    "capabilities": (
        lambda s: s["sandbox"].pop("cap_drop"),
        "sandbox: it keeps capabilities, or may gain some",
    ),
    "an image of any version": (
        lambda s: s["grafana"].update(image="grafana/grafana:latest"),
        "grafana: its image has no fixed version",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_compose_file_is_told_from_a_right_one(name: str) -> None:
    change, said = WRONG[name]
    compose = copy.deepcopy(static.load_compose(ROOT / "compose.yaml"))
    change(compose["services"])
    problems = static.specification(compose) + static.references(ROOT, compose) + static.confinement(compose)
    assert [problem for problem in problems if problem.startswith(said)], problems


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("USER 10001:10001", "USER supervisor", "USER is 'supervisor', not two numbers above 0"),
        ("USER 10001:10001", "USER 0:0", "USER is '0:0', not two numbers above 0"),
        ("PYTHONSAFEPATH=1", "PYTHONSAFEPATH=", "PYTHONSAFEPATH is not 1"),
        ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGINT", "STOPSIGNAL is 'SIGINT'"),
        ("SUPERVISOR_LOG_FORMAT=json", "SUPERVISOR_LOG_FORM=json", "SUPERVISOR_LOG_FORM is no setting"),
        ("WORKDIR /app", "WORKDIR /var/lib/aiwm-supervisor", "the working directory can be written to"),
    ],
)
def test_a_wrong_image_is_told_from_a_right_one(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert old in text
    (tmp_path / "Dockerfile").write_text(text.replace(old, new))
    assert [problem for problem in static.runtime(read(tmp_path / "Dockerfile")[-1]) if problem.startswith(said)]


def test_hadolint_reads_the_dockerfiles(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && pip install aiohttp\n")
    assert any("DL3042" in line for line in static.hadolint([tmp_path / "Dockerfile"]))


def test_the_wheel_has_what_runs_and_nothing_else_and_the_source_distribution_makes_the_same(tmp_path: Path) -> None:
    script = "import hatchling.build as b, sys; print(b.build_sdist(sys.argv[1]))"
    named = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with tarfile.open(tmp_path / named.stdout.splitlines()[-1]) as archive:
        archive.extractall(tmp_path, filter="data")
    [unpacked] = [path for path in tmp_path.iterdir() if path.is_dir()]
    wheels = [image.build_wheel(tree, tmp_path / f"from-{tree.name}") for tree in (ROOT, unpacked)]
    first, second = (_members(wheel) for wheel in wheels)
    assert first == second
    assert image.contents(wheels[0], ROOT) == []
    for name in (
        "supervisor/py.typed",
        "supervisor_bundled/echo.py",
        "supervisor_bundled/assistant/__init__.py",
        "supervisor_bundled/py.typed",
        "supervisor/store/migrations/versions/v0001_initial.py",
        "supervisor/admin/static/console.html",
        "supervisor/sandbox/chat/index.html",
    ):
        assert name in first
    for name in ("Dockerfile", "compose.yaml", "constraints.txt", "deploy/check-container", "tests/conftest.py"):
        assert (unpacked / name).is_file()


def _members(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}
