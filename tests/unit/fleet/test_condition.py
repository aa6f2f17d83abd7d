"""An agent's state: one setter, which checks, logs and tells."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.states import AgentState, IllegalTransitionError
from supervisor.fleet.condition import Condition
from supervisor.telemetry.logs import get_logger
from tests.support.clock import ManualClock
from tests.support.observing import captured_logs

S = AgentState
TO_ONLINE = (S.AUTHENTICATING, S.CONNECTING, S.REGISTERING, S.ONLINE)


class Watched:
    """A condition, and the changes that it told."""

    def __init__(self, clock: ManualClock) -> None:
        self.told: list[tuple[AgentState, AgentState]] = []
        self.condition = Condition(clock, get_logger("test"), lambda old, new: self.told.append((old, new)))

    def go(self, *states: AgentState, reason: str = "") -> None:
        for state in states:
            self.condition.become(state, reason)


@pytest.fixture
def watched(clock: ManualClock) -> Watched:
    return Watched(clock)


def events(log: list[Any]) -> list[str]:
    """What an operator sees: the lines above the level of debugging."""
    return [line["event"] for line in log if line["log_level"] != "debug"]


async def test_a_change_has_its_time_and_its_reason_and_is_told(watched: Watched, clock: ManualClock) -> None:
    await clock.advance(5)
    watched.go(S.AUTHENTICATING)
    await clock.advance(5)
    watched.go(S.BACKOFF, reason="connection refused")
    condition = watched.condition
    assert (condition.state, condition.reason, condition.since) == (S.BACKOFF, "connection refused", clock.now())
    assert watched.told == [(S.STOPPED, S.AUTHENTICATING), (S.AUTHENTICATING, S.BACKOFF)]


def test_what_the_table_does_not_let_follow_changes_nothing(watched: Watched) -> None:
    with pytest.raises(IllegalTransitionError):
        watched.go(S.ONLINE)
    assert (watched.condition.state, watched.told) == (S.STOPPED, [])


async def test_another_reason_for_the_same_state_is_no_change(watched: Watched, clock: ManualClock) -> None:
    watched.go(*TO_ONLINE)
    since, told = watched.condition.since, len(watched.told)
    await clock.advance(5)
    watched.go(S.ONLINE, reason="cannot renew")
    assert (watched.condition.reason, watched.condition.since, len(watched.told)) == ("cannot renew", since, told)


def test_coming_online_is_said_the_first_time_and_after_a_refusal_or_pause(watched: Watched) -> None:
    with captured_logs() as log:
        watched.go(*TO_ONLINE)
        watched.go(S.BACKOFF, *TO_ONLINE)
    assert events(log) == ["agent_online"], "an outage has lines of its own"
    with captured_logs() as log:
        watched.go(S.REJECTED, reason="401")
        watched.go(*TO_ONLINE, S.DRAINING, S.PAUSED, *TO_ONLINE)
    assert events(log) == ["agent_rejected", "agent_online", "agent_paused", "agent_online"]


def test_a_refusal_is_said_once_for_each_reason(watched: Watched) -> None:
    with captured_logs() as log:
        for reason in ("no such file", "no such file", "no such handler"):
            watched.go(S.FAULTED, reason=reason)
            watched.go(S.AUTHENTICATING)
        watched.go(S.FAULTED, reason="no such handler")
        watched.go(S.FAULTED, reason="no secret")
    assert [line["reason"] for line in log if line["event"] == "agent_faulted"] == [
        "no such file",
        "no such handler",
        "no secret",
    ]
