"""Ctrl-C and hang-ups for the processes that tests start."""

from __future__ import annotations

import signal


def restore_interrupts() -> None:
    """Have the processes that this one starts heed SIGINT and SIGHUP, even where this one was started to ignore them.

    A shell without job control starts what it puts into the background with SIGINT ignored, nohup what it starts with
    SIGHUP ignored, and a process passes that on to all that it starts. A signal with a handler is passed on with its
    default instead; the handler here does nothing, so that this process goes on ignoring them.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)
