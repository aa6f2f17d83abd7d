"""What notices that something of ours stands still or has died: counted, told, and where possible begun again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from supervisor.core.errors import RegistryError
from supervisor.service.housekeeping import LAG_SECONDS, Maintenance
from supervisor.service.watchdogs import DEATHS, DEATHS_SECONDS, SILENCE_LINE_SECONDS, SideTasks, SilenceWatch
from supervisor.telemetry.metrics import WATCHDOGS, Metrics
from tests.conftest import ManualClock


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def count(metrics: Metrics, watchdog: str) -> float:
    line = f'supervisor_watchdog_total{{watchdog="{watchdog}"}} '
    return float(metrics.render("")[0].decode().partition(line)[2].partition("\n")[0])


def test_all_watchdogs_are_shown_before_one_of_them_strikes(metrics: Metrics) -> None:
    assert {name: count(metrics, name) for name in WATCHDOGS} == dict.fromkeys(WATCHDOGS, 0.0)


# ── the event loop ───────────────────────────────────────────────────────────────────────────────────────────────────

BLOCKS = """
import asyncio, sys
from supervisor.telemetry.logs import configure
from supervisor.telemetry.metrics import Metrics
from supervisor.service.watchdogs import LoopWatch

def stand_still(token):
    sys.stdin.readline()

async def main():
    metrics = Metrics()
    watch = asyncio.create_task(LoopWatch(metrics, stall_seconds=0.5, beat_seconds=0.05).run())
    for _ in range(2):
        await asyncio.sleep(0.2)
        stand_still(token="eyJhbGciOiJub25l.c2VjcmV0LXRva2Vu.c2lnbmF0dXJl")
        await asyncio.sleep(0.2)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    print(metrics.render("")[0].decode())

configure(fmt="json")
asyncio.run(main())
"""


def test_a_loop_that_stands_is_told_with_its_stack_while_it_stands_and_once_more_when_it_goes_on(
    tmp_path: Path,
) -> None:
    """It stands until we have read where: nothing but the line itself lets it go on."""
    script = tmp_path / "blocks.py"
    script.write_text(BLOCKS)
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, str(script)], text=True, **pipes) as child:
        assert child.stdin
        assert child.stdout
        assert child.stderr
        for _ in range(2):
            stalled = json.loads(child.stderr.readline())
            child.stdin.write("\n")
            child.stdin.flush()
            goes_on = json.loads(child.stderr.readline())
            assert (stalled["event"], stalled["level"]) == ("loop_stalled", "error")
            assert "in stand_still" in stalled["stack"].splitlines()[-2]
            assert "sys.stdin.readline()" in stalled["stack"].splitlines()[-1]
            assert "eyJ" not in stalled["stack"]
            assert "[redacted]" in stalled["stack"]
            assert {"MainThread", "loop watch"} <= set(stalled["threads"])
            assert goes_on["event"] == "event_loop_goes_on"
            assert goes_on["seconds"] >= stalled["seconds"] >= 0.5
        figures = child.stdout.read()
        assert child.stderr.read() == "", "told more than once"
    assert 'supervisor_watchdog_total{watchdog="loop_stalled"} 2.0' in figures


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
    upkeep = Maintenance(_Unused(), _Unused(), metrics, clock, retention_seconds=1.0, on_lag=told.append)  # type: ignore[arg-type]
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


class _Unused:
    """Neither journal nor fleet is asked."""


# ── side tasks ───────────────────────────────────────────────────────────────────────────────────────────────────────


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

    async def die(self, error: Exception | None = None) -> None:
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
    assert count(metrics, "side_task_died") == 1
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
        assert work.begun == death + 1
        await work.die(OSError("again"))
        await clock.advance(30)
    assert tasks.failed.done()
    assert work.begun == DEATHS
    assert tasks.problems() != ()
    await tasks.stop()


async def test_one_that_dies_now_and_then_never_ends_it(clock: ManualClock, log: list[Any], metrics: Metrics) -> None:
    tasks, work = SideTasks(metrics, clock), Work()
    tasks.start("counts", work.run)
    await clock.settle()
    for _ in range(DEATHS * 3):
        await work.die(RegistryError("once more"))
        await clock.advance(DEATHS_SECONDS / (DEATHS - 1) + 1)
    assert not tasks.failed.done()
    assert count(metrics, "side_task_died") == DEATHS * 3
    await tasks.stop()


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_silent_connections_are_all_counted_and_told_once_a_minute(
    clock: ManualClock, log: list[Any], metrics: Metrics
) -> None:
    watch = SilenceWatch(metrics, clock)
    for number in range(100):
        watch.note(f"a{number}")
    assert [(entry["event"], entry["agent"], entry["connections"]) for entry in log] == [("connection_silent", "a0", 1)]
    await clock.advance(SILENCE_LINE_SECONDS)
    watch.note("a7")
    assert (log[1]["agent"], log[1]["connections"]) == ("a7", 100)
    assert count(metrics, "connection_silent") == 101
