"""Records a release for the versions after it: ``python -m tests.upgrade.record 0.1.0 [CHECKOUT]``.

What it is given, in ``tests/fixtures/<version>/given``, is written by hand; what it makes of that goes to ``made``, and
is committed once, when the release is cut. Nothing in it is ever changed afterwards: it is what people have.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT
from tests.upgrade.home import Home, Version
from tests.upgrade.names import names_of
from tests.upgrade.shapes import shape
from tests.upgrade.story import play, play_encrypted

FIXTURES = ROOT / "tests" / "fixtures"
#: Looks that are kept as they are, for they are the same at each time; of the others the shape is.
EXACT = frozenset(
    {
        "agents export",
        "agents import",
        "answers",
        "at rest: agents list",
        "at rest: messages list",
        "at rest: messages show",
        "at rest: usage",
        "openapi",
    }
)


def copied(checkout: Path, to: Path) -> Version:
    """The code of a checkout in a folder of its own: what is recorded names no path of this machine."""
    for name in ("supervisor", "agents"):
        shutil.copytree(checkout / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    return Version(to)


async def record(name: str, checkout: Path) -> None:
    """Record what the version in ``checkout`` makes of what ``name`` is given."""
    with tempfile.TemporaryDirectory(prefix="supervisor-record-") as folder:
        await _record(name, checkout, copied(checkout, Path(folder)))


async def _record(name: str, checkout: Path, version: Version) -> None:
    given, made = FIXTURES / name / "given", FIXTURES / name / "made"
    made.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="supervisor-record-") as folder:
        told = await play(version, Path(folder), given)
    with tempfile.TemporaryDirectory(prefix="supervisor-record-") as folder:
        encrypted = await play_encrypted(version, Path(folder), given)
    with tempfile.TemporaryDirectory(prefix="supervisor-record-") as folder:
        async with Home(version, Path(folder), given) as home:
            names = await names_of(home)
            settings = await settings_of(home)
    _write(made / "looks.json", {name: value if name in EXACT else shape(value) for name, value in told.looks.items()})
    _write(made / "metrics.json", told.metrics)
    _write(made / "settings.json", settings)
    _write(made / "names.json", names)
    for file, content in (("registry.db.gz", told.registry), ("encrypted.db.gz", encrypted)):
        (made / file).write_bytes(gzip.compress(content, mtime=0))
    chart = checkout / "helm" / "aiwm-supervisor"
    _write(made / "values.json", yaml.safe_load((chart / "values.yaml").read_text()))
    for values in sorted((chart / "ci").glob("*-values.yaml")):
        shutil.copy(values, made / values.name)


async def settings_of(home: Home) -> Any:
    """What a version makes of the given settings."""
    lines = (home.given / "settings.env").read_text().splitlines()
    home.settings = dict(line.removeprefix("SUPERVISOR_").split("=", 1) for line in lines)
    found = await home.json("config")
    # The one that cannot be given: it has to exist.
    del found["agents_dir"]
    return found


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1], Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else ROOT))
