"""What all agents with one key share: how long its provider asked to be left alone, and how many calls run at once."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

#: A provider that says no more than "too many requests" is left alone for this long at first, doubling up to the cap.
FIRST_PAUSE_SECONDS: Final = 1.0
PAUSE_CAP_SECONDS: Final = 60.0
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
#: Those who waited for the end of a pause come back spread over this share of it, not all in one moment.
SPREAD: Final = 0.1


def digest(*parts: str) -> str:
    """A name for what holds a key, without the key."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class KeyGate:
    """Closed while the provider wants no requests with this key.

    Attributes:
        why: the kind of the trouble that closed it last.
    """

    def __init__(self) -> None:
        self.why = ""
        self._opens_at = 0.0
        self._pause_seconds = 0.0
        self._refusals = 0

    @property
    def closed_seconds(self) -> float:
        """How long it stays closed; 0 when it is open."""
        return max(0.0, self._opens_at - time.monotonic())

    def close(self, retry_after_seconds: float | None, why: str = "rate_limited") -> float:
        """The provider refused a request; returns for how many seconds nobody asks again."""
        if retry_after_seconds is None:
            if self.closed_seconds > 0:
                # Calls that were under way when it closed are refused too: that is no new refusal.
                return self.closed_seconds
            retry_after_seconds = min(PAUSE_CAP_SECONDS, FIRST_PAUSE_SECONDS * 2**self._refusals)
            self._refusals = min(self._refusals + 1, 10)
        pause = min(max(0.0, retry_after_seconds), LONGEST_RETRY_AFTER_SECONDS)
        if pause > self.closed_seconds:
            self._opens_at = time.monotonic() + pause
            self._pause_seconds = pause
            self.why = why
        return self.closed_seconds

    def succeeded(self) -> None:
        """The provider answered: the next refusal without a time begins small again."""
        self._refusals = 0

    @property
    def wait_seconds(self) -> float:
        """How long this caller shall wait, drawn anew each time: callers come back one after the other."""
        closed = self.closed_seconds
        return closed + random.uniform(0, self._pause_seconds * SPREAD) if closed else 0.0  # noqa: S311  no secret


class Slots:
    """Bounds the calls to one server; each caller brings its own limit, so that a row can be stricter than others."""

    def __init__(self) -> None:
        self.running = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def one(self, limit: int) -> AsyncIterator[None]:
        """Hold a slot, first come first served."""
        if self._waiting or self.running >= limit:
            await self._wait(limit)
        else:
            self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._admit()

    async def _wait(self, limit: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((limit, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Admitted in the moment of being cancelled.
                self.running -= 1
            self._admit()
            raise

    def _admit(self) -> None:
        """Let those in front in, as long as there is room for the first of them."""
        while self._waiting:
            limit, turn = self._waiting[0]
            if not turn.done():
                if self.running >= limit:
                    return
                self.running += 1
                turn.set_result(None)
            self._waiting.popleft()
