"""The transport against python-socketio's own server, under uvloop too, and what it relies on in its libraries."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import engineio
import pytest
import socketio
import uvicorn
import uvloop
from aiohttp import WSMsgType

from supervisor.net import Session
from supervisor.platform.transport.wires.frames import Open
from supervisor.platform.transport.wires.socketio import library_open
from tests.support import virtual
from tests.support.connecting import AGENT, TOKEN, OpenTransport, Received, connect
from tests.support.gateway import Peer, eventually, gateway

NAMESPACE = "/dev/aiwm/chat"


class Platform:
    """A platform made with python-socketio: acks what it gets, and shows what it got."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncServer(async_mode="asgi", ping_interval=1, ping_timeout=1)
        self.tokens: list[str] = []
        self.got: list[tuple[str, Any]] = []
        self.gone: list[str] = []
        self.url = ""
        self.sio.on("connect", self._connect, namespace=NAMESPACE)
        self.sio.on("disconnect", self._disconnect, namespace=NAMESPACE)
        self.sio.on("*", self._any, namespace=NAMESPACE)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
        self.tokens.append(auth["token"])
        presence = {"type": "agent", "agentId": AGENT, "status": "online"}
        await self.sio.emit("presence:update", presence, namespace=NAMESPACE)

    async def _disconnect(self, sid: str, reason: str) -> None:
        self.gone.append(reason)

    async def _any(self, event: str, sid: str, payload: Any) -> dict[str, Any]:
        self.got.append((event, payload))
        if event == "kick me":
            await self.sio.disconnect(sid, namespace=NAMESPACE)
        return {"success": True, "echo": payload}


@asynccontextmanager
async def platform() -> AsyncIterator[Platform]:
    made = Platform()
    config = uvicorn.Config(
        socketio.ASGIApp(made.sio), port=0, log_level="error", ws="websockets-sansio", lifespan="off"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    made.url = f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        await made.sio.shutdown()
        server.should_exit = True
        await serving


async def live_a_life(transport: OpenTransport, *, idle_seconds: float = 0.0) -> None:
    async with platform() as server, transport() as made:
        events = Received()
        socket = await connect(made, server.url, events, namespace=NAMESPACE)
        assert server.tokens == [TOKEN]
        await eventually(lambda: "presence:update" in events.names)
        answers = await asyncio.gather(*(socket.call("message:send", {"n": n}, 5) for n in range(100)))
        assert answers == [{"success": True, "echo": {"n": n}} for n in range(100)]
        socket.emit("message:typing", {"isTyping": True})
        await eventually(lambda: server.got[-1] == ("message:typing", {"isTyping": True}))
        await asyncio.sleep(idle_seconds)
        assert socket.connected
        await socket.close()
        await eventually(lambda: server.gone == ["client disconnect"])
        again = await connect(made, server.url, namespace=NAMESPACE)
        again.emit("kick me", {})
        async with asyncio.timeout(5):
            assert await again.closed == "server disconnect"


async def test_a_life_against_python_socketios_own_server(transport: OpenTransport) -> None:
    # Longer than interval and time-out, which the server has in whole seconds: without heartbeats both would give up.
    await live_a_life(transport, idle_seconds=2.2)


def test_a_life_under_uvloop(transport: OpenTransport) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(live_a_life(transport))


class StrictWebSocket:
    """Has exactly what the reference wire shows the library; all else fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.inbox: asyncio.Queue[aiohttp.WSMessage] = asyncio.Queue()
        self.sent: list[str] = []
        self.options: dict[str, Any] = {}
        self.url = ""

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("__"):
            object.__getattribute__(self, "asked").append(name)
        return object.__getattribute__(self, name)

    closed = False

    async def ws_connect(self, url: str, **options: Any) -> StrictWebSocket:
        self.url, self.options = url, options
        return self

    async def receive(self) -> aiohttp.WSMessage:
        return await self.inbox.get()

    async def send_str(self, text: str) -> None:
        self.sent.append(text)

    async def close(self) -> None:
        self.inbox.put_nowait(aiohttp.WSMessage(WSMsgType.CLOSED, None, None))

    def frame(self, text: str) -> None:
        """A frame of the server."""
        self.inbox.put_nowait(aiohttp.WSMessage(WSMsgType.TEXT, text, None))


async def library(ws: StrictWebSocket, opened: str) -> socketio.AsyncClient:
    """python-socketio's client over ``ws``, connected as the reference wire does it."""
    client = socketio.AsyncClient(reconnection=False, handle_sigint=False, http_session=ws, timestamp_requests=False)
    ws.frame(opened)
    await client.connect(
        "ws://host:1?token=t",
        headers={"Authorization": "x"},
        auth={"token": "t"},
        transports=["websocket"],
        namespaces=["/ws"],
        socketio_path="/engine",
        wait=False,
    )
    return client


async def test_python_socketio_asks_of_its_session_and_websocket_what_the_wire_gives() -> None:
    ws = StrictWebSocket()
    client = await library(ws, library_open(Open("s", 60_000, 1)))
    ws.frame("2probe")
    await eventually(lambda: ws.sent == ['40/ws,{"token":"t"}', "3probe"])
    assert ws.url == "ws://host:1/engine/?token=t&transport=websocket&EIO=4"
    assert ws.options["headers"] == {"Authorization": "x"}
    # Both loops are tasks under these names, and both end by themselves when the WebSocket does.
    loops = [client.eio.read_loop_task, client.eio.write_loop_task]
    assert all(isinstance(loop, asyncio.Task) for loop in loops)
    ws.inbox.put_nowait(aiohttp.WSMessage(WSMsgType.CLOSED, None, None))
    await asyncio.wait_for(asyncio.gather(*loops), 2)
    assert client.eio not in engineio.base_client.connected_clients
    used = {"ws_connect", "receive", "send_str", "close", "closed"}
    assert set(ws.asked) - {"inbox", "sent", "options", "url", "asked", "frame"} <= used


@pytest.mark.parametrize("shown", [True, False], ids=["as it is shown OPEN", "as the server says it"])
def test_the_library_waits_for_a_ping_as_long_as_the_server_promised(shown: bool) -> None:
    """Its write loop would give up 5 s after the larger of interval and time-out."""
    opened = Open("s", 25_000, 20_000)
    plain = {"sid": "s", "upgrades": [], "pingInterval": 25_000, "pingTimeout": 20_000}

    async def wait(loop: virtual.VirtualLoop) -> None:
        ws = StrictWebSocket()
        client = await loop.complete(library(ws, library_open(opened) if shown else "0" + json.dumps(plain)))
        for _ in range(3):
            await loop.advance(44.9)
            ws.frame("2")
            await loop.settle()
        assert ws.sent[1:] == (["3"] * 3 if shown else [])
        await ws.close()
        await loop.complete(client.disconnect())

    virtual.run(wait)


async def test_aiohttp_has_written_a_frame_when_sending_it_first_suspends() -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()
        await release.wait()
        peer.request.transport.resume_reading()

    suspended = 0
    async with gateway(script) as server, aiohttp.ClientSession() as session:
        ws = await session.ws_connect(f"{server.url}/socket.io/")
        await eventually(lambda: server.peers)
        for number in range(200):
            sending = ws.send_frame(f"{number:06}".encode() + b"x" * 50_000, WSMsgType.TEXT)
            try:
                emptier = sending.send(None)
            except StopIteration:
                continue
            sending.close()
            emptier._asyncio_future_blocking = False
            suspended += 1
        assert suspended > 0
        release.set()
        await eventually(lambda: len(server.peers[0].frames) == 200)
        assert [int(frame[:6]) for frame in server.peers[0].frames] == list(range(200))
        await ws.close()


async def test_aiohttp_lets_us_at_the_transport_of_a_websocket() -> None:
    async def script(peer: Peer) -> None:
        await peer.open()

    async with gateway(script) as server, aiohttp.ClientSession() as session:
        ws = await session.ws_connect(f"{server.url}/socket.io/")
        connection = ws._response.connection
        assert connection is not None
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() == 0
        connection.transport.abort()
        assert (await ws.receive()).type is WSMsgType.TEXT
        assert (await ws.receive()).type is WSMsgType.CLOSED
        ws._response.close()
        await eventually(lambda: server.open_sockets == 0)


async def test_tls_is_always_verified_and_nothing_limits_or_remembers() -> None:
    made = await Session.open()
    try:
        connector = made.http.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        assert connector.limit == 0
        assert connector.limit_per_host == 0
        context = connector._ssl
        assert isinstance(context, ssl.SSLContext)
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert isinstance(made.http.cookie_jar, aiohttp.DummyCookieJar)
    finally:
        await made.close()
