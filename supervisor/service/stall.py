"""The last watchdog: a process whose event loop stands too long is ended from below the interpreter.

Whoever started the process starts it again, which is better than a fleet that is deaf (docs/faults.md#r26).
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import sys
from collections.abc import Callable
from typing import Final, TextIO

from supervisor.service.stack_timer import StackTimer
from supervisor.telemetry import standard_streams

#: How often the timer is armed anew; each time costs a thread of the C library's.
BEAT_SECONDS: Final = 1.0
#: So long before the end the loop's own stack is left for the next start.
WORD_SECONDS: Final = 0.5
STANDARD_ERROR: Final = 2


class StallExit:
    """Ends the process once the event loop has had no turn for ``seconds``; the stacks go to standard error.

    The timer is one of C's: it needs neither the loop nor the interpreter's lock, which whatever blocks may hold.

    Args:
        seconds: 0 for never.
        stream: where the stacks of all threads go; source lines only, no values.
    """

    def __init__(self, seconds: float, stream: TextIO | None = None) -> None:
        self._seconds = seconds
        self._last = seconds + BEAT_SECONDS
        # Nobody may read it: the process ends all the same.
        self._file = standard_streams.patient(stream.fileno() if stream is not None else STANDARD_ERROR)
        self._word: StackTimer | None = None
        self._tells_crashes = False
        self._goes_on: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Arm the timer at each beat, until cancelled."""
        if not self._seconds or _is_debugged():
            return
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._arm()
                beat = loop.time()
                await asyncio.sleep(BEAT_SECONDS)
                if loop.time() - beat >= self._last - WORD_SECONDS:
                    self._goes_on()
        finally:
            faulthandler.cancel_dump_traceback_later()
            self.leave_no_word()

    def _arm(self) -> None:
        faulthandler.dump_traceback_later(self._last, file=self._file, exit=True)
        if self._word is not None:
            self._word.arm(self._last - WORD_SECONDS)

    def leave_word(self, file: int, goes_on: Callable[[], None]) -> None:
        """Leave the loop's stack in ``file`` just before the end, and that of a crash; to be called in the loop.

        Args:
            file: open until :meth:`leave_no_word`.
            goes_on: called where the loop was given its turn in the last moment: what was left there is not true.
        """
        # Where one of them is not to be had the next start knows less.
        with contextlib.suppress(OSError, RuntimeError):
            if not faulthandler.is_enabled():
                # Whoever has asked for it has it where he wants it.
                faulthandler.enable(file, all_threads=False)
                self._tells_crashes = True
            if self._word is None and self._seconds and not _is_debugged():
                self._word = StackTimer(file)
                self._goes_on = goes_on
                self._arm()

    def leave_no_word(self) -> None:
        """The file is about to be closed, and its number may be another's then. Idempotent."""
        self._goes_on = lambda: None
        if self._word is not None:
            self._word.close()
            self._word = None
        if self._tells_crashes:
            faulthandler.disable()
            self._tells_crashes = False


def _is_debugged() -> bool:
    """Whether somebody steps through the code: a person thinks longer than any bound."""
    return sys.gettrace() is not None and not sys.modules.keys().isdisjoint({"bdb", "pydevd"})
