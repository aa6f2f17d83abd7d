"""The bundled agents use what every author has: of the supervisor, only :mod:`supervisor.handler`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

AGENTS = ROOT / "agents"


def imported(source: str) -> Iterator[str]:
    """The modules that a file imports by their full names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(AGENTS.rglob("*.py")), ids=lambda path: str(path.relative_to(AGENTS)))
def test_an_agent_imports_of_the_supervisor_only_what_authors_may(path: Path) -> None:
    names = [name for name in imported(path.read_text()) if name.partition(".")[0] in ("supervisor", "agents")]
    allowed = "supervisor.handler"
    assert [name for name in names if name != allowed and not name.startswith(f"{allowed}.")] == []
