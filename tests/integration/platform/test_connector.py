"""From a token to a registered agent: which namespace, what proves it, and nothing is left of what comes to nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import ConnectError, ConnectionLostError, SendRefusedError, TokenError, Verdict
from supervisor.net.session import Session
from supervisor.platform.connection import Connection
from supervisor.platform.connector import Caller, Connector
from supervisor.platform.endpoint import Endpoint
from supervisor.platform.hosts.api import PlatformApi
from supervisor.platform.hosts.engine_paths import EnginePaths
from supervisor.platform.hosts.facts import HostFacts
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.tokens import Grant
from tests.support.connecting import AGENT, OpenTransport, make_test_grant
from tests.support.gateway import Gateway, Peer, Script, eventually, gateway

PRESENCE = {"type": "agent", "agentId": AGENT, "status": "online"}


async def granted() -> Grant:
    return make_test_grant()


async def send_presence(peer: Peer, **fields: Any) -> None:
    await peer.send('42/ws,["presence:update",' + json.dumps(PRESENCE | fields) + "]")


async def answer(peer: Peer) -> None:
    await peer.answer(lambda _event, _payload: {"success": True, "onlineUsers": ["u1", 2]})


async def register(peer: Peer) -> None:
    """A platform that is well."""
    await peer.join()
    await send_presence(peer, conversationId="home")
    await answer(peer)


class Attempts:
    """A connector and the server that it connects to."""

    def __init__(self, connector: Connector, server: Gateway) -> None:
        self._connector = connector
        self._server = server
        self.connected = 0

    async def open(
        self, *namespaces: str, grants: Callable[[], Awaitable[Grant]] = granted, prove: bool = False
    ) -> Connection:
        endpoint = Endpoint(self._server.url, namespaces or ("/ws",), "/socket.io", "auth", None)
        return await self._connector.open(endpoint, grants, prove=prove, on_connected=self._count)

    def _count(self, _connection: Connection) -> None:
        self.connected += 1

    async def fails(self, *namespaces: str, **options: Any) -> ConnectError:
        """An attempt that must fail; the server holds no socket afterwards."""
        with pytest.raises(ConnectError) as failure:
            await self.open(*namespaces, **options)
        await self.nothing_is_open()
        return failure.value

    async def nothing_is_open(self) -> None:
        """The server holds no socket."""
        await eventually(lambda: self._server.open_sockets == 0)


@asynccontextmanager
async def way(transport: OpenTransport, script: Script, timeout_seconds: float = 5.0) -> AsyncIterator[Attempts]:
    gates = Gates(connect_rate=1000, auth_rate=1, connect_concurrency=4, auth_concurrency=1, clock=SystemClock())
    clock, session = SystemClock(), await Session.open()
    paths, facts = EnginePaths(PlatformApi(session.http, clock), clock), HostFacts()
    async with gateway(script) as server, transport() as opener:
        connector = Connector(
            opener, gates, paths, facts, Caller(AGENT, lambda *_: None), timeout_seconds=timeout_seconds
        )
        try:
            yield Attempts(connector, server)
        finally:
            await gates.close()
            await session.close()


async def test_a_connection_is_registered_by_its_own_presence(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        for fields in ({"agentId": "f" * 24}, {"type": "user"}, {"status": "offline"}, {"agentId": None}):
            await send_presence(peer, **fields)
        await asyncio.sleep(0.05)
        await send_presence(peer, conversationId="home")
        await answer(peer)

    async with way(transport, script) as made:
        connection = await made.open()
        assert (connection.connected, connection.namespace, connection.conversation_id) == (True, "/ws", "home")
        assert made.connected == 1
        assert await connection.online_users("home", 5) == ["u1"]
        await connection.join("c", 5)
        assert await connection.drain(5)
        await connection.close()
        assert not await connection.drain(5), "what was lost is not certain"


async def test_only_an_undeclared_namespace_moves_on_to_the_next(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        frame = await peer.receive()
        namespace = frame[2:].partition(",")[0]
        if namespace == "/ws":
            await peer.send('40/ws,{"sid":"s"}')
            await send_presence(peer)
        elif namespace == "/full":
            await peer.send('44/full,{"message":"full"}')
        else:
            await peer.send(f'44{namespace},{{"message":"Invalid namespace"}}')

    async with way(transport, script) as made:
        connection = await made.open("/one", "/two", "/ws", "/full")
        assert connection.namespace == "/ws"
        await connection.close()
        assert not (await made.fails("/full", "/two")).invalid_namespace
        failure = await made.fails("/one", "/two")
        assert failure.verdict is Verdict.REJECT
        assert failure.reason == "Invalid namespace; tried /one, /two: set SUPERVISOR_WS_NAMESPACE"
        assert made.connected == 1


async def test_without_a_presence_it_is_deaf(transport: OpenTransport) -> None:
    async with way(transport, lambda peer: peer.join(), timeout_seconds=0.3) as made:
        failure = await made.fails()
        assert (failure.deaf, failure.verdict) == (True, Verdict.RETRY)
        assert failure.reason == ("connected, but no presence of its own within 0.3 s, and no answer to a heartbeat")


@pytest.mark.parametrize(("end", "kicked"), [("41/ws,", True), ("1", False)])
async def test_an_end_before_the_registration(transport: OpenTransport, end: str, kicked: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await asyncio.sleep(0.05)
        await peer.send(end)

    async with way(transport, script) as made:
        failure = await made.fails()
        assert failure.kicked is kicked
        assert failure.verdict is (Verdict.REAUTHENTICATE if kicked else Verdict.RETRY)


@pytest.mark.parametrize("acks", [True, False])
async def test_a_presence_that_may_be_anothers_wants_an_answer(transport: OpenTransport, acks: bool) -> None:
    asked: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.join()
        await send_presence(peer)
        asked.append(await peer.receive())
        if acks:
            await peer.send('43/ws,1[{"success":false,"error":"no such conversation"}]')
        else:
            await peer.send("41/ws,")

    async with way(transport, script) as made:
        if acks:
            await (await made.open(prove=True)).close()
        else:
            failure = await made.fails(prove=True)
            assert (failure.kicked, failure.verdict) == (True, Verdict.REAUTHENTICATE)
        assert asked == ['42/ws,1["conversation:online",{"conversationId":"' + "0" * 24 + '"}]']


async def test_without_a_token_nothing_is_opened(transport: OpenTransport) -> None:
    async def none() -> Grant:
        raise TokenError("401 Invalid credentials", Verdict.REJECT)

    async with way(transport, register) as made:
        with pytest.raises(TokenError):
            await made.open(grants=none)
        assert made.connected == 0


@pytest.mark.parametrize("turns", [0, 3, 20, 60])
async def test_an_attempt_that_is_cancelled_leaves_nothing_open(transport: OpenTransport, turns: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await asyncio.sleep(60)

    async with way(transport, script) as made:
        attempt = asyncio.create_task(made.open())
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns == 60:
            await eventually(lambda: made.connected)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await made.nothing_is_open()


async def test_a_question_that_is_refused_says_whether_to_ask_again(transport: OpenTransport) -> None:
    answers: list[Any] = [
        {"success": False, "error": "Entity with ID c not found"},
        {"success": False, "error": "Database is down"},
        {"success": False},
        "yes",
    ]

    async def script(peer: Peer) -> None:
        await peer.join()
        await send_presence(peer)
        await peer.answer(lambda _event, _payload: answers.pop(0))

    async with way(transport, script) as made:
        connection = await made.open()
        for verdict in (Verdict.REJECT, Verdict.RETRY, Verdict.RETRY, Verdict.RETRY):
            with pytest.raises(SendRefusedError) as failure:
                await connection.join("c", 5)
            assert failure.value.verdict is verdict
        await connection.close()
        with pytest.raises(ConnectionLostError):
            await connection.leave("c", 5)


async def test_what_runs_beside_a_connection_ends_with_it(transport: OpenTransport) -> None:
    async with way(transport, register) as made:
        connection = await made.open()
        connection.start_task(asyncio.Event().wait(), "chore")  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() if task.get_name() == f"chore {AGENT}"]
        await connection.close()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == f"chore {AGENT}"]
