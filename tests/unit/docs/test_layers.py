"""The layers are told in four lines, in three places, and are those that the import contract enforces."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.support.paths import ROOT

Floors = list[set[str]]

_LINES = re.compile(r"^ *edges .*\n *engine .*\n *adapters .*\n *core .*$", re.MULTILINE)


def told(text: str) -> Floors:
    """The floors that the four lines of a text tell, the uppermost first."""
    [block] = _LINES.findall(text)
    floors = [floor for line in block.splitlines() for floor in line.split(None, 1)[1].split(">")]
    return [{room.strip() for room in floor.split("|")} for floor in floors]


def enforced() -> Floors:
    """The floors of the import contract."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["name"] == "Imports go downward"]
    return [{room.strip().removeprefix("supervisor.") for room in floor.split("|")} for floor in layers]


@pytest.mark.parametrize("name", ["supervisor/__init__.py", "README.md", "docs/architecture.md"])
def test_the_layers_are_those_of_the_contract(name: str) -> None:
    assert told((ROOT / name).read_text()) == enforced()


def test_every_package_and_module_is_on_a_floor() -> None:
    found = {path.parent.name for path in (ROOT / "supervisor").glob("*/__init__.py")}
    found |= {path.stem for path in (ROOT / "supervisor").glob("*.py")}
    assert set().union(*enforced()) == found - {"__init__", "__main__", "_bundled_agents"}
