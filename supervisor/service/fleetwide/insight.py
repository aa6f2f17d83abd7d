"""What is known of agents beside their states, of whichever replica's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from supervisor.core.activity import Minute
from supervisor.core.errors import AgentNotFoundError
from supervisor.core.status import AgentStatus, CheckResult
from supervisor.service.fleetwide.others import Others
from supervisor.service.insight import Insight

T = TypeVar("T")


class FleetwideInsight:
    """As :class:`supervisor.admin.interface.AgentInsight` says it.

    Args:
        own: of this replica.
        each_status: every agent of the fleet.
    """

    def __init__(self, own: Insight, others: Others, each_status: Callable[[], AsyncIterator[AgentStatus]]) -> None:
        self._own = own
        self._others = others
        self._each_status = each_status
        # What the registry and the code know is the same everywhere.
        self.usage, self.handlers, self.removals = own.usage, own.handlers, own.removals

    async def activity(self, agent_id: str) -> list[Minute]:
        """What one did in each minute of the last hour; raises AgentNotFoundError, SupervisorError."""
        return await self._of(agent_id, "activity", self._own.activity, list[Minute])

    async def conversations(self, agent_id: str) -> list[str]:
        """The ids of the conversations that one is in; raises AgentNotFoundError, SupervisorError."""
        return await self._of(agent_id, "conversations", self._own.conversations, list[str])

    async def examine(self, agent_id: str | None) -> list[CheckResult]:
        """What ``supervisor doctor`` finds, of one agent or of the fleet; raises AgentNotFoundError."""
        if not self._others.shared:
            return await self._own.examine(agent_id)
        return await self._own.examine(agent_id, {status.id: status async for status in self._each_status()})

    async def _of(self, agent_id: str, name: str, own: Callable[[str], T], kind: type[T]) -> T:
        try:
            return own(agent_id)
        except AgentNotFoundError:
            for replica, _ in (await self._others.of([agent_id])).values():
                return await self._others.ask_for(replica, kind, name, agent_id)
            raise
