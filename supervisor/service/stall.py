"""The last watchdog: a process whose event loop stands too long is ended from below the interpreter.

Whoever started the process starts it again, which is better than a fleet that is deaf (docs/faults.md#r26).
"""

from __future__ import annotations

import asyncio
import faulthandler
import sys
from typing import Final, TextIO

from supervisor.telemetry import standard_streams

#: How often the timer is armed anew; each time costs a thread of the C library's.
BEAT_SECONDS: Final = 1.0
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
        # Nobody may read it: the process ends all the same.
        self._file = standard_streams.patient(stream.fileno() if stream is not None else STANDARD_ERROR)

    async def run(self) -> None:
        """Arm the timer at each beat, until cancelled."""
        if not self._seconds or _is_debugged():
            return
        try:
            while True:
                faulthandler.dump_traceback_later(self._seconds + BEAT_SECONDS, file=self._file, exit=True)
                await asyncio.sleep(BEAT_SECONDS)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _is_debugged() -> bool:
    """Whether somebody steps through the code: a person thinks longer than any bound."""
    return sys.gettrace() is not None and not sys.modules.keys().isdisjoint({"bdb", "pydevd"})
