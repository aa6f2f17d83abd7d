"""Prints the figures of the import graph: ``python docs/graph.py [CHECKOUT] [--arrows]``.

A room is a package, without its sub-packages, which are rooms of their own; a module that stands loose in
``supervisor/`` is one too. An arrow leads from a room to another that one of its modules imports; what is imported for
type checkers alone makes none, since it is never run. A floor is one more than the highest floor that its room imports.
An arrow leads up where the import contract of the same checkout has its end above its beginning.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

PACKAGE: Final = "supervisor"
_BUNDLED: Final = "_bundled_agents"


@dataclass(frozen=True)
class Arrow:
    """One room imports another; ``because`` names the modules that do, as ``importer -> imported``."""

    tail: str
    head: str
    because: tuple[str, ...]


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under ``if TYPE_CHECKING:``."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield from _run(node)


class Graph:
    """The rooms of a checkout, and the arrows between them."""

    def __init__(self, checkout: Path) -> None:
        self._root = checkout
        self._modules = dict(self._found())
        self._ranks = _ranks(checkout / "pyproject.toml")

    def _found(self) -> Iterator[tuple[str, Path]]:
        for path in sorted((self._root / PACKAGE).rglob("*.py")):
            if _BUNDLED not in path.parts:
                parts = path.relative_to(self._root).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path

    def room(self, module: str) -> str:
        """The room of a module, without the name of the package; empty for the package itself."""
        inner = self._modules[module].name == "__init__.py"
        parts = module.split(".")[1:]
        if inner or len(parts) == 1:
            return ".".join(parts)
        return ".".join(parts[:-1])

    @cached_property
    def rooms(self) -> list[str]:
        """Every room, by name."""
        return sorted({self.room(module) for module in self._modules} - {"", "__main__"})

    @cached_property
    def arrows(self) -> list[Arrow]:
        """Every arrow between two rooms."""
        because: dict[tuple[str, str], list[str]] = defaultdict(list)
        for module, path in self._modules.items():
            for imported in sorted(set(self._imports(path))):
                ends = self.room(module), self.room(imported)
                if ends[0] != ends[1] and {*ends}.isdisjoint({"", "__main__"}):
                    because[ends].append(f"{module} -> {imported}")
        return [Arrow(*ends, tuple(found)) for ends, found in sorted(because.items())]

    def _imports(self, path: Path) -> Iterator[str]:
        for node in _run(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                # A name may be a module of the package it comes from; else the package itself is imported.
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name in self._modules:
                    yield name
                elif (parent := name.rpartition(".")[0]) in self._modules:
                    yield parent

    @property
    def upward(self) -> list[Arrow]:
        """The arrows that lead to a higher layer of the contract, or to a room beside their own."""
        found = []
        for arrow in self.arrows:
            tail, head = self._rank(arrow.tail), self._rank(arrow.head)
            if tail is not None and head is not None and tail != head and head[0] <= tail[0]:
                found.append(arrow)
        return found

    def _rank(self, room: str) -> tuple[int, str] | None:
        """Which layer of the contract, counted from the top, a room is in, and under which name."""
        parts = room.split(".")
        for end in range(len(parts), 0, -1):
            name = ".".join(parts[:end])
            if name in self._ranks:
                return self._ranks[name], name
        return None

    @cached_property
    def circles(self) -> list[list[str]]:
        """Rooms that import each other, directly or over others: each set of them once."""
        below = {room: self._reached(room) for room in self.rooms}
        sets = {frozenset({room, *(other for other in below[room] if room in below[other])}) for room in self.rooms}
        return sorted(sorted(found) for found in sets if len(found) > 1)

    def _reached(self, room: str) -> set[str]:
        found: set[str] = set()
        left = [room]
        while left:
            for head in self._heads[left.pop()] - found:
                found.add(head)
                left.append(head)
        return found

    @cached_property
    def _heads(self) -> Mapping[str, set[str]]:
        heads: dict[str, set[str]] = {room: set() for room in self.rooms}
        for arrow in self.arrows:
            heads[arrow.tail].add(arrow.head)
        return heads

    @property
    def floors(self) -> list[list[str]]:
        """The rooms by floor, the lowest first; those of a circle share one."""
        circle_of = {room: frozenset(circle) for circle in self.circles for room in circle}
        known: dict[frozenset[str], int] = {}

        def floor(rooms: frozenset[str]) -> int:
            if rooms not in known:
                below = {circle_of.get(head, frozenset({head})) for room in rooms for head in self._heads[room]}
                known[rooms] = 1 + max((floor(other) for other in below - {rooms}), default=0)
            return known[rooms]

        found: dict[int, list[str]] = defaultdict(list)
        for room in self.rooms:
            found[floor(circle_of.get(room, frozenset({room})))].append(room)
        return [found[number] for number in sorted(found)]


def _ranks(pyproject: Path) -> dict[str, int]:
    """The layer of each name in the contract with the most layers, the uppermost being 0."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers: list[str] = max((contract.get("layers", []) for contract in contracts), key=len)
    return {
        name.strip().strip("()").removeprefix(f"{PACKAGE}."): rank
        for rank, names in enumerate(layers)
        for name in names.split("|")
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="The figures of the import graph.")
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--arrows", action="store_true", help="every arrow, with the modules that make it")
    given = parser.parse_args()
    graph = Graph(given.checkout)
    loose = [room for room in graph.rooms if not (given.checkout / PACKAGE / room.replace(".", "/")).is_dir()]
    floors = graph.floors
    print(f"rooms                  {len(graph.rooms)}, {len(loose)} of them loose modules")
    print(f"arrows between rooms   {len(graph.arrows)}")
    print(f"arrows up or sideways  {len(graph.upward)}")
    print(f"circles between rooms  {len(graph.circles)}")
    print(f"floors                 {len(floors)}")
    for number, rooms in reversed(list(enumerate(floors, 1))):
        print(f"  {number:2}  {'  '.join(rooms)}")
    for circle in graph.circles:
        print(f"circle: {', '.join(circle)}")
    for arrow in graph.arrows if given.arrows else graph.upward:
        print(f"{arrow.tail} -> {arrow.head}: {'; '.join(arrow.because)}")
    sys.exit(1 if graph.upward or graph.circles else 0)


if __name__ == "__main__":
    main()
