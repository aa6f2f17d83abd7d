"""What bounds the bursts: per platform host one rate for connects, one for token requests, and places for both.

One gate for each host, so that the trouble of one platform is never the trouble of agents on another (DESIGN §3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from supervisor.core.backoff import TokenBucket
from supervisor.core.clock import Clock
from supervisor.platform.pool import BoundedPool

_T = TypeVar("_T")
#: The pool's own bound only catches what the attempt's misses.
_SLACK_SECONDS = 5.0
#: While the event loop wakes its sleepers later than this, connects slow down: N of them cost N² presence events.
LAG_LIMIT_SECONDS = 0.25
#: What a look at a lagging loop leaves of the connect rate, what a look at a well one gives back, and the least of it.
SLOWER, FASTER, LEAST = 0.5, 1.2, 0.1


def _burst(rate: float) -> float:
    """The passes that an idle bucket saves: a tenth of a second's, so that a short lag costs none."""
    return max(1.0, rate / 10)


def _steady(rate: float) -> float:
    """What refills a bucket: with its burst no second has more passes than ``rate`` (RELIABILITY R8)."""
    return rate - _burst(rate) + 1


@dataclass(slots=True)
class HostGate:
    """The bounds of one host."""

    connects: TokenBucket
    tokens: TokenBucket
    pool: BoundedPool
    token_pool: BoundedPool

    async def connect(self, attempt: Callable[[], Awaitable[_T]], *, timeout: float) -> _T:
        """Make one connection attempt when the host's places and rate allow it.

        The place comes first: attempts that held a pass while they waited for a place would start all at once when a
        platform that hung lets go of the places (RELIABILITY R8).

        Raises:
            TimeoutError: the attempt itself took longer than ``timeout`` seconds.
        """

        async def paced() -> _T:
            await self.connects.acquire()
            async with asyncio.timeout(timeout):
                return await attempt()

        # All places may wait for a pass, and no one else does: that long, at most, is this one's wait. The rate may
        # fall meanwhile.
        longest_wait = (self.pool.size + 1) / (self.connects.rate * LEAST)
        return await self.pool.run(paced, timeout=timeout + longest_wait + _SLACK_SECONDS)


class Gates:
    """The gates of all hosts, made as they are met.

    Args:
        connect_rate, auth_rate: passes per second and host.
        connect_concurrency, auth_concurrency: attempts and token requests at once and host.
    """

    def __init__(
        self, *, connect_rate: float, auth_rate: float, connect_concurrency: int, auth_concurrency: int, clock: Clock
    ) -> None:
        self._connect_rate = connect_rate
        self._auth_rate = auth_rate
        self._places = connect_concurrency
        self._token_places = auth_concurrency
        self._clock = clock
        self._share = 1.0  # of the connect rate that is in force
        self._by_host: dict[str, HostGate] = {}

    def of(self, host: str) -> HostGate:
        """The gate of ``host``."""
        gate = self._by_host.get(host)
        if gate is None:
            gate = self._by_host[host] = HostGate(
                TokenBucket(_steady(self._connect_rate) * self._share, _burst(self._connect_rate), self._clock),
                TokenBucket(_steady(self._auth_rate), _burst(self._auth_rate), self._clock),
                BoundedPool(self._places, f"connects to {host}"),
                BoundedPool(self._token_places, f"token requests to {host}"),
            )
        return gate

    def note_lag(self, seconds: float) -> None:
        """Slow every host's connects down while the event loop lags, and let them recover when it is well (DESIGN §3).

        Args:
            seconds: how late the loop woke a sleeper; told at every look, twice a second.
        """
        share = max(LEAST, self._share * SLOWER) if seconds > LAG_LIMIT_SECONDS else min(1.0, self._share * FASTER)
        if share != self._share:
            self._share = share
            for gate in self._by_host.values():
                gate.connects.rate = _steady(self._connect_rate) * share

    async def close(self) -> None:
        """Cancel what is under way."""
        for gate in self._by_host.values():
            await gate.token_pool.close(timeout=2)
            await gate.pool.close(timeout=5)
