"""Whether the person sees "typing …" while a handler works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TypingIndicator:
    """Shown when a handler asks for it, taken back once the handler is over, and not shown again after that.

    Both verbs may be called from any thread; they take effect in the order of the calls.

    Args:
        emit: tells the platform whether the agent types; called on the event loop.
    """

    def __init__(self, emit: Callable[[bool], None]) -> None:
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._ending = False
        # Written by callbacks of the loop only, which keep the order of calls from threads.
        self._shown = False
        self._ended = False

    def show(self, on: bool) -> None:
        """Show the indicator, or take it back."""
        self._loop.call_soon_threadsafe(self._show, on)

    def end(self) -> None:
        """The handler is over: the indicator is taken back, and nothing shows it again."""
        if not self._ending:
            self._ending = True
            self._loop.call_soon_threadsafe(self._end)

    def _show(self, on: bool) -> None:
        if (on and not self._ended) or (not on and self._shown):
            self._shown = on
            self._emit(on)

    def _end(self) -> None:
        self._ended = True
        self._show(False)
