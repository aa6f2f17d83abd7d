"""What bounds the bursts: per platform host one rate for connects, one for token requests, and places for both.

One gate for each host, so that the trouble of one platform is never the trouble of agents on another (DESIGN §3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from supervisor.backoff import TokenBucket
from supervisor.clock import Clock
from supervisor.pool import BoundedPool

_T = TypeVar("_T")
#: The pool's own bound only catches what the attempt's misses.
_SLACK_SECONDS = 5.0


@dataclass(slots=True)
class HostGate:
    """The bounds of one host."""

    connects: TokenBucket
    tokens: TokenBucket
    pool: BoundedPool

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

        # All places may wait for a pass, and no one else does: that long, at most, is this one's wait.
        longest_wait = (self.pool.size + 1) / self.connects.rate
        return await self.pool.run(paced, timeout=timeout + longest_wait + _SLACK_SECONDS)


class Gates:
    """The gates of all hosts, made as they are met.

    Args:
        connect_rate, auth_rate: passes per second and host.
        connect_concurrency: attempts at once and host.
    """

    def __init__(self, *, connect_rate: float, auth_rate: float, connect_concurrency: int, clock: Clock) -> None:
        self._connect_rate = connect_rate
        self._auth_rate = auth_rate
        self._places = connect_concurrency
        self._clock = clock
        self._by_host: dict[str, HostGate] = {}

    def of(self, host: str) -> HostGate:
        """The gate of ``host``."""
        gate = self._by_host.get(host)
        if gate is None:
            # A burst of a fifth of a second's passes keeps short spikes below the rate that was configured.
            gate = self._by_host[host] = HostGate(
                TokenBucket(self._connect_rate, self._connect_rate / 5, self._clock),
                TokenBucket(self._auth_rate, self._auth_rate / 5, self._clock),
                BoundedPool(self._places, f"connects to {host}"),
            )
        return gate

    async def close(self) -> None:
        """Cancel what is under way."""
        for gate in self._by_host.values():
            await gate.pool.close(timeout=5)
