"""The layers stand in four lines, in three places, as the import contract enforces them; no module is left out."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.support.paths import ROOT

Floors = list[set[str]]

_LINES = re.compile(r"^ *edges .*\n *engine .*\n *adapters .*\n *core .*$", re.MULTILINE)


def written(text: str) -> Floors:
    """The floors that stand in the four lines of a text, the uppermost first."""
    [block] = _LINES.findall(text)
    floors = [floor for line in block.splitlines() for floor in line.split(None, 1)[1].split(">")]
    return [{room.strip() for room in floor.split("|")} for floor in floors]


def contracts() -> list[dict[str, Any]]:
    """The import contracts."""
    found: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return found


def enforced() -> Floors:
    """The floors of the import contract."""
    [layers] = [contract["layers"] for contract in contracts() if contract["name"] == "Imports go downward"]
    return [{room.strip().removeprefix("supervisor.") for room in floor.split("|")} for floor in layers]


@pytest.mark.parametrize("name", ["supervisor/__init__.py", "README.md", "docs/architecture.md"])
def test_the_layers_are_those_of_the_contract(name: str) -> None:
    assert written((ROOT / name).read_text()) == enforced()


def test_every_package_and_module_is_on_a_floor() -> None:
    found = {path.parent.name for path in (ROOT / "supervisor").glob("*/__init__.py")}
    found |= {path.stem for path in (ROOT / "supervisor").glob("*.py")}
    assert set().union(*enforced()) == found - {"__init__", "__main__"}


def modules(room: str) -> set[str]:
    """What stands in a room, modules and packages, by its full name."""
    entries = (ROOT / "supervisor" / room).iterdir()
    found = {entry.stem for entry in entries if entry.suffix == ".py" or (entry / "__init__.py").is_file()}
    return {f"supervisor.{room.replace('/', '.')}.{name}" for name in found - {"__init__"}}


@pytest.mark.parametrize("room", ["fleet", "messages", "platform", "platform/hosts", "platform/transport"])
def test_every_module_of_a_room_with_an_order_has_its_place_in_it(room: str) -> None:
    layers = [layer for contract in contracts() for layer in contract.get("layers", ())]
    assert modules(room) <= {name.strip() for layer in layers for name in layer.split("|")}


def test_every_module_of_the_store_stands_above_or_below_its_dialect() -> None:
    [above] = [one["source_modules"] for one in contracts() if one["name"].startswith("The journal stands above")]
    below = {f"supervisor.store.{name}" for name in ("sql", "sqlite", "postgres", "migrations")}
    # Opening chooses the database, and so knows each of them.
    assert set(above) == modules("store") - below - {"supervisor.store.opening"}
