"""A Socket.IO gateway that does what a test tells it, frame by frame, over real sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

RECORDINGS = Path(__file__).parent.parent / "recordings"


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until ``condition`` holds; fail when it does not within ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def recorded(name: str, direction: str = "in", who: str = "agent") -> list[str]:
    """The frames of a recording in one direction, as they were on the wire."""
    lines = (json.loads(line) for line in (RECORDINGS / name).read_text().splitlines())
    return [line["frame"] for line in lines if line.get("dir") == direction and line.get("who") == who]


class Peer:
    """One client as the gateway sees it."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse) -> None:
        self.request = request
        self.ws = ws
        #: Every text frame that the client sent, in order.
        self.frames: list[str] = []
        self.auth: Any = None
        self.close_code: int | None = None
        self._changed = asyncio.Event()

    async def send(self, *frames: str) -> None:
        for frame in frames:
            await self.ws.send_str(frame)

    async def send_at_once(self, *frames: str) -> None:
        """Write several frames so that they arrive in one read of the client."""
        transport = self.request.transport
        assert transport is not None
        transport.write(b"".join(_encode(frame.encode()) for frame in frames))

    async def open(self, *, interval: float = 25.0, timeout: float = 20.0, **more: Any) -> None:
        """Send Engine.IO's OPEN; times in seconds."""
        opened = {"sid": "engine", "upgrades": [], "pingInterval": interval * 1000, "pingTimeout": timeout * 1000}
        await self.send("0" + json.dumps({**opened, "maxPayload": 1_000_000} | more))

    async def receive(self) -> str:
        """The next text frame of the client.

        Raises:
            ConnectionResetError: it closed the connection.
        """
        message = await self.ws.receive()
        if message.type is not WSMsgType.TEXT:
            self.close_code = self.ws.close_code
            raise ConnectionResetError
        self.frames.append(message.data)
        self._changed.set()
        return str(message.data)

    async def join(self, namespace: str = "/ws", **heartbeat: float) -> None:
        """Go through OPEN and the namespace's CONNECT."""
        await self.open(**heartbeat)
        await self.connect_frame(namespace)
        await self.send("40" + (f"{namespace}," if namespace != "/" else "") + '{"sid":"namespace"}')

    async def connect_frame(self, namespace: str = "/ws") -> None:
        """Wait for the client's CONNECT and keep what it says."""
        frame = await self.receive()
        prefix = "40" + (f"{namespace}," if namespace != "/" else "")
        assert frame.startswith(prefix), frame
        self.auth = json.loads(frame.removeprefix(prefix) or "{}")

    async def serve(self) -> None:
        """Keep receiving until the client goes."""
        while True:
            await self.receive()

    async def answer(self, reply: Callable[[str, Any], Any], namespace: str = "/ws") -> None:
        """Ack every event that wants it with what ``reply(event, payload)`` returns, until the client goes."""
        prefix = f"42{namespace},"
        while True:
            frame = await self.receive()
            if frame.startswith(prefix):
                body = frame.removeprefix(prefix)
                ack_id, _, rest = body.partition("[")
                event, *arguments = json.loads("[" + rest)
                answer = reply(event, arguments[0] if arguments else None)
                if ack_id:
                    await self.send(f"43{namespace},{ack_id}" + json.dumps([answer]))

    def abort(self) -> None:
        """Drop the TCP connection without a word."""
        transport = self.request.transport
        assert transport is not None
        transport.abort()


Script = Callable[[Peer], Awaitable[None]]


def _encode(payload: bytes) -> bytes:
    """A server's text frame; short ones only."""
    assert len(payload) < 65536
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2, "big")
    return b"\x81" + size + payload


class Gateway:
    """A WebSocket server that runs ``script`` for each client; a script that returns keeps the socket open.

    Attributes:
        peers: every client that ever got a WebSocket.
        requests: every upgrade request.
        refuse: answers an upgrade instead of the WebSocket, when set.
    """

    def __init__(self, script: Script, path: str = "/socket.io/") -> None:
        self.script = script
        self.path = path
        self.peers: list[Peer] = []
        self.requests: list[web.Request] = []
        self.refuse: Callable[[web.Request], web.StreamResponse] | None = None
        self.url = ""
        self._runner: web.AppRunner | None = None

    @property
    def open_sockets(self) -> int:
        """How many TCP connections the server holds."""
        assert self._runner is not None
        assert self._runner.server is not None
        # A connection whose script still runs stays listed after its end.
        return sum(connection.transport is not None for connection in self._runner.server.connections)

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_get(self.path, self._upgrade)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"wss://localhost:{port}" if tls else f"ws://127.0.0.1:{port}"

    async def stop(self) -> None:
        for peer in self.peers:
            if peer.request.transport is not None:
                peer.request.transport.abort()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.refuse is not None:
            return self.refuse(request)
        ws = web.WebSocketResponse(max_msg_size=16 * 1024 * 1024)
        try:
            await ws.prepare(request)
            peer = Peer(request, ws)
            self.peers.append(peer)
            await self.script(peer)
            await peer.serve()
        except ConnectionError:
            pass
        return ws


@asynccontextmanager
async def gateway(
    script: Script, *, path: str = "/socket.io/", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Gateway]:
    """A running :class:`Gateway`."""
    server = Gateway(script, path)
    await server.start(tls)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def raw_server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """A TCP server below HTTP: gives ``host:port``; the connection is cut when ``handle`` returns.

    Args:
        port: where it listens; 0 takes a free one.
    """
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks))
        await server.wait_closed()
