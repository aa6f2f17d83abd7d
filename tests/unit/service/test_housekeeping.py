"""What is done now and then: the event loop is watched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from supervisor.core.days import days_before
from supervisor.core.records import UsageRecord
from supervisor.service.housekeeping import LAG_SECONDS, PRUNE_SECONDS, Housekeeping
from supervisor.telemetry.metrics import Metrics
from tests.support.clock import ManualClock
from tests.support.stores import MemoryStore, open_on


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


class LateClock(ManualClock):
    """Wakes its sleepers late, as a loop does that is held up."""

    late_seconds = 0.0

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds + self.late_seconds)


async def test_a_loop_that_lags_is_told_once_a_minute_and_whoever_wants_to_know_at_each_look(
    log: list[Any], metrics: Metrics
) -> None:
    clock = LateClock()
    told: list[float] = []
    registry = await open_on(MemoryStore())
    upkeep = Housekeeping(registry, _Unused(), metrics, clock, retention_seconds=1.0, on_lag=told.append)  # type: ignore[arg-type]
    watch = asyncio.create_task(upkeep.watch_loop())
    await clock.advance(LAG_SECONDS * 3)
    assert told == [0.0, 0.0, 0.0]
    clock.late_seconds = 0.5
    await clock.advance(59)
    assert set(told[4:]) == {0.5}
    assert [entry["event"] for entry in log] == ["event_loop_lag"]
    await clock.advance(10)
    assert [entry["event"] for entry in log] == ["event_loop_lag"] * 2
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


async def test_usage_of_400_days_is_kept_and_written_every_second() -> None:
    registry, clock = await open_on(MemoryStore()), ManualClock()
    upkeep = Housekeeping(registry, _Unused(), Metrics(), clock, retention_seconds=60.0)  # type: ignore[arg-type]
    kept, gone = days_before(clock.now(), 400), days_before(clock.now(), 401)

    async def days() -> list[str]:
        return [used.day for used in await registry.usage()]

    for day in (kept, gone):
        registry.journal.usage.add(UsageRecord("agent", "m", day, 1, 10))
    await registry.journal.flush()
    tasks = [asyncio.create_task(work()) for work in (upkeep.prune, upkeep.write_usage)]
    await clock.settle()
    assert await days() == [kept]
    registry.journal.usage.add(UsageRecord("agent", "m", "2027-01-15", 1, 10))
    await clock.advance(1.0)
    assert await days() == [kept, "2027-01-15"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await registry.close()


async def test_a_clock_that_is_set_forward_makes_nothing_old() -> None:
    registry, clock = await open_on(MemoryStore()), ManualClock()
    upkeep = Housekeeping(registry, _Unused(), Metrics(), clock, retention_seconds=60.0)  # type: ignore[arg-type]
    kept = days_before(clock.now(), 399)
    registry.journal.usage.add(UsageRecord("agent", "m", kept, 1, 10))
    await registry.journal.flush()
    pruning = asyncio.create_task(upkeep.prune())
    await clock.settle()
    clock.set_back(-30 * 86_400)
    await clock.advance(PRUNE_SECONDS)
    assert [used.day for used in await registry.usage()] == [kept]
    pruning.cancel()
    await asyncio.gather(pruning, return_exceptions=True)
    await registry.close()


class _Unused:
    """Neither journal nor fleet is asked."""
