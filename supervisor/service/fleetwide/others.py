"""The other replicas of the registry: who they are, whose agents are whose, and the way to ask them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, TypeVar

import msgspec

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError, SupervisorError
from supervisor.core.replicas import Replica
from supervisor.peers import Peers, PeerSilentError
from supervisor.store.dialect.replicas import ReplicaTable

NO_TOKEN: Final = "without SUPERVISOR_ADMIN_TOKEN replicas do not ask each other: each answers for its own agents"  # noqa: S105

_OTHER_VERSION: Final = "what replica {0.id} answers cannot be read here: it is of version {0.version}"
T = TypeVar("T")


class Others:
    """The replicas beside this one; none where the registry is for one process.

    What the registry said last holds while it does not answer: to look at a fleet needs no database.

    Args:
        table: who runs the registry.
        peers: the way to ask them; None where there is no token to prove who asks.
    """

    def __init__(self, table: ReplicaTable, peers: Peers | None, clock: Clock) -> None:
        self._table = table
        self._peers = peers
        self._clock = clock
        self._all: Sequence[Replica] = ()
        self._owners: dict[str, int] = {}

    @property
    def shared(self) -> bool:
        """Whether there may be any."""
        return self._table.shared

    @property
    def my_id(self) -> int | None:
        """The number of this one, where there may be others."""
        return self._table.my_id if self.shared else None

    async def all(self) -> Sequence[Replica]:
        """Every replica, this one too, in order of their numbers."""
        try:
            self._all = await self._table.list()
        except RegistryError:
            return self._all
        if self._peers is not None:
            self._peers.forget({one.id for one in self._all})
        return self._all

    async def replicas(self) -> Sequence[Replica]:
        """Every other replica."""
        return [one for one in await self.all() if not one.me] if self.shared else ()

    async def owners(self, agent_ids: Sequence[str]) -> Mapping[str, int]:
        """The number of the replica that runs each of these agents, by the agent's id."""
        try:
            found = await self._table.owners(agent_ids)
        except RegistryError:
            return {one: self._owners[one] for one in agent_ids if one in self._owners}
        self._owners |= found
        return found

    async def unheard(self, answered: Sequence[int]) -> Mapping[str, int | None]:
        """The agents that none of these replicas runs, each with the one that does; raises RegistryError."""
        return await self._table.unheard(answered)

    async def of(self, agent_ids: Sequence[str]) -> dict[int, tuple[Replica, list[str]]]:
        """The other replicas that run some of these agents, each with those, by their numbers."""
        by_number = {one.id: one for one in await self.replicas()}
        found: dict[int, tuple[Replica, list[str]]] = {}
        if not by_number:
            return found
        owners = await self.owners(agent_ids)
        for agent_id in agent_ids:
            if (replica := by_number.get(owners.get(agent_id, 0))) is not None:
                found.setdefault(replica.id, (replica, []))[1].append(agent_id)
        return found

    async def ask(
        self, replica: Replica, kind: type[T], name: str, arguments: object = None, **given: float
    ) -> list[T]:
        """The pieces of one's answer, each of a kind; raises as :meth:`supervisor.peers.Peers.ask` does."""
        if self._peers is None:
            raise PeerSilentError(NO_TOKEN)
        pieces = await self._peers.ask(replica, name, arguments, **given)
        try:
            return [msgspec.json.decode(piece, type=kind) for piece in pieces]
        except msgspec.MsgspecError:
            raise PeerSilentError(_OTHER_VERSION.format(replica)) from None

    async def ask_for(self, replica: Replica, kind: type[T], name: str, arguments: object, **given: float) -> T:
        """The same of an answer that is one piece."""
        [piece] = await self.ask(replica, kind, name, arguments, **given)
        return piece

    async def ask_all(
        self, kind: type[T], name: str, arguments: object = None
    ) -> list[tuple[Replica, list[T] | SupervisorError]]:
        """Ask every other replica at once; of one that gives no answer, why."""

        async def one(replica: Replica) -> tuple[Replica, list[T] | SupervisorError]:
            try:
                return replica, await self.ask(replica, kind, name, arguments)
            except SupervisorError as error:
                return replica, error

        return await asyncio.gather(*map(one, await self.replicas()))

    async def follow(self, replica: Replica, kind: type[T], name: str, arguments: object) -> AsyncGenerator[T]:
        """An answer of one as it comes; raises as :meth:`supervisor.peers.Peers.follow` does."""
        if self._peers is None:
            raise PeerSilentError(NO_TOKEN)
        async with aclosing(self._peers.follow(replica, name, arguments)) as pieces:
            async for piece in pieces:
                try:
                    yield msgspec.json.decode(piece, type=kind)
                except msgspec.MsgspecError:
                    raise PeerSilentError(_OTHER_VERSION.format(replica)) from None

    def heard_at(self, replica: Replica) -> float:
        """When a replica was last heard of, by us or by the registry; seconds since the epoch."""
        heard = self._peers.heard_at(replica.id) if self._peers is not None else None
        return max(heard or 0.0, self._clock.now() - replica.beat_age_seconds)

    async def drain(self, replica_id: int) -> None:
        """Have one give its agents to the others; raises RegistryError."""
        await self._table.drain(replica_id)
