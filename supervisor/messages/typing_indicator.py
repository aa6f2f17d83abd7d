"""Whether the person sees "typing …" while a handler works."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from supervisor.handlers.threads import call_in_loop

#: Clients show the indicator for 3 to 10 s after each sign of it (docs/protocol.md#9-display).
REPEAT_SECONDS: Final = 4.0
#: How soon to look again whether an earlier answer is out by now.
HELD_SECONDS: Final = 0.25


class TypingIndicator:
    """Shown when a handler asks for it, repeated while it works, taken back before each answer and at the end.

    The verbs of handlers may be called from any thread; they take effect in the order of the calls.

    Args:
        emit: tells the platform whether the agent types; called on the event loop.
        held: whether an answer is on its way just now. Any sign of typing after it would look like a further answer.
        repeat_seconds, held_seconds: see :data:`REPEAT_SECONDS`, :data:`HELD_SECONDS`.
    """

    def __init__(
        self,
        emit: Callable[[bool], None],
        *,
        held: Callable[[], bool] = lambda: False,
        repeat_seconds: float = REPEAT_SECONDS,
        held_seconds: float = HELD_SECONDS,
    ) -> None:
        self._emit = emit
        self._held = held
        self._repeat_seconds = repeat_seconds
        self._held_seconds = held_seconds
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._ending = False
        # What threads have asked for and the loop has not come to.
        self._asked: deque[Callable[[], None]] = deque()
        # Written on the loop only.
        self._shown = False
        self._ended = False
        # When it is to be shown again, in seconds from now, while the handler may yet be over at once.
        self._planned: float | None = None
        self._waits = False
        self._next: asyncio.TimerHandle | None = None

    def show(self, on: bool) -> None:
        """Show the indicator until further notice, or take it back."""
        self._call(self._turn_on if on else self._turn_off)

    def _call(self, change: Callable[[], None]) -> None:
        """Do it at once on the loop, unless a thread has asked before; from a thread, have it done."""
        if not self._asked and threading.get_ident() == self._thread:
            change()
        else:
            self._asked.append(change)
            call_in_loop(self._loop, self._catch_up)

    def _catch_up(self) -> None:
        while self._asked:
            self._asked.popleft()()

    def end(self) -> None:
        """The handler is over: the indicator is taken back, and nothing shows it again."""
        if not self._ending:
            self._ending = True
            self._call(self._end)

    def go_on(self) -> None:
        """The handler has not ended at once: from here on what is shown is repeated. Called on the loop."""
        self._waits = True
        if self._planned is not None:
            self._plan(self._planned)

    def answer(self) -> None:
        """An answer goes out: the indicator is taken back now, and comes again if the handler goes on for long.

        Called on the event loop, before the answer.
        """
        self._hide()
        if self._next is not None or self._planned is not None:
            self._plan(self._repeat_seconds)

    def _turn_on(self) -> None:
        if not self._ended:
            self._sign()

    def _turn_off(self) -> None:
        self._cancel()
        self._hide()

    def _sign(self) -> None:
        """Show the indicator, and go on showing it."""
        if self._held():
            self._plan(self._held_seconds)
            return
        self._shown = True
        self._emit(True)
        self._plan(self._repeat_seconds)

    def _hide(self) -> None:
        if self._shown:
            self._shown = False
            self._emit(False)

    def _end(self) -> None:
        self._ended = True
        self._cancel()
        self._hide()

    def _plan(self, seconds: float) -> None:
        if self._waits:
            self._cancel()
            self._next = self._loop.call_later(seconds, self._sign)
        else:
            self._planned = seconds

    def _cancel(self) -> None:
        self._planned = None
        if self._next is not None:
            self._next.cancel()
            self._next = None
