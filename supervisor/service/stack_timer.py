"""A timer of the kernel's that has a thread's stack written to a file, while nothing of ours gets to run.

The signal's handler is one of C's (:mod:`faulthandler`): it needs neither the event loop nor the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import threading
import time
from typing import Any, Final

#: To the one thread that is named: ``timer_create(2)``.
_SIGEV_THREAD_ID: Final = 4


class _Event(ctypes.Structure):
    """``struct sigevent`` of Linux."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("rest", ctypes.c_byte * 44),
    )


class _Times(ctypes.Structure):
    """``struct itimerspec``: seconds and nanoseconds between two, then until the first."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("again", "again_nanoseconds", "after", "after_nanoseconds"))


class StackTimer:
    """Writes the stack of the thread that makes it to ``file`` once its time is up.

    Raises:
        OSError: there is no such timer here, or somebody else uses the signal.
    """

    def __init__(self, file: int) -> None:
        self._signal = _free_signal()
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._timer = ctypes.c_void_p()
        event = _Event(signal=self._signal, notify=_SIGEV_THREAD_ID, thread=threading.get_native_id())
        try:
            failed = self._libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer))
        except AttributeError:
            raise OSError("the system has no timers") from None
        if failed:
            raise OSError(ctypes.get_errno(), "timer_create failed")
        faulthandler.register(self._signal, file=file, all_threads=False, chain=False)

    def arm(self, seconds: float) -> None:
        """Begin its time anew; 0 stops it."""
        whole = int(seconds)
        times = _Times(after=whole, after_nanoseconds=int((seconds - whole) * 1e9))
        self._libc.timer_settime(self._timer, 0, ctypes.byref(times), None)

    def close(self) -> None:
        """Write nothing any more; once."""
        self._libc.timer_delete(self._timer)
        faulthandler.unregister(self._signal)


def _free_signal() -> int:
    """A signal for our own use: the last of the real-time ones, which nobody sends by himself."""
    number: int | None = getattr(signal, "SIGRTMAX", None)
    if number is None or signal.getsignal(number) is not signal.SIG_DFL:
        raise OSError("there is no signal to be had")
    return number
