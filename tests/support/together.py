"""Several supervisors as one fleet: real ones on registries of their own, and a roster that ties them together."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from supervisor.admin import AdminServer
from supervisor.core.clock import SystemClock
from supervisor.core.errors import RegistryError, ReplicaError
from supervisor.core.replicas import Replica
from supervisor.net import Session
from supervisor.service.fleetwide import admin_app
from supervisor.store import Registry
from supervisor.store.dialect.replicas import Burden, Share
from tests.support.stack import SECRET_FILE, Stack, stack

TOKEN = "t0ken-of-the-replicas"


@dataclass
class Roster:
    """Who runs the registry, as a test says."""

    replicas: dict[int, Replica] = field(default_factory=dict)
    agents: dict[str, int] = field(default_factory=dict)
    drained: list[int] = field(default_factory=list)
    fails: bool = False


class Table:
    """The roster as one replica sees it."""

    shared = True

    def __init__(self, roster: Roster, registry: Registry, my_id: int) -> None:
        self._roster = roster
        self._registry = registry
        self.my_id = my_id

    def _look(self) -> Roster:
        if self._roster.fails:
            raise RegistryError("the registry cannot be read")
        return self._roster

    async def list(self) -> Sequence[Replica]:
        counts = list(self._look().agents.values())
        return [
            replace(one, me=one.id == self.my_id, agents=counts.count(one.id))
            for one in sorted(self._roster.replicas.values(), key=lambda one: one.id)
        ]

    async def owners(self, agent_ids: Sequence[str] | None = None) -> Mapping[str, int]:
        owners = self._look().agents
        return {one: number for one, number in owners.items() if agent_ids is None or one in agent_ids}

    @property
    def living(self) -> int:
        return len(self._roster.replicas)

    async def unheard(self, answered: Sequence[int]) -> Mapping[str, int | None]:
        owners = self._look().agents
        rows = [record.id for record in await self._registry.agents()]
        return {one: owners.get(one) for one in rows if owners.get(one) not in answered}

    @property
    def takers(self) -> int:
        return 0

    @property
    def draining(self) -> bool:
        return self.my_id in self._roster.drained

    @property
    def buried(self) -> int:
        return 0

    @property
    def heard_down(self) -> Mapping[int, frozenset[str]]:
        return {}

    def tell_down(self, hosts: frozenset[str]) -> None:
        return

    async def share(self) -> Share:
        return Share(())

    async def ready(self, agent_id: str) -> None:
        return

    async def refused(self, agent_id: str) -> None:
        return

    async def hand_over(self, agent_id: str, *, heard_all_for: float | None) -> None:
        return

    async def token(self, agent_id: str) -> tuple[bytes, float] | None:
        return None

    async def keep_token(self, agent_id: str, sealed: bytes | None, age_seconds: float) -> None:
        return

    async def burden(self) -> Burden:
        return Burden()

    async def leave(self) -> None:
        return

    async def drain(self, replica_id: int) -> None:
        if replica_id not in self._look().replicas:
            raise ReplicaError(f"There is no replica {replica_id}")
        self._roster.drained.append(replica_id)


@dataclass
class Member:
    """One of the supervisors, and the port at which it answers for all."""

    number: int
    stack: Stack
    server: AdminServer
    registry: Registry


@dataclass
class Together:
    """What a test plays with."""

    roster: Roster
    members: dict[int, Member]
    session: aiohttp.ClientSession

    async def add(self, number: int, agent: int, **fields: Any) -> str:
        """Have one of them run a new agent, which all know of."""
        member = self.members[number]
        identity = await member.stack.add(agent, **fields)
        for other in self.members.values():
            if identity not in {one.id for one in await other.registry.agents()}:
                record = await member.stack.service.registry.agent(identity)
                await other.registry.add_agent(replace(record, secret=f"file:{member.stack.folder / SECRET_FILE}"))
        self.roster.agents[identity] = number
        return identity

    def url(self, number: int) -> str:
        return self.members[number].server.url

    async def ask(
        self, number: int, method: str, path: str, body: Any = None, *, token: str = TOKEN, **given: Any
    ) -> tuple[int, Any]:
        """Ask one of them."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} if token else {}
        raw = None if body is None else json.dumps(body).encode()
        async with self.session.request(method, self.url(number) + path, data=raw, headers=headers, **given) as answer:
            text = await answer.text()
            assert TOKEN not in text
            return answer.status, json.loads(text) if text else None

    async def silence(self, number: int) -> None:
        """End one's port, as if its process were gone; the registry still has it."""
        await self.members[number].server.stop()


def _address(roster: Roster, number: int) -> str:
    return roster.replicas[number].address


@asynccontextmanager
async def together(folder: Path, count: int = 2, **given: Any) -> AsyncIterator[Together]:
    """So many supervisors with an admin token, numbered from 1, as one fleet."""
    values = {"admin_token": TOKEN, **given}
    roster, members = Roster(), dict[int, Member]()
    async with AsyncExitStack() as ending:
        session = await Session.open()
        ending.push_async_callback(session.close)
        client = await ending.enter_async_context(aiohttp.ClientSession())
        for number in range(1, count + 1):
            own = folder / f"replica-{number}"
            own.mkdir()
            running = await ending.enter_async_context(stack(own, **values))
            registry = await Registry.open(f"sqlite+aiosqlite:///{folder / 'rows.db'}", upgrade=True)
            ending.push_async_callback(registry.close)
            registry.replicas = Table(roster, registry, number)
            where = partial(_address, roster, number)
            app = admin_app(running.service.control, registry, session.http, SystemClock(), where)
            server = AdminServer(app, "127.0.0.1", 0)
            await server.start()
            ending.push_async_callback(server.stop)
            # Whoever follows would hold the port up.
            ending.callback(running.service.control.events.close)
            roster.replicas[number] = Replica(number, server.url, version="1", host=f"host-{number}", pid=number)
            members[number] = Member(number, running, server, registry)
        yield Together(roster, members, client)
