"""The fleet as the admin server sees it, from whichever replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from supervisor.core.errors import AgentNotFoundError, SupervisorError
from supervisor.core.replicas import ReplicaStatus, status_of
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus, Overview
from supervisor.management.messages import Outcome
from supervisor.management.selection import Selector
from supervisor.peers import NotThereError
from supervisor.service.control import Control
from supervisor.service.fleetwide.actions import Actions
from supervisor.service.fleetwide.insight import FleetwideInsight
from supervisor.service.fleetwide.others import Others
from supervisor.service.fleetwide.overview import put_together
from supervisor.service.fleetwide.questions import only
from supervisor.service.fleetwide.rows import Rows
from supervisor.service.fleetwide.stream import follow_all
from supervisor.store import Registry
from supervisor.telemetry.events import Wanted
from supervisor.telemetry.telling import Told, tell_alone


class Fleetwide:
    """As :class:`supervisor.admin.AdminService` asks; where one process runs the registry, that process and no more.

    Args:
        own: this replica.
    """

    def __init__(self, own: Control, registry: Registry, others: Others) -> None:
        self.settings = own.settings
        self.metrics = own.metrics
        self._own = own
        self._others = others
        self._rows = Rows(registry, others)
        self._actions = Actions(own, registry, others)
        self.insight = FleetwideInsight(own.insight, others, self.each_status)
        # What a replica answers for itself alone: others must not make it look dead, or unready.
        self.problems, self.dead = own.problems, own.dead
        # What every replica finds in the registry.
        self.add, self.change, self.remove = own.add, own.change, own.remove
        self.history, self.rollback, self.restore = own.history, own.rollback, own.restore
        self.messages, self.message = own.messages, own.message

    @property
    def closing(self) -> asyncio.Event:
        """Set once whoever follows has to end."""
        return self._own.events.closing

    def happened(
        self, wanted: Wanted, selected: Selector, *, last: int, follow: bool, after: str | None
    ) -> AsyncGenerator[Told]:
        """What happened and what happens, on all replicas."""
        if not self._others.shared:
            return tell_alone(
                self._own.events, only(self._own, wanted, selected), last=last, follow=follow, after=after
            )
        return follow_all(self._own, self._others, wanted, selected, last=last, follow=follow, after=after)

    async def overview(self) -> Overview:
        """All replicas in a few figures."""
        own = self._own.overview()
        if not self._others.shared:
            return own
        others = await self._others.ask_all(Overview, "overview")
        return put_together(own, self._others, await self._others.all(), others)

    async def replicas(self) -> list[ReplicaStatus]:
        """The supervisors that share the registry; raises RegistryError."""
        if self._others.shared:
            return list((await self.overview()).replicas)
        online = self._own.overview().agents.get(AgentState.ONLINE, 0)
        return [replace(status_of(one), online=online) for one in await self._others.all()]

    async def drain(self, replica_id: int) -> None:
        """Have a replica give its agents to the others; raises RegistryError."""
        await self._others.drain(replica_id)

    async def each_status(self) -> AsyncIterator[AgentStatus]:
        """Every agent, by id; others have their turns in between."""
        if not self._others.shared:
            async for status in self._own.each_status():
                yield status
            return
        mine = [replace(status, replica=self._others.my_id) async for status in self._own.each_status()]
        found = {status.id: status for status in mine}
        silent: dict[int, str] = {}
        for replica, answer in await self._others.ask_all(list[AgentStatus], "statuses"):
            if isinstance(answer, SupervisorError):
                silent[replica.id] = str(answer)
                continue
            for piece in answer:
                for status in piece:
                    # In the moment of its move two may have it; the one that has it online tells more.
                    if status.id not in found or found[status.id].state is not AgentState.ONLINE:
                        found[status.id] = replace(status, replica=replica.id)
                await asyncio.sleep(0)
        answered = [one.id for one in await self._others.all() if one.id not in silent]
        async for status in self._rows.unheard(answered, silent):
            # One that moved meanwhile has been told of by whoever had it.
            found.setdefault(status.id, status)
        for agent_id in sorted(found):
            yield found[agent_id]

    async def status(self, agent_id: str) -> AgentStatus:
        """One agent; raises AgentNotFoundError."""
        try:
            own = self._own.status(agent_id)
        except AgentNotFoundError:
            if not self._others.shared:
                raise
        else:
            return replace(own, replica=self._others.my_id) if self._others.shared else own
        for replica, _ in (await self._others.of([agent_id])).values():
            try:
                status = await self._others.ask_for(replica, AgentStatus, "status", agent_id)
                return replace(status, replica=replica.id)
            except NotThereError:
                # It is on its way to another one.
                break
            except SupervisorError as error:
                return await self._rows.one(agent_id, {replica.id: str(error)})
        return await self._rows.one(agent_id, {})

    async def act(self, action: str, agent_id: str) -> None:
        """Pause, resume or reload an agent; raises AgentNotFoundError, SupervisorError."""
        await self._actions.act(action, agent_id)

    async def act_on(self, action: str, agent_ids: Sequence[str]) -> dict[str, str]:
        """Do the same to many agents; those to which it could not be done, each with the reason."""
        return await self._actions.act_on(action, agent_ids)

    async def settle_all(self, action: str, numbers: Sequence[int]) -> list[Outcome]:
        """Replay, discard or cancel many messages; what became of each."""
        return await self._actions.settle_all(action, numbers)

    async def settle(self, action: str, number: int) -> None:
        """Replay, discard or cancel a message; raises MessageNotFoundError, MessageStateError, RegistryError."""
        await self._actions.settle(action, number)
