#!/usr/bin/env python3
"""Cuts a release: ``docs/release.py X.Y.Z [DATE]`` writes the version wherever one stands, and the changelog's."""

from __future__ import annotations

import argparse
import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
#: Where the version stands: what is before it on its line, and what is behind.
PLACES: Final = {
    "pyproject.toml": (r'^version = "', '"$'),
    "supervisor/__init__.py": (r'^__version__ = "', '"$'),
    "Dockerfile": (r"^ARG VERSION=", "$"),
    "helm/aiwm-supervisor/Chart.yaml": (r'^(?:version|appVersion): "?', '"?$'),
}
_VERSION: Final = r"\d+\.\d+\.\d+"
_UNRELEASED: Final = "## [Unreleased]\n"


def versions(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Every version that stands anywhere, with its file."""
    for name, (before, after) in PLACES.items():
        text = (root / name).read_text(encoding="utf-8")
        for found in re.findall(f"{before}({_VERSION}){after}", text, re.MULTILINE):
            yield name, found


def cut(version: str, date: str, root: Path = ROOT) -> None:
    """Write a version into every place, and put what is unreleased under it.

    Raises:
        ValueError: it is none, or it was cut before.
    """
    if not re.fullmatch(_VERSION, version):
        raise ValueError(f"{version} is no version such as 1.2.3")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if f"## [{version}]" in text or _UNRELEASED not in text:
        raise ValueError(f"CHANGELOG.md has {version} already, or nothing that is unreleased")
    changelog.write_text(text.replace(_UNRELEASED, f"{_UNRELEASED}\n## [{version}] - {date}\n", 1), encoding="utf-8")
    for name, (before, after) in PLACES.items():
        text = (root / name).read_text(encoding="utf-8")
        found = re.compile(f"({before}){_VERSION}({after})", re.MULTILINE)
        (root / name).write_text(found.sub(rf"\g<1>{version}\g<2>", text), encoding="utf-8")


def main() -> None:
    """Cut the release that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", metavar="X.Y.Z")
    parser.add_argument("date", nargs="?", default=dt.datetime.now(dt.UTC).date().isoformat())
    given = parser.parse_args()
    try:
        cut(given.version, given.date)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
