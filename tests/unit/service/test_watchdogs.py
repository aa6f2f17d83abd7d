"""A standing event loop and silent connections: each is counted and logged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from supervisor.service.watchdogs import SILENCE_LINE_SECONDS, SilenceWatch
from supervisor.telemetry.metrics import WATCHDOGS, Metrics
from tests.support.clock import ManualClock
from tests.support.watchdogs import struck


@pytest.fixture
def log() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_all_watchdogs_are_shown_before_one_of_them_strikes(metrics: Metrics) -> None:
    assert {name: struck(metrics, name) for name in WATCHDOGS} == dict.fromkeys(WATCHDOGS, 0.0)


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


async def test_silent_connections_are_all_counted_and_told_once_a_minute(
    clock: ManualClock, log: list[Any], metrics: Metrics
) -> None:
    watch = SilenceWatch(metrics, clock)
    for number in range(100):
        watch.count(f"a{number}")
    assert [(entry["event"], entry["agent"], entry["connections"]) for entry in log] == [("connection_silent", "a0", 1)]
    await clock.advance(SILENCE_LINE_SECONDS)
    watch.count("a7")
    assert (log[1]["agent"], log[1]["connections"]) == ("a7", 100)
    assert struck(metrics, "connection_silent") == 101
