"""Agents of which no replica tells, as their rows have them: what is wanted is known, how they are is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.core.replicas import Replica
from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus
from supervisor.core.trouble import UNKNOWN
from supervisor.service.fleetwide.others import Others
from supervisor.store import Registry

#: Rows that are looked at in one turn of the event loop.
_AT_ONCE = 500


class Rows:
    """Shows agents by their rows; those that it showed last, while the registry cannot be read."""

    def __init__(self, registry: Registry, others: Others) -> None:
        self._registry = registry
        self._others = others
        self._last: Sequence[tuple[AgentRecord, int | None]] = ()

    async def unheard(self, answered: Sequence[int], silent: Mapping[int, str]) -> AsyncIterator[AgentStatus]:
        """Every agent of which none of these replicas tells.

        Args:
            silent: the replicas that do not answer, each with the reason.
        """
        with contextlib.suppress(RegistryError):
            self._last = await self._find(answered)
        replicas = {one.id: one for one in await self._others.all()} if self._last else {}
        for number, (record, owner) in enumerate(self._last):
            yield self._shown(record, replicas.get(owner or 0), silent)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _find(self, answered: Sequence[int]) -> Sequence[tuple[AgentRecord, int | None]]:
        owners = await self._others.unheard(answered)
        # Where all is well there are none, and no row is read.
        records = await self._registry.agents() if owners else []
        return [(record, owners[record.id]) for record in records if record.id in owners]

    async def one(self, agent_id: str, silent: Mapping[int, str]) -> AgentStatus:
        """One agent; raises AgentNotFoundError, RegistryError."""
        record = await self._registry.agent(agent_id)
        replicas = {one.id: one for one in await self._others.all()}
        owners = await self._others.owners([agent_id])
        return self._shown(record, replicas.get(owners.get(agent_id, 0)), silent)

    def _shown(self, record: AgentRecord, replica: Replica | None, silent: Mapping[int, str]) -> AgentStatus:
        state = AgentState.PAUSED if record.paused else AgentState.STOPPED
        if replica is None:
            why, trouble = "no replica runs it yet", "" if record.paused else UNKNOWN
        else:
            why, trouble = silent.get(replica.id, f"replica {replica.id} takes it up just now"), UNKNOWN
        return AgentStatus(
            id=record.id,
            name=record.name,
            handler=record.handler,
            state=state,
            reason=record.problem or why,
            settings=record.settings,
            labels=record.labels,
            paused=record.paused,
            secret=record.secret_place,
            trouble=trouble,
            replica=replica.id if replica is not None else None,
            stale_since=self._others.heard_at(replica) if replica is not None and replica.id in silent else None,
        )
