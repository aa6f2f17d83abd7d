"""How long to wait before the next attempt, and how many attempts a second a host gets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from supervisor.core.clock import Clock


class Backoff:
    """Exponential backoff with full jitter under a cap (1 s → 60 s unless told otherwise).

    Each delay is drawn evenly from ``[0, min(cap, initial · 2ⁿ)]``: the cap is applied before the jitter, so that a
    fleet that has been failing for long is still spread over the whole interval.

    Args:
        initial_seconds: the bound of the first delay.
        cap_seconds: the bound that no delay exceeds.
        uniform: draws between two bounds; tests give their own.
    """

    def __init__(
        self,
        initial_seconds: float = 1.0,
        cap_seconds: float = 60.0,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._initial = initial_seconds
        self._cap = cap_seconds
        self._uniform = uniform
        self.failures = 0

    @property
    def longest(self) -> float:
        """The seconds that the next delay does not exceed."""
        # 2**63 already exceeds every sensible cap; the bound on the exponent keeps the arithmetic in floats.
        return min(self._cap, self._initial * 2.0 ** min(self.failures, 63))

    def next_delay(self) -> float:
        """Count a failure and return the seconds to wait before the next attempt."""
        bound = self.longest
        self.failures += 1
        return self._uniform(0.0, bound)

    def reset(self) -> None:
        """Start over: called once an agent has been online long enough to be called well again."""
        self.failures = 0


#: Sleeping for just the missing part of a pass may leave a rounding error of it: that much is as good as a pass.
_ROUNDING = 1e-6


class RateLimit:
    """At most ``rate`` passes a second after a burst of ``burst``; waiters pass in order of arrival.

    One bucket serves all agents of a host, so that a fleet reconnects at a pace that the platform bears.
    A waiter that is cancelled gives its turn back to no one in particular: the others move up.
    """

    def __init__(self, rate: float, burst: float, clock: Clock) -> None:
        self.rate = rate
        self._burst = max(1.0, burst)
        self._clock = clock
        self._level = self._burst
        self._updated = clock.monotonic()
        self._turn = asyncio.Lock()

    def change(self, rate: float, burst: float) -> None:
        """Give passes at another rate from now on, after a burst of ``burst`` at most.

        Who waits for a pass does so at the rate that was.
        """
        self._refill()
        self.rate = rate
        self._burst = max(1.0, burst)
        self._level = min(self._level, self._burst)

    def _refill(self) -> None:
        now = self._clock.monotonic()
        self._level = min(self._burst, self._level + (now - self._updated) * self.rate)
        self._updated = now

    async def acquire(self) -> None:
        """Wait for one pass."""
        async with self._turn:
            self._refill()
            while self._level < 1.0 - _ROUNDING:
                await self._clock.sleep((1.0 - self._level) / self.rate)
                self._refill()
            self._level -= 1.0
