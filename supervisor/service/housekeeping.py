"""What has to be done now and then: correct the counts, prune the journal, watch the event loop.

Each process does it for what is its own; of several that share a registry one prunes.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.core.clock import Clock, Instant
from supervisor.core.days import days_before
from supervisor.core.errors import RegistryError
from supervisor.fleet import Fleet
from supervisor.platform.hosts.gates import LAG_LIMIT_SECONDS
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics import Metrics

COUNT_SECONDS = 5.0
PRUNE_SECONDS = 600.0
#: How long what agents used is kept: a year and a month, so that a month can be compared with the last year's.
USAGE_DAYS = 400
#: How long the copy of a registry is kept that was made before it was migrated.
COPY_SECONDS = 7 * 86_400.0
#: How long what was used waits for a commit to go with.
SPENDING_SECONDS = 1.0
#: After a crash so much more is looked for than was missed.
LIVES_SECONDS = 60.0
LAG_SECONDS = 0.5
LAG_WARNING_INTERVAL_SECONDS = 60.0


class Housekeeping:
    """The fleet's housekeeping. Each method runs until it is cancelled.

    Args:
        on_lag: told at each look how late the event loop is, in seconds.
    """

    def __init__(
        self,
        registry: Registry,
        fleet: Fleet,
        metrics: Metrics,
        clock: Clock,
        *,
        retention_seconds: float,
        on_lag: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._registry = registry
        self._journal = registry.journal
        self._fleet = fleet
        self._metrics = metrics
        self._clock = clock
        self._retention = retention_seconds
        self._on_lag = on_lag
        self._log = get_logger("supervisor.maintenance")

    async def count(self) -> None:
        """Correct the inbox counts kept in memory from the journal: other processes settle messages too."""
        while True:
            await self._clock.sleep(COUNT_SECONDS)
            try:
                await self._fleet.journal.correct_counts()
            except RegistryError as error:
                self._log.warning("count_failed", reason=str(error))

    async def prune(self) -> None:
        """Delete settled messages past their retention, what was used long ago, and old copies of the registry."""
        started = Instant.now(self._clock)
        while True:
            try:
                # A clock that is set forward makes nothing older.
                now = started.earliest_now(self._clock)
                pruned = await self._journal.maintenance.prune(now - self._retention)
                if pruned:
                    self._log.info("journal_pruned", rows=pruned)
                await self._journal.maintenance.prune_usage(days_before(now, USAGE_DAYS))
                await self._registry.history.prune(now)
                await self._registry.forget_copies(now - COPY_SECONDS)
            except RegistryError as error:
                self._log.warning("prune_failed", reason=str(error))
            await self._clock.sleep(PRUNE_SECONDS)

    async def write_usage(self) -> None:
        """Have what agents used written where no message's commit takes it along."""
        while True:
            await self._clock.sleep(SPENDING_SECONDS)
            if self._journal.healthy:
                # Else it would wait in vain, one operation more each time; it goes with the first commit that succeeds.
                self._journal.usage.write()

    async def write_lives(self) -> None:
        """Have the registry remember until when each agent can have missed nothing."""
        while True:
            await self._clock.sleep(LIVES_SECONDS)
            if self._journal.healthy and (covered := self._fleet.covered()):
                self._journal.lives.record_soon(covered)

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, and say when it is held up."""
        warned = -LAG_WARNING_INTERVAL_SECONDS
        while True:
            started = self._clock.monotonic()
            await self._clock.sleep(LAG_SECONDS)
            now = self._clock.monotonic()
            lag = max(0.0, now - started - LAG_SECONDS)
            self._metrics.loop_lag(lag)
            self._on_lag(lag)
            if lag > LAG_LIMIT_SECONDS and now - warned >= LAG_WARNING_INTERVAL_SECONDS:
                warned = now
                self._log.warning("event_loop_lag", seconds=round(lag, 3))
