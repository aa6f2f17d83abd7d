"""Agents that go from one process to another: connected there first, and let go of here once nothing of them runs.

Who comes says so when it is connected; until it is this process's own, what it hears is kept, and nothing is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from supervisor.core.errors import RegistryError
from supervisor.core.tasks import TaskSet, kept
from supervisor.fleet.ownership import Owned
from supervisor.fleet.removals import Removals
from supervisor.fleet.runner import Runner
from supervisor.fleet.shared import Shared
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger

#: How long to wait before the registry is told again, where it could not be.
RETRY_SECONDS = 1.0


class Handovers:
    """The agents of a fleet that come and go.

    Args:
        runners, tasks: of the fleet, by the ids of its agents; who has gone is taken out.
    """

    def __init__(
        self,
        registry: Registry,
        shared: Shared,
        runners: dict[str, Runner],
        tasks: dict[str, asyncio.Task[None]],
        removals: Removals,
    ) -> None:
        self._registry = registry
        self._shared = shared
        self._runners = runners
        self._agent_tasks = tasks
        self._removals = removals
        self._going: set[str] = set()
        self._gone: set[str] = set()
        self._tasks = TaskSet()
        self._log = get_logger("supervisor.fleet")

    def is_going(self, agent_id: str) -> bool:
        """Whether an agent is being let go of."""
        return agent_id in self._going

    def ready(self, agent_id: str) -> None:
        """One that comes is connected, or cannot be: its owner is told."""
        self._tasks.spawn(self._told(partial(self._registry.replicas.ready, agent_id)), f"ready {agent_id}")

    def refused(self, agent_id: str) -> None:
        """The platform will not have one that comes connected twice: its owner is told."""
        self._tasks.spawn(self._told(partial(self._registry.replicas.refused, agent_id)), f"refused {agent_id}")

    @property
    def unseen(self) -> bool:
        """Whether any has gone since the registry was last looked at: it may have come back meanwhile."""
        return bool(self._gone)

    def look(self) -> None:
        """The registry is looked at from now on: what has gone before is gone there too."""
        self._gone.clear()

    def has_gone(self, agent_id: str) -> bool:
        """Whether an agent has gone since the look began, so that what it tells of it may be over."""
        return agent_id in self._gone

    def follow(self, owned: Owned) -> None:
        """Take what is this process's now, and let go of what is not to be."""
        for agent_id in owned.own.keys() & self._runners.keys():
            if (coming := self._runners[agent_id].coming).waits:
                coming.own(missed=agent_id not in owned.handed)
                if agent_id in owned.left:
                    self._shared.metrics.took_over()
        for agent_id in (owned.going & self._runners.keys()) - self._going:
            self._going.add(agent_id)
            grace = self._shared.settings.drain_seconds
            self._runners[agent_id].going.begin(grace, owned.ready.get(agent_id))
            self._tasks.spawn(self._give(agent_id), f"hand over {agent_id}")

    async def _give(self, agent_id: str) -> None:
        """Let go of an agent, once what runs of it has ended and is written."""
        began = self._shared.clock.monotonic()
        await kept(partial(asyncio.wait, [self._agent_tasks[agent_id]]))
        runner = self._runners[agent_id]
        await self._told(partial(self._let_go, agent_id, runner.going.heard_all_for))
        self._log.info("agent_handed_over", agent=agent_id)
        del self._runners[agent_id]
        outcome = "cut_short" if runner.cut_short else "ok"
        self._shared.metrics.handed_over(outcome, self._shared.clock.monotonic() - began)
        del self._agent_tasks[agent_id]
        self._removals.forget(runner)
        self._going.discard(agent_id)
        self._gone.add(agent_id)

    async def _let_go(self, agent_id: str, heard_all_for: float | None) -> None:
        # Everything of it that was asked for is written first.
        await self._shared.journal.flush()
        await self._registry.replicas.hand_over(agent_id, heard_all_for=heard_all_for)

    async def _told(self, tell: Callable[[], Awaitable[None]]) -> None:
        """Tell the registry something until it takes it."""
        while True:
            try:
                await tell()
            except RegistryError as error:
                self._log.warning("hand_over_not_noted", reason=str(error))
                await self._shared.clock.sleep(RETRY_SECONDS)
            else:
                return

    async def close(self) -> None:
        """Tell nothing more."""
        await self._tasks.cancel()
