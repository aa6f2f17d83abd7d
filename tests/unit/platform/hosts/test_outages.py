"""One line when something goes down and one when it is back, however many agents notice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from supervisor.platform.hosts.outages import (
    CALLS,
    FOLLOW_SECONDS,
    HOST_AGENTS,
    REPORT_DELAY_SECONDS,
    STRAGGLER_SECONDS,
    Outages,
)
from tests.support.clock import ManualClock

HOST = "platform.example"


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
async def outages(clock: ManualClock, log: list[Any]) -> AsyncIterator[Outages]:
    made = Outages(clock)
    yield made
    await made.close()
    await clock.settle()
    assert clock.sleepers == 0, "something still waits to tell"


def events(log: list[Any]) -> list[str]:
    return [entry["event"] for entry in log]


def fail(outages: Outages, *numbers: int, host: str = HOST, reason: str = "timeout") -> None:
    for number in numbers:
        outages.failed(f"a{number}", host, reason)


def recover(outages: Outages, *numbers: int, host: str = HOST) -> None:
    for number in numbers:
        outages.recovered(f"a{number}", host)


async def test_few_agents_are_each_their_own_outage(outages: Outages, log: list[Any], clock: ManualClock) -> None:
    few = range(HOST_AGENTS - 1)
    for _ in range(3):
        fail(outages, *few)
    assert log == [], "the line is held: the others may be about to follow"
    await clock.advance(REPORT_DELAY_SECONDS)
    assert events(log) == ["agent_offline"] * len(few)
    assert {entry["agent"] for entry in log} == {f"a{number}" for number in few}
    assert log[0]["log_level"] == "warning"
    assert outages.notices() == ()
    await clock.advance(9)
    recover(outages, 0, 0)
    [back] = log[len(few) :]
    assert (back["event"], back["agent"], back["failures"], back["seconds"]) == ("agent_back", "a0", 3, 10)


async def test_an_agent_back_before_its_line_was_told_is_told_in_one(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, 1, reason="reset")
    await clock.advance(REPORT_DELAY_SECONDS / 2)
    recover(outages, 1)
    await clock.advance(60)
    [line] = log
    assert (line["event"], line["reason"], line["seconds"]) == ("agent_back", "reset", REPORT_DELAY_SECONDS / 2)


@pytest.mark.parametrize("agents", [HOST_AGENTS, 10, 1000])
async def test_one_outage_of_a_host_is_two_lines(
    outages: Outages, log: list[Any], clock: ManualClock, agents: int
) -> None:
    for number in range(agents):
        fail(outages, number)
        await clock.advance(REPORT_DELAY_SECONDS / 2 / agents)
    for _ in range(3):
        await clock.advance(10)
        fail(outages, *range(agents))
    [notice] = outages.notices()
    assert notice.startswith(f"{HOST} is down for {agents} agents since 2027-01-15T")
    for number in range(agents):
        await clock.advance(STRAGGLER_SECONDS / 2 / agents)
        recover(outages, number)
    await clock.advance(2 * STRAGGLER_SECONDS)
    assert [(entry["event"], entry["host"]) for entry in log] == [("host_down", HOST), ("host_back", HOST)]
    assert outages.notices() == ()


async def test_one_that_was_told_before_its_host_went_down_is_called_back(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, 0)
    await clock.advance(30)
    fail(outages, *range(10))
    await clock.advance(30)
    recover(outages, *range(10))
    await clock.advance(2 * STRAGGLER_SECONDS)
    assert events(log) == ["agent_offline", "host_down", "agent_back", "host_back"]


async def test_agents_that_stay_away_do_not_keep_their_host_down_but_are_told_singly(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, *range(10))
    await clock.advance(30)
    recover(outages, *range(1, 10))
    assert events(log) == ["host_down", "host_back"]
    assert log[-1]["seconds"] == 30
    assert outages.notices() == ()
    for _ in range(6):
        await clock.advance(STRAGGLER_SECONDS / 6)
        fail(outages, 0, reason="kicked")
    [late] = log[2:]
    assert (late["event"], late["agent"], late["reason"]) == ("agent_offline", "a0", "kicked")
    recover(outages, 0)
    assert events(log)[3:] == ["agent_back"]


async def test_a_host_is_not_back_before_one_of_its_agents_is(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, *range(HOST_AGENTS))
    await clock.advance(1000)
    assert events(log) == ["host_down"]
    # An agent that was never missed proves it as well.
    outages.recovered("new", HOST)
    assert events(log) == ["host_down"], "too many are still down"
    recover(outages, 0)
    assert events(log) == ["host_down", "host_back"]


async def test_agents_that_are_paused_or_removed_are_not_missed_nor_called_back(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, *range(HOST_AGENTS))
    for number in range(HOST_AGENTS):
        outages.forget(f"a{number}")
    await clock.advance(2 * STRAGGLER_SECONDS)
    assert outages.notices() == ()
    assert events(log) == ["host_down"]
    log.clear()
    fail(outages, *range(HOST_AGENTS))
    assert events(log) == ["host_down"], "the next outage is told anew"


async def test_an_agent_that_is_removed_while_its_line_is_held_says_nothing(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, 1)
    outages.forget("a1")
    await clock.advance(60)
    assert log == []


async def test_what_is_left_of_a_host_whose_agents_were_removed_is_told_singly(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, *range(HOST_AGENTS))
    for number in range(1, HOST_AGENTS):
        outages.forget(f"a{number}")
    assert outages.notices() == ()
    await clock.advance(REPORT_DELAY_SECONDS)
    assert events(log) == ["host_down", "agent_offline"]
    assert log[-1]["agent"] == "a0"


async def test_the_trouble_of_one_host_is_not_that_of_another(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, *range(HOST_AGENTS))
    outages.recovered("b0", "other.example")
    outages.failed("b0", "other.example", "reset")
    await clock.advance(REPORT_DELAY_SECONDS)
    [notice] = outages.notices()
    assert notice.startswith(f"{HOST} is down for {HOST_AGENTS} agents since ")
    assert (log[-1]["event"], log[-1]["agent"]) == ("agent_offline", "b0")


async def test_an_agent_that_moves_to_another_host_leaves_the_first(
    outages: Outages, log: list[Any], clock: ManualClock
) -> None:
    fail(outages, *range(HOST_AGENTS))
    recover(outages, *range(HOST_AGENTS), host="other.example")
    await clock.advance(2 * STRAGGLER_SECONDS)
    assert outages.notices() == ()
    assert "host_back" not in events(log), "that they are online elsewhere says nothing about the first"
    fail(outages, 0)
    fail(outages, 0, host="other.example")
    recover(outages, 0, host="other.example")
    fail(outages, *range(1, HOST_AGENTS))
    assert outages.notices() == (), "it still counts where it no longer is"


async def test_a_success_without_an_outage_says_nothing(outages: Outages, log: list[Any]) -> None:
    outages.recovered("a", HOST)
    outages.forget("a")
    assert log == []


async def test_closing_tells_nothing_more(outages: Outages, log: list[Any], clock: ManualClock) -> None:
    await outages.close()
    fail(outages, 1)
    await outages.close()
    await outages.close()
    await clock.advance(60)
    assert log == []


async def test_agents_are_called_back_when_their_host_takes_sends(outages: Outages, clock: ManualClock) -> None:
    """R36; an agent that stays away all the same does so for reasons of its own, and keeps to its backoff."""
    called: list[str] = []
    outages.on_call = called.append
    outages.takes_sends(HOST)
    fail(outages, 1, 2)
    fail(outages, 3, host="elsewhere.example")
    await clock.advance(FOLLOW_SECONDS)
    outages.takes_sends(HOST)
    outages.takes_sends(HOST)
    assert called == ["a1", "a2"]
    recover(outages, 1)
    for _ in range(2 * CALLS):
        fail(outages, 2)
        await clock.advance(FOLLOW_SECONDS)
        outages.takes_sends(HOST)
    assert called == ["a1", *["a2"] * CALLS]
    recover(outages, 2)
    fail(outages, 2)
    outages.takes_sends(HOST)
    assert called == ["a1", *["a2"] * (CALLS + 1)]


async def test_what_others_find_down_need_not_be_found_out_again(outages: Outages, clock: ManualClock) -> None:
    fail(outages, 1)
    assert not outages.must_wait("a1")
    outages.hear({2: frozenset({HOST}), 3: frozenset()})
    assert outages.must_wait("a1"), "one alone"
    assert outages.down == frozenset(), "it is not this one's finding"
    recover(outages, 2, 3)
    assert not outages.must_wait("a1"), "most are online here"
    outages.forget("a2")
    outages.forget("a3")
    outages.hear({2: frozenset(), 3: frozenset()})
    assert not outages.must_wait("a1")
    await clock.advance(REPORT_DELAY_SECONDS)


async def test_where_another_one_is_in_again_the_agents_follow(outages: Outages, clock: ManualClock) -> None:
    back: list[str] = []
    outages.on_back = back.append
    fail(outages, *range(HOST_AGENTS))
    outages.hear({2: frozenset({HOST}), 3: frozenset({HOST})})
    assert outages.down == {HOST}
    outages.hear({2: frozenset({HOST})})
    assert back == [], "that one is gone, and says nothing of the host"
    outages.hear({2: frozenset()})
    assert back == [HOST]
    assert outages.down == frozenset(), "the others need not be told otherwise at once"
    await clock.advance(FOLLOW_SECONDS)
    assert outages.down == {HOST}, "nobody here is in"
