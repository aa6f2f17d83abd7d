"""Which agent of the sandbox is meant by what somebody typed."""

from __future__ import annotations

import pytest

from supervisor.cli.chat import OnSandbox, chosen
from supervisor.cli.errors import UsageError
from supervisor.core.errors import AmbiguousAgentError

URL = "http://127.0.0.1:8641"
AGENTS = [
    OnSandbox(f"65{1:022d}", "Echo", True),
    OnSandbox(f"65{2:022d}", "Echo 2", True),
    OnSandbox(f"71{3:022d}", "Weather", False),
]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [(f"65{2:022d}", 1), ("Echo", 0), ("Echo 2", 1), ("Weat", 2), ("7100", 2), ("echo 2", 1), ("weat", 2)],
)
def test_an_id_a_name_or_the_beginning_of_one_will_do(wanted: str, number: int) -> None:
    assert chosen(AGENTS, wanted, URL) is AGENTS[number]


def test_several_are_named_and_none_is_taken() -> None:
    with pytest.raises(AmbiguousAgentError, match="6500"):
        chosen(AGENTS, "6500", URL)


@pytest.mark.parametrize("wanted", ["Wea", "Wether", "", f"71{4:022d}"])
def test_where_none_is_meant_those_that_there_are_are_named(wanted: str) -> None:
    with pytest.raises(UsageError, match=rf"There is no agent .* on the sandbox at {URL}; there are: Echo \("):
        chosen(AGENTS, wanted, URL)


def test_an_empty_sandbox_has_none_and_a_full_one_shows_a_few() -> None:
    with pytest.raises(UsageError, match="there are: none"):
        chosen([], "echo", URL)
    many = [OnSandbox(f"{number:024x}", f"Agent {number}", True) for number in range(9)]
    with pytest.raises(UsageError, match=r"Agent 4 \(.*\) and 4 more"):
        chosen(many, "echo", URL)
