"""What follows each failure, and how long an agent waits first."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from supervisor.core.errors import ConnectError, PlatformError, Refusal, TokenError, Verdict
from supervisor.core.states import AgentState
from supervisor.fleet.recovery import (
    FAULT_RECHECK_SECONDS,
    KICK_REFRESH_CAP_SECONDS,
    SUSPENDED_SECONDS,
    Bounds,
    Recovery,
    Step,
)
from tests.support.clock import ManualClock

BOUNDS = Bounds(backoff_initial=1, backoff_cap=60, reject_initial=300, reject_cap=3600, stable=60)
LOST = PlatformError("lost")
REFUSED = TokenError("401", Verdict.REJECT)
KICKED = ConnectError("kicked", Verdict.REAUTHENTICATE, kicked=True)
NEW_TOKEN = Step(None)


def longest(low: float, high: float) -> float:
    return high


@pytest.fixture
def recovery(clock: ManualClock) -> Recovery:
    return Recovery(BOUNDS, clock, uniform=longest)


def test_the_platforms_trouble_is_waited_out_longer_each_time_up_to_the_cap(recovery: Recovery) -> None:
    steps = [recovery.after(LOST) for _ in range(8)]
    assert {step.state for step in steps} == {AgentState.BACKOFF}
    assert [step.seconds for step in steps] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_backoff_has_full_jitter(clock: ManualClock) -> None:
    recovery = Recovery(BOUNDS, clock, uniform=lambda low, _: low)
    assert [recovery.after(LOST).seconds for _ in range(5)] == [0] * 5


@pytest.mark.parametrize(("online_seconds", "next_seconds"), [(59.0, 2), (60.0, 1)])
async def test_the_backoff_starts_over_only_after_a_time_online_that_deserves_the_name(
    recovery: Recovery, clock: ManualClock, online_seconds: float, next_seconds: float
) -> None:
    recovery.after(LOST)
    recovery.online()
    await clock.advance(online_seconds)
    recovery.offline()
    assert recovery.after(LOST).seconds == next_seconds


async def test_being_offline_does_not_count_as_time_online(recovery: Recovery, clock: ManualClock) -> None:
    recovery.after(LOST)
    recovery.online()
    recovery.offline()
    await clock.advance(3600)
    recovery.offline()
    assert recovery.after(LOST).seconds == 2


def test_what_the_platform_asks_for_is_the_least_that_is_waited(recovery: Recovery) -> None:
    busy = TokenError("429", retry_after_seconds=17)
    assert recovery.after(busy).seconds == 17
    for _ in range(5):
        recovery.after(LOST)
    assert recovery.after(busy).seconds == 60


def test_a_refusal_is_retried_slowly(recovery: Recovery) -> None:
    steps = [recovery.after(REFUSED) for _ in range(6)]
    assert {step.state for step in steps} == {AgentState.REJECTED}
    assert [step.seconds for step in steps] == [300, 600, 1200, 2400, 3600, 3600]


def test_refusals_are_spread_but_never_hasty(clock: ManualClock) -> None:
    recovery = Recovery(BOUNDS, clock, uniform=lambda low, _: low)
    assert recovery.after(REFUSED).seconds == pytest.approx(240)


def test_whoever_mends_something_is_not_made_to_wait_for_old_failures(recovery: Recovery) -> None:
    for _ in range(6):
        recovery.after(LOST)
        recovery.after(REFUSED)
    recovery.reset()
    assert recovery.after(LOST).seconds == 1
    assert recovery.after(REFUSED).seconds == 300


def test_being_online_ends_a_refusal(recovery: Recovery) -> None:
    for _ in range(3):
        recovery.after(REFUSED)
    recovery.online()
    assert recovery.after(REFUSED).seconds == 300


def test_a_fault_waits_for_the_row_to_be_mended(recovery: Recovery) -> None:
    fault = TokenError("no secret", Verdict.FAULT)
    assert [recovery.after(fault) for _ in range(3)] == [Step(AgentState.FAULTED, FAULT_RECHECK_SECONDS)] * 3


def test_a_kick_is_worth_one_new_token_then_it_is_the_platforms_trouble(recovery: Recovery) -> None:
    """Kicked again with a token minted seconds ago means backoff, not rejected."""
    assert recovery.after(KICKED) == NEW_TOKEN
    assert recovery.after(KICKED) == Step(AgentState.BACKOFF, 1)
    assert recovery.after(KICKED) == Step(AgentState.BACKOFF, 2)


async def test_while_kicks_go_on_new_tokens_are_asked_for_ever_more_seldom(
    recovery: Recovery, clock: ManualClock
) -> None:
    refreshed = []
    for second in range(7200):
        if recovery.after(KICKED) == NEW_TOKEN:
            refreshed.append(second)
        await clock.advance(1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(refreshed)]
    assert gaps[:6] == [10, 20, 40, 80, 160, 320]
    assert set(gaps[6:]) == {KICK_REFRESH_CAP_SECONDS}


async def test_once_it_was_online_a_kick_is_worth_a_token_again(recovery: Recovery, clock: ManualClock) -> None:
    for _ in range(40):
        recovery.after(KICKED)
        await clock.advance(10)
    recovery.online()
    recovery.offline()
    await clock.advance(KICK_REFRESH_CAP_SECONDS)
    assert recovery.after(KICKED) == NEW_TOKEN
    await clock.advance(10)
    assert recovery.after(KICKED) == NEW_TOKEN, "the interval did not start over"


@pytest.mark.parametrize(
    ("age", "step"),
    [(0.0, Step(AgentState.BACKOFF, 1)), (9.9, Step(AgentState.BACKOFF, 1)), (10.0, NEW_TOKEN), (None, NEW_TOKEN)],
)
def test_a_kick_of_a_token_minted_moments_ago_is_the_platforms_trouble(
    recovery: Recovery, age: float | None, step: Step
) -> None:
    assert recovery.after(KICKED, token_age_seconds=age) == step


async def test_a_kick_of_a_young_token_does_not_put_off_the_refresh_that_it_is_worth_later(
    recovery: Recovery, clock: ManualClock
) -> None:
    assert recovery.after(KICKED, token_age_seconds=0.1).state is AgentState.BACKOFF
    await clock.advance(10)
    assert recovery.after(KICKED, token_age_seconds=10.1) == NEW_TOKEN
    # The new one is kicked at once: the platform is ill, and each further token is asked for ever more seldom.
    assert recovery.after(KICKED, token_age_seconds=0.1).state is AgentState.BACKOFF
    await clock.advance(10)
    assert recovery.after(KICKED, token_age_seconds=10.1) == NEW_TOKEN
    await clock.advance(15)
    assert recovery.after(KICKED, token_age_seconds=15.1).state is AgentState.BACKOFF
    await clock.advance(5)
    assert recovery.after(KICKED, token_age_seconds=20.1) == NEW_TOKEN


async def test_after_a_long_illness_a_revoked_token_is_replaced_soon(recovery: Recovery, clock: ManualClock) -> None:
    for _ in range(7200):
        recovery.after(KICKED)
        await clock.advance(1)
    while recovery.after(KICKED) != NEW_TOKEN:
        await clock.advance(1)
    # A refresh was due in ten minutes; the platform is well again, and then the token is revoked.
    recovery.online()
    recovery.offline()
    assert recovery.after(KICKED).state is AgentState.BACKOFF
    await clock.advance(10)
    assert recovery.after(KICKED) == NEW_TOKEN


async def test_being_online_does_not_put_off_a_refresh_that_is_due(recovery: Recovery, clock: ManualClock) -> None:
    recovery.online()
    recovery.offline()
    assert recovery.after(KICKED) == NEW_TOKEN
    await clock.advance(9)
    recovery.online()
    await clock.advance(1)
    assert recovery.after(KICKED) == NEW_TOKEN


def test_the_age_of_the_token_says_nothing_about_other_failures(recovery: Recovery) -> None:
    assert recovery.after(REFUSED, token_age_seconds=0.0).state is AgentState.REJECTED
    assert recovery.after(LOST, token_age_seconds=0.0).state is AgentState.BACKOFF


def test_a_suspended_agent_is_asked_for_again_within_a_minute_however_often(recovery: Recovery) -> None:
    """The platform checks no secret for that; other refusals keep their pace."""
    refused = TokenError("401 Agent is suspended", Verdict.REJECT, refusal=Refusal.SUSPENDED)
    for _ in range(50):
        step = recovery.after(refused)
        assert step.state is AgentState.REJECTED
        assert SUSPENDED_SECONDS[0] <= step.seconds <= SUSPENDED_SECONDS[1]
    first = recovery.after(TokenError("401 Invalid credentials", Verdict.REJECT))
    assert first.seconds == BOUNDS.reject_initial


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (None, "429"),
        (60.0, "429"),
        (61.0, "429; the platform asked to wait for 61 s: next attempt at {until}"),
        (
            3600.0,
            "429; the platform asked to wait for an hour or longer, and is asked again after an hour: "
            "next attempt at {until}",
        ),
    ],
)
def test_a_wait_beyond_the_cap_says_its_end(
    recovery: Recovery, clock: ManualClock, asked: float | None, told: str
) -> None:
    error = TokenError("429", retry_after_seconds=asked)
    step = recovery.after(error)
    until = datetime.fromtimestamp(clock.now() + step.seconds, UTC)
    assert recovery.explain(error, step.seconds) == told.format(until=f"{until:%Y-%m-%d %H:%M:%S} UTC")


def test_a_refusal_is_waited_out_by_our_own_time(recovery: Recovery) -> None:
    error = TokenError("401", Verdict.REJECT, retry_after_seconds=7200.0)
    assert recovery.explain(error, recovery.after(error).seconds) == "401"
