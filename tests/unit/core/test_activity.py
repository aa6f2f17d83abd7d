"""An agent's last hour, minute by minute."""

from __future__ import annotations

import pytest

from supervisor.core.activity import Activity, Minute
from tests.support.clock import ManualClock


async def test_minutes_hold_what_was_done_in_them_and_go_after_an_hour() -> None:
    clock = ManualClock(start=1_800_000_000.0)
    activity = Activity(clock)
    assert activity.minutes() == []
    activity.received()
    activity.received()
    activity.answered(0.5)
    activity.answered(1.5)
    await clock.advance(60)
    activity.failed()
    activity.used(1000, 200)
    first, second = activity.minutes()
    assert first == Minute(1_800_000_000, 2, 2, 0, 1.0, 1.5, 0, 0)
    assert second == Minute(1_800_000_060, 0, 0, 1, 0.0, 0.0, 1000, 200)
    await clock.advance(58 * 60)
    assert [one.at for one in activity.minutes()] == [first.at, second.at]
    await clock.advance(60)
    assert activity.minutes() == [second]
    # The place of the first minute is that of this one.
    activity.received()
    assert activity.minutes() == [second, Minute(1_800_000_000 + 3600, 1, 0, 0, 0.0, 0.0, 0, 0)]


async def test_a_wall_clock_that_was_set_back_breaks_nothing() -> None:
    clock = ManualClock()
    activity = Activity(clock)
    activity.received()
    clock.set_back(7200)
    activity.received()
    assert sum(one.received for one in activity.minutes()) >= 1
    activity.answered(-3.0)
    assert activity.minutes()[-1].latency_seconds == pytest.approx(0.0) or activity.minutes()[0].answered == 1


async def test_what_was_answered_lately_is_that_of_five_minutes() -> None:
    clock = ManualClock(start=1_800_000_000.0)
    activity = Activity(clock)
    assert activity.answered_lately() == 0
    for _ in range(3):
        activity.answered(0.5)
        await clock.advance(120)
    assert activity.answered_lately() == 2, "of six minutes the first is past"
    await clock.advance(3600)
    activity.received()
    assert activity.answered_lately() == 0, "an hour later another minute has the first one's place"
