"""From when on something may have been missed: never too late, whatever becomes of the wall clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from supervisor.messages.gap import Gap
from supervisor.messages.missed import SLACK_SECONDS
from supervisor.messages.scope import Scope
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT

HOUR, DAY, MONTH = 3600.0, 86_400.0, 30 * 86_400.0
AWAY = [sign * seconds for seconds in (HOUR, DAY, MONTH) for sign in (1, -1)]


def gap_of(scope: Scope, *, created_at: float, ahead: float | None = None) -> Gap:
    created = datetime.fromtimestamp(created_at, UTC).isoformat()
    return Gap(scope, lambda: created, DAY, platform_now=lambda: None if ahead is None else scope.clock.now() + ahead)


@pytest.mark.parametrize("away", AWAY)
async def test_a_clock_that_is_set_while_it_runs_hides_nothing_that_was_said_since(
    scope: Scope, clock: ManualClock, away: float
) -> None:
    gap = gap_of(scope, created_at=clock.now() - HOUR)
    await clock.advance(300)
    covered = clock.now()
    gap.covered(covered)
    await clock.advance(60)
    clock.set_back(-away)
    await clock.advance(60)
    assert gap.floor <= covered
    # Somebody notices and puts it right.
    clock.set_back(away)
    assert covered - SLACK_SECONDS <= gap.floor <= covered
    gap.covered(clock.now())
    assert gap.covered_until == clock.now()


@pytest.mark.parametrize("away", AWAY)
async def test_a_clock_that_is_set_between_two_starts_hides_nothing_that_was_said_since(
    scope: Scope, clock: ManualClock, away: float
) -> None:
    await scope.journal.lives.record_registered({AGENT: clock.now()})
    created, covered = clock.now() - HOUR, clock.now()
    await clock.advance(60)
    clock.set_back(-away)
    # The platform's clock is right, and its tokens tell it.
    gap = gap_of(scope, created_at=created, ahead=-away)
    await gap.restore(await scope.journal.lives.of(AGENT))
    assert gap.floor <= covered


async def test_a_time_in_the_future_is_none_and_one_long_past_is_bounded(scope: Scope, clock: ManualClock) -> None:
    await scope.journal.lives.record_registered({AGENT: clock.now() + MONTH})
    await clock.advance(2 * DAY)
    gap = gap_of(scope, created_at=0.0)
    await gap.restore(await scope.journal.lives.of(AGENT))
    assert gap.covered_until == 0
    assert gap.floor == clock.now() - DAY
    await scope.journal.lives.record_registered({AGENT: clock.now() - MONTH})
    await gap.restore(await scope.journal.lives.of(AGENT))
    assert gap.floor == clock.now() - DAY


@pytest.mark.parametrize("away", AWAY)
async def test_what_is_noted_by_a_clock_that_is_wrong_hides_nothing_later(
    scope: Scope, clock: ManualClock, away: float
) -> None:
    clock.set_back(-away)
    gap = gap_of(scope, created_at=clock.now(), ahead=-away)
    await clock.advance(300)
    gap.covered(gap.now)
    covered = clock.now() - away
    assert gap.now <= covered
    await clock.advance(60)
    assert gap.floor <= covered


@pytest.mark.parametrize("away", [HOUR, DAY, MONTH])
async def test_where_the_first_start_was_by_a_clock_that_is_ahead_nothing_is_hidden(
    scope: Scope, clock: ManualClock, away: float
) -> None:
    # Put right meanwhile, or another machine's.
    clock.set_back(clock.now() - scope.journal.lives.since + away)
    created = clock.now()
    await clock.advance(60)
    # Sums of such large numbers are right to a microsecond.
    assert gap_of(scope, created_at=created).floor <= created + 1e-3
