"""Being woken when somebody writes to a file, where the system tells: Linux's ``inotify(7)``, by ctypes.

It tells of every write, one's own too, and of none that another machine does. So whoever is woken looks for himself,
and looks now and then without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

#: ``IN_MODIFY`` of ``sys/inotify.h``.
_MODIFIED: Final = 0x2
#: Room for one event about a watched file, which has no name in it; equal events that nobody has read are one.
_EVENTS_BYTES: Final = 4096


class WriteWatch:
    """Wakes who waits for somebody to write to one file; to be used in one event loop.

    Args:
        path: the file. What is written to another that takes its place wakes nobody.
    """

    def __init__(self, path: Path) -> None:
        self._file = _watch(path)

    async def wait(self, seconds: float) -> bool:
        """Wait for a write, or for so long; whether there was one since the last that was told."""
        if self._file is None:
            await asyncio.sleep(seconds)
            return False
        loop = asyncio.get_running_loop()
        written = loop.create_future()
        loop.add_reader(self._file, _tell, written)
        try:
            async with asyncio.timeout(seconds):
                await written
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._file)
        with contextlib.suppress(BlockingIOError):
            os.read(self._file, _EVENTS_BYTES)
        return True

    def close(self) -> None:
        """Watch no longer, once nobody waits; idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _tell(written: asyncio.Future[None]) -> None:
    if not written.done():
        written.set_result(None)


def _watch(path: Path) -> int | None:
    """A descriptor that can be read from once the file is written to; None where the system has none to give."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        file: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    except (AttributeError, OSError, TypeError):
        return None
    if file >= 0 and libc.inotify_add_watch(file, os.fsencode(path), _MODIFIED) < 0:
        os.close(file)
        return None
    return file if file >= 0 else None
