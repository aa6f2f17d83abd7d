"""An agents folder to write handlers into, and its loader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from supervisor.handlers import HandlerLoader
from tests.support.mounted import Write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    agents = tmp_path / "agents"
    agents.mkdir()
    return agents


@pytest.fixture
def write(folder: Path) -> Write:
    def to(name: str, code: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(code), encoding="utf-8")

    return to


@pytest.fixture
def loader(folder: Path) -> Iterator[HandlerLoader]:
    made = HandlerLoader(folder, packages=["installed_handlers"], bundled=(), threads=8)
    yield made
    made.close()
