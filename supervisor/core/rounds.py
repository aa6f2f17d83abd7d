"""Work that comes round again and again: a task while it is done, and in between no more than a timer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from supervisor.core.clock import Clock, Timer

#: Seconds until the next round, or the work of one, which says so at its end; None ends the rounds.
Turn: TypeAlias = Callable[[], float | Awaitable[float | None] | None]


class Rounds:
    """One agent has several of these, and a task that only sleeps would cost it two kilobytes for each.

    Args:
        turn: what is done each time. It is called in the loop, and awaited as a task only where it returns work.
        start: makes a task of that work; it owns the task.
        at_end: called once no further round begins.
    """

    __slots__ = ("_at_end", "_clock", "_ended", "_start", "_timer", "_turn")

    def __init__(
        self,
        clock: Clock,
        turn: Turn,
        start: Callable[[Coroutine[Any, Any, None]], object],
        at_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._clock = clock
        self._turn = turn
        self._start = start
        self._at_end = at_end
        self._timer: Timer | None = None
        self._ended = False

    def begin(self, seconds: float | None) -> None:
        """The first round, after so long; None: there is none."""
        if self._ended:
            return
        if seconds is None:
            self.end()
        else:
            self._timer = self._clock.call_later(seconds, self._come_round)

    def end(self) -> None:
        """No further round begins; one that is being done goes on. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._ended:
            self._ended = True
            self._at_end()

    def _come_round(self) -> None:
        self._timer = None
        turn = self._turn()
        if turn is None or isinstance(turn, float | int):
            self.begin(turn)
        else:
            self._start(self._finish(turn))

    async def _finish(self, work: Awaitable[float | None]) -> None:
        self.begin(await work)
