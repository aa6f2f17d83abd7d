"""Which agents are meant: exact before beginning, id before name, and all that have what a selector asks for."""

from __future__ import annotations

import dataclasses

import pytest

from supervisor.core.errors import AgentNotFoundError, AmbiguousAgentError, ConfigurationError
from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus
from supervisor.management.selection import Selector, is_whole, pick


def record(agent_id: str, name: str = "") -> AgentRecord:
    return AgentRecord(agent_id, "echo", "env:SECRET", name=name)


FLEET = [
    record("6500aaaa", "Ada"),
    record("6500bbbb", "Grace"),
    record("Ada", "6500aaaa"),
    record("7700cccc", "Gracie"),
]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("6500bbbb", "6500bbbb"),
        ("Grace", "6500bbbb"),  # also the beginning of another's name
        ("Ada", "Ada"),  # an id comes before the name of another
        ("6500aaaa", "6500aaaa"),
        ("7700", "7700cccc"),
        ("6500a", "6500aaaa"),
        ("Graci", "7700cccc"),
        ("ada", "Ada"),  # case counts only where it decides
        ("GRACE", "6500bbbb"),
        ("graci", "7700cccc"),
    ],
)
def test_an_id_comes_before_a_name_and_both_before_a_beginning(text: str, wanted: str) -> None:
    fleet = FLEET if text != "6500a" else FLEET[:2]
    assert pick(text, fleet).id == wanted


@pytest.mark.parametrize("text", ["", "650", "770", "Gra", "gra", "nobody", "x6500aaaa"])
def test_what_fits_none_or_is_too_short_is_not_found(text: str) -> None:
    with pytest.raises(AgentNotFoundError):
        pick(text, FLEET)


@pytest.mark.parametrize(
    ("text", "is_a_beginning"), [("650", True), ("gra", True), ("xyz", False), ("", False), ("nobody", False)]
)
def test_a_beginning_that_is_too_short_is_called_that(text: str, is_a_beginning: bool) -> None:
    with pytest.raises(AgentNotFoundError) as caught:
        pick(text, FLEET)
    assert ("write 4 characters or more" in str(caught.value)) == is_a_beginning
    assert ("see: supervisor agents list" in str(caught.value)) != is_a_beginning


def test_what_fits_several_names_them() -> None:
    twins = [record("1" * 24, "Ann"), record("2" * 24, "Ann")]
    with pytest.raises(AmbiguousAgentError, match=f"'Ann' stands for 2 agents: {'1' * 24} \\(Ann\\), {'2' * 24}"):
        pick("Ann", twins)
    with pytest.raises(AmbiguousAgentError, match=r"'6500' stands for 3 agents: 6500aaaa .Ada., 6500bbbb .Grace., Ada"):
        pick("6500", FLEET)
    many = [record(f"65000{number:03d}") for number in range(30)]
    with pytest.raises(AmbiguousAgentError, match="65000009 and 20 more; write more of it"):
        pick("6500", many)


def test_a_beginning_is_not_the_whole() -> None:
    assert is_whole("Ada", FLEET[0])
    assert is_whole("6500aaaa", FLEET[0])
    assert not is_whole("6500", FLEET[0])


def status(
    state: AgentState = AgentState.ONLINE, *, handler: str = "echo", health: str = "ok", **labels: str
) -> AgentStatus:
    return AgentStatus("a1", "", handler, state, health=health, labels=labels)


@pytest.mark.parametrize(
    ("selector", "agent", "selected"),
    [
        (Selector.of(), status(), True),
        (Selector.of(["team=support"]), status(team="support"), True),
        (Selector.of(["team=support"]), status(team="sales"), False),
        (Selector.of(["team"]), status(team="sales"), True),
        (Selector.of(["team="]), status(team="sales"), False),
        (Selector.of(["team=a=b"]), status(team="a=b"), True),
        (Selector.of(["team=a", "level"]), status(team="a"), False),
        (Selector.of(states=["failing"]), status(health="failing: no key"), True),
        (Selector.of(states=["failing"]), status(), False),
        (Selector.of(states=["stuck"]), dataclasses.replace(status(), trouble="stuck"), True),
        (Selector.of(states=["stuck"]), status(), False),
        (Selector.of(states=["online"]), status(health="failing: no key"), True),
        (Selector.of(states=["faulted", "paused"]), status(AgentState.PAUSED), True),
        (Selector.of(handlers=["echo"]), status(handler="echo:Loud"), True),
        (Selector.of(handlers=["echo:Loud"]), status(handler="echo"), False),
        (Selector.of(handlers=["tour", "echo"]), status(), True),
        (Selector.of(["team=a"], ["online"], ["tour"]), status(team="a"), False),
    ],
)
def test_a_selector_asks_for_all_of_its_conditions(selector: Selector, agent: AgentStatus, selected: bool) -> None:
    assert (agent in selector) is selected


def test_a_selector_of_nothing_is_none() -> None:
    assert not Selector.of()
    assert Selector.of(["team"])


@pytest.mark.parametrize(
    ("labels", "states", "said"),
    [(["=x"], [], "KEY=VALUE or KEY, not '=x'"), ([], ["asleep"], "no state 'asleep'; there are: .*online.*failing")],
)
def test_what_is_no_selector_is_refused(labels: list[str], states: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Selector.of(labels, states)
