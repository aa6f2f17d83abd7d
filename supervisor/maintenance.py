"""What has to be done now and then: correct the counts, prune the journal, watch the event loop (DESIGN §2)."""

from __future__ import annotations

from supervisor.clock import Clock
from supervisor.errors import RegistryError
from supervisor.fleet import Fleet
from supervisor.logs import get_logger
from supervisor.metrics import Metrics
from supervisor.registry import Journal
from supervisor.states import MessageState

COUNT_SECONDS = 5.0
PRUNE_SECONDS = 600.0
LAG_SECONDS = 0.5
#: The event loop being held up for longer than this is worth a line (RELIABILITY).
LAG_WARNING_SECONDS = 0.25
LAG_WARNING_INTERVAL_SECONDS = 60.0


class Maintenance:
    """The fleet's housekeeping. Each method runs until it is cancelled."""

    def __init__(
        self, journal: Journal, fleet: Fleet, metrics: Metrics, clock: Clock, *, retention_seconds: float
    ) -> None:
        self._journal = journal
        self._fleet = fleet
        self._metrics = metrics
        self._clock = clock
        self._retention = retention_seconds
        self._log = get_logger("supervisor.maintenance")

    async def count(self) -> None:
        """Correct the inbox counts kept in memory from the journal: other processes settle messages too."""
        while True:
            await self._clock.sleep(COUNT_SECONDS)
            try:
                counts = await self._journal.counts()
            except RegistryError as error:
                self._log.warning("count_failed", reason=str(error))
                continue
            for agent_id in self._fleet.inbox():
                by_state = counts.get(agent_id, {})
                self._fleet.runner(agent_id).agent.inbox.correct(
                    unsettled=sum(
                        by_state.get(state, 0)
                        for state in (MessageState.AVAILABLE, MessageState.RETRYABLE, MessageState.RUNNING)
                    ),
                    dead=by_state.get(MessageState.DEAD, 0),
                )

    async def prune(self) -> None:
        """Delete settled messages past their retention."""
        while True:
            try:
                pruned = await self._journal.prune(self._clock.now() - self._retention)
                if pruned:
                    self._log.info("journal_pruned", rows=pruned)
            except RegistryError as error:
                self._log.warning("prune_failed", reason=str(error))
            await self._clock.sleep(PRUNE_SECONDS)

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, and say when it is held up."""
        warned = -LAG_WARNING_INTERVAL_SECONDS
        while True:
            started = self._clock.monotonic()
            await self._clock.sleep(LAG_SECONDS)
            now = self._clock.monotonic()
            lag = max(0.0, now - started - LAG_SECONDS)
            self._metrics.loop_lag(lag)
            if lag >= LAG_WARNING_SECONDS and now - warned >= LAG_WARNING_INTERVAL_SECONDS:
                warned = now
                self._log.warning("event_loop_lag", seconds=round(lag, 3))
