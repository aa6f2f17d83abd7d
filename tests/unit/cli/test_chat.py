"""Which agent is meant by what somebody typed."""

from __future__ import annotations

import pytest

from supervisor.cli.chat import chosen
from supervisor.cli.errors import UsageError

AGENTS = [
    {"id": "650000000000000000000001", "name": "Echo"},
    {"id": "650000000000000000000002", "name": "Echo 2"},
    {"id": "71aa00000000000000000003", "name": "Weather"},
]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [("650000000000000000000002", 1), ("Echo", 0), ("echo 2", 1), ("weat", 2), ("71aa", 2)],
)
def test_an_id_a_name_or_the_beginning_of_one_will_do(wanted: str, number: int) -> None:
    assert chosen(AGENTS, wanted) is AGENTS[number]


def test_several_are_named_and_none_is_taken() -> None:
    with pytest.raises(UsageError, match=r"6500 may be Echo \(650{21}1\), Echo 2 \(650{21}2\); give an id"):
        chosen(AGENTS, "6500")


@pytest.mark.parametrize("wanted", ["wea", "wether", "", "71aa00000000000000000004"])
def test_none_is_found_by_less_than_a_name(wanted: str) -> None:
    with pytest.raises(UsageError, match=r"There is no agent .*; there are: Echo \("):
        chosen(AGENTS, wanted)


def test_an_empty_sandbox_has_none() -> None:
    with pytest.raises(UsageError, match="there are: none"):
        chosen([], "echo")
