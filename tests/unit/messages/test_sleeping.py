"""An agent's sleep: it ends by its time or when somebody says so, and is remembered."""

from __future__ import annotations

import pytest

from supervisor.core.records import AgentLife, Sleep
from supervisor.messages.scope import Scope
from supervisor.messages.sleeping import Sleeping
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT
from tests.support.messaging import ended


async def life(scope: Scope) -> AgentLife:
    return await scope.journal.lives.of(AGENT)


async def remembered(scope: Scope) -> Sleep | None:
    return (await life(scope)).sleep


async def test_a_sleep_is_remembered_and_taken_up_again(scope: Scope) -> None:
    sleeping = Sleeping(scope)
    sleeping.restore(await life(scope))
    assert (sleeping.current, sleeping.shown) == (None, "")
    sleeping.begin("night", None)
    assert sleeping.shown == "asleep until it is woken: night"
    await ended(f"sleep {AGENT}")
    assert await remembered(scope) == sleeping.current
    again = Sleeping(scope)
    again.restore(await life(scope))
    assert again.shown == "asleep until it is woken: night"
    assert again.end("told to")
    assert not again.end("told to")
    await again.close()
    assert await remembered(scope) is None


async def test_a_sleep_ends_by_its_time_also_while_nobody_looks(scope: Scope) -> None:
    sleeping = Sleeping(scope)
    now = scope.clock.now()
    sleeping.begin("", now + 3600)
    assert sleeping.shown.startswith("asleep until 2")
    # What was decided last counts, however soon it came after.
    sleeping.end("told to")
    sleeping.begin("short", now - 1)
    assert sleeping.shown == ""
    await ended(f"sleep {AGENT}")
    assert await remembered(scope) is None


@pytest.mark.parametrize("away", [3600, -3600, 86_400, -86_400])
async def test_a_wall_clock_that_is_set_makes_it_no_longer_and_no_shorter(
    scope: Scope, clock: ManualClock, away: float
) -> None:
    sleeping = Sleeping(scope)
    sleeping.begin("nap", clock.now() + 600)
    clock.set_back(away)
    await clock.advance(590)
    assert sleeping.shown
    await clock.advance(10)
    assert not sleeping.shown
    await sleeping.close()


async def test_one_that_is_taken_up_by_a_clock_that_was_set_back_lasts_no_longer_than_it_was_to(
    scope: Scope, clock: ManualClock
) -> None:
    sleeping = Sleeping(scope)
    sleeping.begin("nap", clock.now() + 600)
    await sleeping.close()
    clock.set_back(30 * 86_400)
    again = Sleeping(scope)
    again.restore(await life(scope))
    assert again.shown
    await clock.advance(600)
    assert not again.shown
    await again.close()


async def test_what_is_not_remembered_yet_is_written_at_the_end(scope: Scope) -> None:
    sleeping = Sleeping(scope)
    sleeping.begin("night", None)
    await sleeping.close()
    assert (await remembered(scope) or Sleep(0.0)).reason == "night"
