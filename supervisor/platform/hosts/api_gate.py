"""What bounds the agents' questions to one host's API but those for tokens: a rate, places, silence while it is ill.

Questions that nobody waits for (listings of conversations, instructions, heartbeats) come again and again from every
agent: their intervals stretch with the fleet, so that together they leave room for those that somebody waits for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from supervisor.core.backoff import Backoff, RateLimit
from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.hosts.api import Answer

#: Questions on their way at once.
PLACES: Final = 10
#: So many failures in a row, and the host counts as ill.
ILL_FAILURES: Final = 3
#: The part of the rate that one kind of recurring question may take.
SHARE: Final = 0.25
_RATE_LIMITED: Final = 429


class NotAskedError(PlatformError):
    """The host is ill, and the question was not asked; ``retry_after_seconds`` says when to come again."""


class ApiGate:
    """The bound of one host's API.

    Args:
        host: how it is named in errors.
        rate: questions per second.
        limit: gives the passes.
    """

    def __init__(self, host: str, rate: float, limit: RateLimit, clock: Clock) -> None:
        self._host = host
        self._rate = rate
        self._limit = limit
        self._clock = clock
        self._places = asyncio.Semaphore(PLACES)
        self._urgent_places = asyncio.Semaphore(PLACES)
        self._backoff = Backoff()
        self._failures = 0
        self._reason = ""
        # Monotonic; while it is ill nobody asks before this, and then one at a time.
        self._quiet_until = 0.0
        self._probing = False
        self._askers: Counter[str] = Counter()

    def change(self, rate: float, steady: float, burst: float) -> None:
        """Ask at another rate from now on, of which ``steady`` is what remains beside a burst."""
        self._rate = rate
        self._limit.change(steady, burst)

    @property
    def ill(self) -> bool:
        """Whether the host failed again and again, and has not answered since."""
        return self._failures >= ILL_FAILURES

    def count_asker(self, kind: str, number: int) -> None:
        """So many agents more ask questions of a kind at intervals; :class:`Asker` says so."""
        self._askers[kind] += number

    def interval(self, kind: str, seconds: float) -> float:
        """How often an agent may ask a question of a kind: every ``seconds``, less often where many ask."""
        return max(seconds, self._askers[kind] / (self._rate * SHARE))

    async def ask(self, request: Callable[[], Awaitable[Answer]], *, at_leisure: bool = True) -> Answer:
        """Make one request when the host's rate and places allow it, and the host is well.

        Args:
            at_leisure: nobody waits for it. What somebody waits for is bounded by places of its own alone.

        Raises:
            NotAskedError: the host is ill.
            PlatformError: as ``request``.
        """
        if not at_leisure:
            async with self._urgent_places:
                return await self._made(request)
        if self.ill and (self._probing or self._clock.monotonic() < self._quiet_until):
            wait = max(1.0, self._quiet_until - self._clock.monotonic())
            raise NotAskedError(f"{self._host} is not asked, it is ill: {self._reason}", retry_after_seconds=wait)
        async with self._places:
            probes = self.ill
            self._probing = self._probing or probes
            try:
                await self._limit.acquire()
                return await self._made(request)
            finally:
                if probes:
                    self._probing = False

    async def _made(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            answer = await request()
        except PlatformError as error:
            if error.verdict is Verdict.RETRY:
                self._failed(error.reason, error.retry_after_seconds)
            raise
        if answer.status == _RATE_LIMITED or answer.status >= 500:
            self._failed(f"it answered {answer.status}", answer.retry_after())
        else:
            self._failures = 0
            self._backoff.reset()
        return answer

    def _failed(self, reason: str, retry_after: float | None) -> None:
        self._failures += 1
        self._reason = reason
        if self.ill:
            self._quiet_until = self._clock.monotonic() + max(self._backoff.next_delay(), retry_after or 0.0)


class Asker:
    """One agent that asks questions of a kind at intervals, of a host that may become another.

    Args:
        kind: of the questions.
    """

    __slots__ = ("_gate", "_kind")

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._gate: ApiGate | None = None

    def ask_at(self, gate: ApiGate | None) -> None:
        """The agent asks there from now on, and the others there less often for it; None: nowhere."""
        if gate is self._gate:
            return
        if self._gate is not None:
            self._gate.count_asker(self._kind, -1)
        self._gate = gate
        if gate is not None:
            gate.count_asker(self._kind, 1)

    def leave(self) -> None:
        """The agent asks no more."""
        self.ask_at(None)
