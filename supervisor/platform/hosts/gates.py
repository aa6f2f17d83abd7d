"""What bounds the bursts: for each platform host a rate and places, for connects, token requests and other questions.

One gate for each host: the trouble of one platform is never the trouble of agents on another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from supervisor.core.backoff import RateLimit
from supervisor.core.clock import Clock
from supervisor.platform.hosts.api_gate import ApiGate
from supervisor.platform.hosts.pool import BoundedPool

T = TypeVar("T")
#: The pool's own bound only catches what the attempt's misses.
_SLACK_SECONDS: Final = 5.0
#: How long a token request may wait for its pass before it counts as failed; a rate is that slow only by its setting.
LONGEST_PASS_SECONDS: Final = 120.0
#: The share of the rate of tokens that suspended agents have together when they ask again.
RECHECK_SHARE: Final = 0.25
#: While the event loop wakes its sleepers later than this, connects slow down: N of them cost N² presence events.
LAG_LIMIT_SECONDS: Final = 0.25
#: What a look at a lagging loop leaves of the connect rate, what a look at a well one gives back, and the least of it.
SLOWER, FASTER, LEAST = 0.5, 1.2, 0.1


def _burst(rate: float) -> float:
    """The passes that an idle limit saves: a tenth of a second's, so that a short lag costs none."""
    return max(1.0, rate / 10)


def _steady(rate: float) -> float:
    """What refills a limit: with its burst no second has more passes than ``rate``."""
    return rate - _burst(rate) + 1


class _Rates(NamedTuple):
    """What refills the limits of a host and what an idle one saves, passes a second and passes; this process's part."""

    connects: tuple[float, float]
    tokens: tuple[float, float]
    rechecks: tuple[float, float]
    questions: tuple[float, float]
    questions_rate: float


@dataclass(slots=True)
class HostGate:
    """The bounds of one host."""

    connect_rate: RateLimit
    token_rate: RateLimit
    #: What suspended agents together may take of the rate of tokens.
    recheck_rate: RateLimit
    connect_pool: BoundedPool
    token_pool: BoundedPool
    api: ApiGate

    async def connect(self, attempt: Callable[[], Awaitable[T]], *, timeout: float) -> T:
        """Make one connection attempt when the host's places and rate allow it.

        The place comes before the pass. Attempts that held a pass while they waited for a place would start all at
        once when a platform that hung lets go of the places.

        Raises:
            TimeoutError: the attempt itself took longer than ``timeout`` seconds.
        """

        async def paced() -> T:
            await self.connect_rate.acquire()
            async with asyncio.timeout(timeout):
                return await attempt()

        # An attempt that has its place waits at most for one pass for each place, at the slowest that the rate becomes.
        longest_wait = (self.connect_pool.size + 1) / (self.connect_rate.rate * LEAST)
        return await self.connect_pool.run(paced, timeout=timeout + longest_wait + _SLACK_SECONDS)

    async def request_token(self, request: Callable[[], Awaitable[T]], *, timeout: float) -> T:
        """Make one token request, which bounds itself to ``timeout`` seconds, when places and rate allow it.

        Raises:
            TimeoutError: no pass came within :data:`LONGEST_PASS_SECONDS`.
            PoolClosedError: the supervisor stops.
        """

        async def paced() -> T:
            # The pass comes last: what waits for a place must not save up passes for a burst.
            await self.token_rate.acquire()
            return await request()

        return await self.token_pool.run(paced, timeout=timeout + LONGEST_PASS_SECONDS)


class Gates:
    """The gates of all hosts, made as they are met.

    Args:
        connect_rate, auth_rate, api_rate: passes per second and host.
        connect_concurrency, auth_concurrency: attempts and token requests at once and host.
        clock: the time by which passes are given.
    """

    def __init__(
        self,
        *,
        connect_rate: float,
        auth_rate: float,
        connect_concurrency: int,
        auth_concurrency: int,
        clock: Clock,
        api_rate: float = 50.0,
    ) -> None:
        self._connect_rate = connect_rate
        self._auth_rate = auth_rate
        self._api_rate = api_rate
        self._places = connect_concurrency
        self._token_places = auth_concurrency
        self._clock = clock
        self._share = 1.0  # of the connect rate that is in force
        self._replicas = 1
        self._by_host: dict[str, HostGate] = {}

    def of(self, host: str) -> HostGate:
        """The gate of ``host``."""
        gate = self._by_host.get(host)
        if gate is None:
            rates = self._rates()
            gate = self._by_host[host] = HostGate(
                RateLimit(*rates.connects, self._clock),
                RateLimit(*rates.tokens, self._clock),
                RateLimit(*rates.rechecks, self._clock),
                BoundedPool(self._places, f"connects to {host}"),
                BoundedPool(self._token_places, f"token requests to {host}"),
                ApiGate(host, rates.questions_rate, RateLimit(*rates.questions, self._clock), self._clock),
            )
        return gate

    def _rates(self) -> _Rates:
        connects, tokens, questions = (
            rate / self._replicas for rate in (self._connect_rate, self._auth_rate, self._api_rate)
        )
        return _Rates(
            (_steady(connects) * self._share, _burst(connects)),
            (_steady(tokens), _burst(tokens)),
            (tokens * RECHECK_SHARE, 1.0),
            (_steady(questions), _burst(questions)),
            questions,
        )

    def _change_rates(self) -> None:
        rates = self._rates()
        for gate in self._by_host.values():
            gate.connect_rate.change(*rates.connects)
            gate.token_rate.change(*rates.tokens)
            gate.recheck_rate.change(*rates.rechecks)
            gate.api.change(rates.questions_rate, *rates.questions)

    def share_with(self, replicas: int) -> None:
        """So many processes ask the same hosts: each has its part of the rates.

        Args:
            replicas: this one included.
        """
        if replicas != self._replicas:
            self._replicas = replicas
            self._change_rates()

    def adapt(self, lag_seconds: float) -> None:
        """Slow every host's connects down while the event loop lags, and let them recover when it is well.

        Args:
            lag_seconds: how late the loop woke a sleeper; given at every look, twice a second.
        """
        lags = lag_seconds > LAG_LIMIT_SECONDS
        share = max(LEAST, self._share * SLOWER) if lags else min(1.0, self._share * FASTER)
        if share != self._share:
            self._share = share
            self._change_rates()

    async def close(self) -> None:
        """Cancel what is under way."""
        for gate in self._by_host.values():
            await gate.token_pool.close(timeout=2)
            await gate.connect_pool.close(timeout=5)
