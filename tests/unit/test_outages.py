"""One line when something goes down and one when it is back, however many agents notice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from supervisor.outages import HOST_AGENTS, Outages
from tests.conftest import ManualClock

HOST = "platform.example"


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def outages(clock: ManualClock, log: list[Any]) -> Outages:
    return Outages(clock)


def events(log: list[Any]) -> list[str]:
    return [entry["event"] for entry in log]


def test_few_agents_are_each_their_own_outage(outages: Outages, log: list[Any]) -> None:
    for number in range(HOST_AGENTS - 1):
        for _ in range(3):
            outages.failed(f"a{number}", HOST, "timeout")
    assert events(log) == ["agent_offline"] * (HOST_AGENTS - 1)
    assert outages.notices() == ()
    outages.recovered("a0", HOST)
    outages.recovered("a0", HOST)
    assert events(log)[HOST_AGENTS - 1 :] == ["agent_back"]


def test_many_agents_make_it_the_hosts_told_once(outages: Outages, log: list[Any]) -> None:
    for _ in range(3):
        for number in range(100):
            outages.failed(f"a{number}", HOST, "timeout")
    assert events(log) == [*["agent_offline"] * (HOST_AGENTS - 1), "host_down"]
    assert log[-1]["host"] == HOST
    assert outages.notices() == (f"{HOST} is down for 100 agents: timeout",)


async def test_the_host_is_back_when_all_its_agents_are(outages: Outages, log: list[Any], clock: ManualClock) -> None:
    for number in range(HOST_AGENTS):
        outages.failed(f"a{number}", HOST, "timeout")
    await clock.advance(30)
    for number in range(HOST_AGENTS - 1):
        outages.recovered(f"a{number}", HOST)
    assert "host_back" not in events(log)
    outages.recovered(f"a{HOST_AGENTS - 1}", HOST)
    assert (log[-1]["event"], log[-1]["seconds"]) == ("host_back", 30)
    assert outages.notices() == ()


def test_agents_that_are_paused_or_removed_are_not_missed_nor_called_back(outages: Outages, log: list[Any]) -> None:
    for number in range(HOST_AGENTS):
        outages.failed(f"a{number}", HOST, "timeout")
    for number in range(HOST_AGENTS):
        outages.forget(f"a{number}", HOST)
    assert outages.notices() == ()
    assert not {"host_back", "agent_back"} & set(events(log))
    log.clear()
    for number in range(HOST_AGENTS):
        outages.failed(f"b{number}", HOST, "timeout")
    assert events(log) == [*["agent_offline"] * (HOST_AGENTS - 1), "host_down"], "the next outage is told anew"


def test_the_trouble_of_one_host_is_not_that_of_another(outages: Outages, log: list[Any]) -> None:
    for number in range(HOST_AGENTS):
        outages.failed(f"a{number}", HOST, "timeout")
        outages.recovered(f"b{number}", "other.example")
    outages.failed("b0", "other.example", "reset")
    assert outages.notices() == (f"{HOST} is down for {HOST_AGENTS} agents: timeout",)
    assert log[-1]["event"] == "agent_offline"


def test_an_agent_that_moves_to_another_host_leaves_the_first(outages: Outages, log: list[Any]) -> None:
    for number in range(HOST_AGENTS):
        outages.failed(f"a{number}", HOST, "timeout")
    for number in range(HOST_AGENTS):
        outages.recovered(f"a{number}", "other.example")
    assert outages.notices() == ()
    outages.failed("a0", HOST, "timeout")
    outages.failed("a0", "other.example", "timeout")
    outages.recovered("a0", "other.example")
    for number in range(1, HOST_AGENTS):
        outages.failed(f"a{number}", HOST, "timeout")
    assert outages.notices() == (), "it still counts where it no longer is"


def test_a_success_without_an_outage_says_nothing(outages: Outages, log: list[Any]) -> None:
    outages.recovered("a", HOST)
    outages.forget("a", HOST)
    assert log == []
