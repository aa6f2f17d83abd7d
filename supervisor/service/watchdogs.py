"""What notices that something has stopped working: the event loop, a connection.

Each watchdog counts in ``supervisor_watchdog_total`` and has a line in the log under the same name.
:mod:`supervisor.service.side_tasks` watches over the service's own loops.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
import traceback
from collections.abc import Collection
from dataclasses import dataclass

from supervisor.core.clock import Clock
from supervisor.handlers import PACKAGE
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics import Metrics

#: The stacks are dumped when the event loop has not had a turn for so long.
STALL_SECONDS = 10.0
#: How often the loop leaves its beat, and how often the thread looks at it.
BEAT_SECONDS = 0.1
#: When the loop has not had a turn for so long, a handler whose code stands on its stack is named.
BLOCK_SECONDS = 0.25
#: At most one warning in this time for each handler that blocks.
BLOCK_LINE_SECONDS = 60.0
#: The innermost frames of a stack; what matters is where it stands, and a line has an end.
STACK_FRAMES = 40

#: At most one line in this time says that connections fell silent: a host that hangs takes all of its agents along.
SILENCE_LINE_SECONDS = 60.0


class LoopWatch:
    """Tells where the event loop stands while it stands: a thread looks at a beat that the loop leaves.

    Both use the machine's time: a thread cannot wait on a clock of the loop's.

    Args:
        stall_seconds: a beat of this age is a stall.
        beat_seconds: how often the loop beats and the thread looks.
        packages: installed packages that hold handlers, beside the agents folder.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        stall_seconds: float = STALL_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
        packages: Collection[str] = (),
    ) -> None:
        self._metrics = metrics
        self._packages = frozenset(packages)
        self._blocked: tuple[float, _Place] | None = None  # the beat that is late, and by whom; the thread's
        self._reported_at: dict[str, float] = {}  # when each handler was named last; the loop's
        self._stall = stall_seconds
        self._interval = beat_seconds
        self._beat = 0.0  # written by the loop, read by the thread
        self._reported_beat = -1.0  # the beat whose stall was reported; the thread's own
        self._log = get_logger("supervisor.watchdogs")

    async def run(self) -> None:
        """Watch the running loop until cancelled."""
        over = threading.Event()
        self._beat = time.monotonic()
        # A daemon: a process that ends does not wait for it.
        threading.Thread(
            target=self._watch_beats, args=(threading.get_ident(), over), name="loop watch", daemon=True
        ).start()
        try:
            while True:
                await asyncio.sleep(self._interval)
                now = time.monotonic()
                beat, self._beat = self._beat, now
                stood = now - beat
                if self._blocked is not None and self._blocked[0] == beat:
                    self._report_blocking(self._blocked[1], stood - self._interval, now)
                if stood >= self._stall:
                    self._log.warning("event_loop_goes_on", seconds=round(stood, 3))
        finally:
            over.set()

    def _report_blocking(self, place: _Place, seconds: float, now: float) -> None:
        """Count a handler that blocks, and log its place now and then."""
        self._metrics.watchdog("handler_blocks")
        if now - self._reported_at.get(place.handler, -math.inf) < BLOCK_LINE_SECONDS:
            return
        self._reported_at[place.handler] = now
        self._log.warning(
            "handler_blocks",
            handler=place.handler,
            seconds=round(seconds, 3),
            file=place.file,
            line=place.line,
            remedy="all agents wait meanwhile: await something that does not block, or make it a plain def",
        )

    def _watch_beats(self, loop_thread: int, over: threading.Event) -> None:
        late: float | None = None
        while not over.wait(self._interval):
            beat, now = self._beat, time.monotonic()
            if now - beat >= BLOCK_SECONDS + self._interval and beat != late:
                late = beat
                place = _handler_on(loop_thread, self._packages)
                self._blocked = None if place is None else (beat, place)
            if now - beat >= self._stall and beat != self._reported_beat:
                self._reported_beat = beat
                self._metrics.watchdog("loop_stalled")
                self._log.error(
                    "loop_stalled",
                    seconds=round(now - beat, 3),
                    threads=sorted(thread.name for thread in threading.enumerate()),
                    stack=_stack_of(loop_thread),
                )


@dataclass(frozen=True, slots=True)
class _Place:
    """A line of a handler's code."""

    handler: str
    file: str
    line: int


def _handler_on(thread: int, packages: Collection[str]) -> _Place | None:
    """The handler whose code a thread is in, at its innermost line of its own; None where it is in no handler."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        top, _, rest = module.partition(".")
        if top in packages or (top == PACKAGE and rest):
            name = rest.partition(".")[0] if top == PACKAGE else module
            return _Place(name, frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def _stack_of(thread: int) -> str:
    """Where a thread is, the innermost call last; source lines only, no values."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "the thread has ended"
    return "".join(traceback.format_stack(frame, limit=STACK_FRAMES))


class SilenceWatch:
    """Counts connections on which nothing came for pingInterval + pingTimeout."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._logged_at = -SILENCE_LINE_SECONDS
        self._unlogged = 0
        self._log = get_logger("supervisor.watchdogs")

    def count(self, agent_id: str) -> None:
        """An agent's connection was given up because nothing came on it."""
        self._metrics.watchdog("connection_silent")
        self._unlogged += 1
        now = self._clock.monotonic()
        if now - self._logged_at >= SILENCE_LINE_SECONDS:
            self._log.warning("connection_silent", agent=agent_id, connections=self._unlogged)
            self._logged_at, self._unlogged = now, 0
