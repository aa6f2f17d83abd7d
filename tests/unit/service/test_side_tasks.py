"""A side task that dies is counted, logged and begun again; one that keeps dying ends the service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from supervisor.core.errors import RegistryError
from supervisor.service.side_tasks import DEATHS, DEATHS_SECONDS, SideTasks
from supervisor.telemetry.metrics import Metrics
from tests.support.clock import ManualClock
from tests.support.watchdogs import struck


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


class Work:
    """A side task that dies when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = False
        self._end: asyncio.Future[None] | None = None

    async def run(self) -> None:
        self.begun += 1
        self._end = asyncio.get_running_loop().create_future()
        try:
            await self._end
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def die(self, error: BaseException | None = None) -> None:
        """Die, or with no error return, which a side task must not either."""
        assert self._end is not None
        if error is None:
            self._end.set_result(None)
        else:
            self._end.set_exception(error)
        await ManualClock.settle()


async def test_a_side_task_that_died_is_told_and_begun_again(
    clock: ManualClock, log: list[Any], metrics: Metrics
) -> None:
    tasks, work, other = SideTasks(metrics, clock), Work(), Work()
    tasks.start("counts", work.run)
    tasks.start("other", other.run)
    await clock.settle()
    error = OSError("no more memory for s3cret")
    await work.die(error)
    [line] = log
    assert (line["event"], line["task"], line["exc_info"]) == ("side_task_died", "counts", error)
    assert tasks.problems() == ("the side task 'counts' died: OSError; see the log",)
    assert struck(metrics, "side_task_died") == 1
    await clock.advance(0.9)
    assert work.begun == 1
    await clock.advance(0.1)
    assert (work.begun, other.begun, tasks.problems()) == (2, 1, ())
    await work.die()
    assert "it returned" in tasks.problems()[0]
    await clock.advance(1.9)
    assert work.begun == 2, "twice as long as the first time"
    await clock.advance(0.1)
    assert work.begun == 3
    assert not tasks.failed.done()
    await tasks.stop()
    assert work.cancelled
    assert other.cancelled
    assert tasks.problems() == ()


async def test_one_that_dies_too_often_too_soon_ends_the_service(
    clock: ManualClock, log: list[Any], metrics: Metrics
) -> None:
    tasks, work = SideTasks(metrics, clock), Work()
    tasks.start("registry watch", work.run, essential=True)
    await clock.settle()
    for death in range(DEATHS):
        assert not tasks.failed.done()
        assert tasks.dead() == ()
        assert work.begun == death + 1
        await work.die(OSError("again"))
        await clock.advance(30)
    assert tasks.failed.result() == "the side task 'registry watch' died: OSError; see the log"
    assert work.begun == DEATHS
    assert tasks.problems() == tasks.dead() == (tasks.failed.result(),)
    await tasks.stop()


async def test_one_that_dies_now_and_then_never_ends_it(clock: ManualClock, log: list[Any], metrics: Metrics) -> None:
    tasks, work = SideTasks(metrics, clock), Work()
    tasks.start("counts", work.run)
    await clock.settle()
    for _ in range(DEATHS * 3):
        await work.die(RegistryError("once more"))
        await clock.advance(DEATHS_SECONDS / (DEATHS - 1) + 1)
    assert not tasks.failed.done()
    assert struck(metrics, "side_task_died") == DEATHS * 3
    await tasks.stop()


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), BaseExceptionGroup("g", [SystemExit(1)])])
async def test_whatever_it_dies_of_it_is_begun_again(
    clock: ManualClock, log: list[Any], metrics: Metrics, error: BaseException
) -> None:
    tasks, work = SideTasks(metrics, clock), Work()
    tasks.start("counts", work.run)
    await clock.settle()
    await work.die(error)
    assert type(error).__name__ in tasks.problems()[0]
    assert tasks.dead() == ()
    await clock.advance(1)
    assert work.begun == 2
    await tasks.stop()
    assert work.cancelled
