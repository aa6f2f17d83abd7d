"""How an agent goes offline: what runs may end, and its replies go out while the connection is still there."""

from __future__ import annotations

import asyncio

from supervisor.core.clock import ROUNDING_SECONDS, Clock
from supervisor.core.states import AgentState
from supervisor.fleet.agent import Agent
from supervisor.fleet.change import Changed
from supervisor.fleet.condition import Condition
from supervisor.fleet.desired import Desired

_OVER = frozenset({AgentState.STOPPED, AgentState.PAUSED, AgentState.DRAINING})


class Drain:
    """Drains one agent, for a pause or for its end."""

    def __init__(self, agent: Agent, desired: Desired, condition: Condition, clock: Clock) -> None:
        #: Whether handlers still ran when the grace period of the last drain was over.
        self.cut_short = False
        self._agent = agent
        self._desired = desired
        self._condition = condition
        self._clock = clock

    async def run(self, grace_seconds: float) -> None:
        """Start nothing more; wait for what runs, for ``grace_seconds`` at most. Nothing happens where it is over.

        Raises:
            Changed: the pause was taken back meanwhile.
        """
        if self._condition.state in _OVER:
            return
        self.cut_short = False
        self._condition.become(AgentState.DRAINING)
        drain = asyncio.ensure_future(self._agent.pipeline.drain())
        try:
            await self._wait(drain, grace_seconds)
            if not drain.done():
                self._agent.log.warning("drain_incomplete", seconds=grace_seconds)
                self.cut_short = self._agent.pipeline.lanes.running > 0
                # While the connection can still carry what is said last: that nobody types any more.
                await self._agent.pipeline.lanes.close()
        finally:
            drain.cancel()
            await asyncio.gather(drain, return_exceptions=True)

    async def _wait(self, drain: asyncio.Future[None], grace_seconds: float) -> None:
        desired = self._desired
        until = min(self._clock.monotonic() + grace_seconds, desired.stop_at)
        while not drain.done() and (left := until - self._clock.monotonic()) > ROUNDING_SECONDS:
            desired.change.clear()
            await desired.change.or_first_of(drain, within=left)
            if desired.stopping:
                until = min(until, desired.stop_at)
            elif not desired.record.paused:
                raise Changed
