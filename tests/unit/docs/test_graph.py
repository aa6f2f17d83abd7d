"""The figures of the import graph, on a house small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.graph import Graph
from tests.support.paths import ROOT

CONTRACT = """
[[tool.importlinter.contracts]]
layers = ["supervisor.top", "supervisor.left | supervisor.right", "supervisor.low"]
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(CONTRACT)
    for name, source in {
        "__init__": "",
        "top/__init__": "",
        "top/main": "from supervisor.left import one\nfrom supervisor import low",
        "left/__init__": "",
        "left/one": "import supervisor.low",
        "right/__init__": "from supervisor.left.one import thing",
        "low": "",
    }.items():
        path = tmp_path / "supervisor" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


def test_rooms_arrows_and_floors_are_counted(house: Path) -> None:
    graph = Graph(house)
    assert graph.rooms == ["left", "low", "right", "top"]
    assert [(arrow.tail, arrow.head) for arrow in graph.arrows] == [
        ("left", "low"),
        ("right", "left"),
        ("top", "left"),
        ("top", "low"),
    ]
    assert graph.floors == [["low"], ["left"], ["right", "top"]]
    assert [(arrow.tail, arrow.head) for arrow in graph.upward] == [("right", "left")], "beside each other"


def test_a_way_up_and_a_circle_are_found(house: Path) -> None:
    (house / "supervisor" / "low.py").write_text("from supervisor.top.main import thing")
    graph = Graph(house)
    assert graph.circles == [["left", "low", "top"]]
    assert ("low", "top") in [(arrow.tail, arrow.head) for arrow in graph.upward]


def test_nothing_of_ours_leads_up() -> None:
    assert Graph(ROOT).upward == []
