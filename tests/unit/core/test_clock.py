"""A moment that is remembered by both clocks is told right, whatever becomes of the wall clock."""

from __future__ import annotations

import pytest

from supervisor.core.clock import Instant
from tests.support.clock import ManualClock

START = 1_800_000_000.0


@pytest.mark.parametrize("away", [3600.0, -3600.0, 86_400.0, -86_400.0])
async def test_an_instant_is_never_told_later_than_it_was(away: float) -> None:
    clock = ManualClock(START)
    instant = Instant.now(clock)
    await clock.advance(100)
    assert (instant.age(clock), instant.earliest(clock), instant.earliest_now(clock)) == (100, START, START + 100)
    clock.set_back(-away)
    assert instant.age(clock) == 100
    assert instant.earliest(clock) == START + min(0, away)
    assert instant.earliest_now(clock) == START + 100 + min(0, away)
