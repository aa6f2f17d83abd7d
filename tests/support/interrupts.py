"""Ctrl-C for the processes that tests start."""

from __future__ import annotations

import signal


def restore_interrupts() -> None:
    """Have the processes that this one starts heed SIGINT, even where this one was started to ignore it.

    A shell without job control starts what it puts into the background with SIGINT ignored, and a process passes that
    on to all that it starts. A signal with a handler is passed on with its default instead; the handler here does
    nothing, so that this process goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda _number, _frame: None)
