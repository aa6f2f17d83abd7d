"""Commands beside several replicas: the admin token goes to no address, and strangers among these learn nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from supervisor.admin import AdminServer
from supervisor.cli import live
from supervisor.core.clock import SystemClock
from supervisor.core.errors import SupervisorError
from supervisor.core.replicas import Replica
from supervisor.net import Session
from supervisor.service.fleetwide import admin_app
from supervisor.settings import Settings
from tests.support import postgres
from tests.support.stack import stack
from tests.support.together import TOKEN, Roster, Table

pytestmark = pytest.mark.timeout(120)


@dataclass
class Wire:
    """Overhears all that comes to an app at an address."""

    app: ASGIApp
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = scope["query_string"].decode()
            path = scope["raw_path"].decode() + (f"?{query}" if query else "")
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.requests.append((scope["method"], path, headers))
        await self.app(scope, receive, send)


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    server = AdminServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


@dataclass
class Beside:
    """A replica whose admin port answers, a registry whose table says where replicas are, and commands beside both."""

    url: str
    agent_id: str
    wire: Wire
    registry_url: str
    session: aiohttp.ClientSession

    def register(self, address: str) -> None:
        """Have the table name an address for the replica."""
        postgres.on_server("UPDATE replicas SET said = $1", f'{{"address":"{address}"}}', url=self.registry_url)

    async def find(self) -> live.LiveSupervisor:
        settings = Settings(registry_url=self.registry_url, admin_token=TOKEN)
        found = await asyncio.to_thread(live.find, settings)
        assert found is not None
        return found

    async def again(self, method: str, path: str, headers: dict[str, str]) -> int:
        """Send a request that was overheard; the status of the answer."""
        signed = {"Authorization": headers["authorization"]}
        async with self.session.request(method, self.url + path, headers=signed) as answer:
            return answer.status


@asynccontextmanager
async def beside(folder: Path) -> AsyncIterator[Beside]:
    with postgres.new_database() as registry_url:
        said = "INSERT INTO replicas (id, said, beat_at) VALUES (nextval('replica_id'), '{}', now()) RETURNING id"
        [(number,)] = postgres.on_server(said, url=registry_url)
        [(uuid,)] = postgres.on_server("SELECT value FROM meta WHERE key = 'uuid'", url=registry_url)
        async with stack(folder, admin_token=TOKEN) as one, aiohttp.ClientSession() as client:
            agent_id = await one.add(1)
            registry, session = one.service.registry, await Session.open()
            roster = Roster(agents={agent_id: number})
            registry.replicas = Table(roster, registry, number)
            registry.uuid = uuid
            app = admin_app(
                one.service.control, registry, session.http, SystemClock(), lambda: roster.replicas[number].address
            )
            wire = Wire(app)
            async with serving(wire) as url:
                roster.replicas[number] = Replica(number, url)
                made = Beside(url, agent_id, wire, registry_url, client)
                made.register(url)
                yield made
            await session.close()


async def test_commands_ask_by_their_mark_and_the_token_stays_here(tmp_path: Path) -> None:
    async with beside(tmp_path) as one:
        running = await one.find()
        paused = await asyncio.to_thread(running.act, one.agent_id, "pause")
        assert paused.paused
        events = await asyncio.to_thread(lambda: list(running.events({"grep": "state = online"}, last=5, follow=False)))
        assert all(isinstance(event, live.LiveEvent) for event in events)
        with pytest.raises(SupervisorError, match="a b"):
            await asyncio.to_thread(running.status, "a b")
        asked = [path for _, path, _ in one.wire.requests if not path.startswith("/replicas/")]
        assert asked[0] == "/api/v1/status"
        assert asked[1] == f"/api/v1/agents/{one.agent_id}/pause"
        assert asked[-1] == "/api/v1/agents/a%20b"
        assert all(TOKEN not in str(request) for request in one.wire.requests)
        assert all(headers["authorization"].startswith("Replica ") for _, _, headers in one.wire.requests)
        overheard = [request for request in one.wire.requests if request[1] in asked]
        assert [await one.again(*request) for request in overheard] == [403] * len(asked)


async def test_a_stranger_in_the_table_that_passes_all_on_to_the_true_one_learns_nothing(tmp_path: Path) -> None:
    async with beside(tmp_path) as one:

        async def relay(scope: Scope, receive: Receive, send: Send) -> None:
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            headers["host"] = one.url.removeprefix("http://")
            path = scope["raw_path"].decode()
            async with one.session.request(scope["method"], one.url + path, headers=headers) as answer:
                await PlainTextResponse(await answer.read(), answer.status)(scope, receive, send)

        stranger = Wire(relay)
        async with serving(stranger) as address:
            one.register(address)
            with pytest.raises(live.UnreachableError, match=f"does not answer at {address}: it refuses the question"):
                await one.find()
        assert {(method, path) for method, path, _ in stranger.requests} == {("POST", "/replicas/hello")}
        assert TOKEN not in str(stranger.requests)
        # It passed them on, in vain.
        assert {path for _, path, _ in one.wire.requests} == {"/replicas/hello"}
