"""A burst is worked on in slices, so that the event loop comes round to everybody else in between."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

_T = TypeVar("_T")

#: When so much of a round of the loop is over, bursts wait for another: far below 100 ms, with what follows from them.
SLICE_SECONDS: Final = 0.01


class Turns:
    """Lets bursts go on while a round of the loop is young; in one that is not they wait, and take turns.

    What was done before in a round counts too: the more there is to do, the less of a burst is worked on.

    Args:
        slice_seconds: for how much of a round bursts may go on.
    """

    def __init__(self, slice_seconds: float = SLICE_SECONDS) -> None:
        self._slice = slice_seconds
        # When this round of the loop began; None while there are no bursts, and nobody follows the rounds.
        self._began: float | None = None
        self._asked = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def give_way(self) -> None:
        """Go on at once while the round is young; else wait for a turn in a later one."""
        turn = self.turn()
        if turn is not None:
            await turn

    def turn(self) -> asyncio.Future[None] | None:
        """None while the round is young: go on; else what is done when it is one's turn."""
        self._asked = True
        now = time.perf_counter()
        if self._began is None:
            self._began = now
            asyncio.get_running_loop().call_soon(self._begin_round)
        if now - self._began < self._slice:
            return None
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return turn

    async def each(self, items: Iterable[_T]) -> AsyncIterator[_T]:
        """The items one after the other, giving way after each."""
        for item in items:
            yield item
            await self.give_way()

    def _begin_round(self) -> None:
        asked, self._asked = self._asked, False
        self._began = time.perf_counter() if asked or self._waiting else None
        if self._began is not None:
            asyncio.get_running_loop().call_soon(self._begin_round)
        while self._waiting:
            turn = self._waiting.popleft()
            # Whoever was cancelled wants none.
            if not turn.done():
                turn.set_result(None)
                break
