"""A wrong engine path, where an upgrade is answered with nothing (docs/protocol.md#711-a-wrong-engine-path)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import ConnectError
from supervisor.net.session import Session
from supervisor.platform.hosts.api import PlatformApi
from supervisor.platform.hosts.engine_paths import EnginePaths
from supervisor.platform.transport import Target, Transport, choose_wire
from supervisor.sandbox import Sandbox
from tests.support.gateway import raw_server

NOWHERE = "ws://127.0.0.1:9"


@asynccontextmanager
async def made() -> AsyncIterator[tuple[Session, EnginePaths]]:
    clock, session = SystemClock(), await Session.open()
    try:
        yield session, EnginePaths(PlatformApi(session.http, clock), clock)
    finally:
        await session.close()


async def test_a_plain_request_tells_a_right_path_from_a_wrong_one() -> None:
    async with Sandbox(profile="v3") as sandbox, made() as (_, paths):
        for path, expected in (("/agent/socket.io", True), ("/chat/socket.io", True), ("/socket.io", False)):
            assert await paths.speaks(sandbox.ws_url, path, proxy=None) is expected
        assert await paths.speaks(NOWHERE, "/socket.io", proxy=None) is None


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, '{"statusCode":404,"message":"Cannot GET /socket.io/"}', False),
        (200, '0{"sid":"engine"}', True),
        (200, "<html>welcome</html>", False),
        (400, '{"code":0,"message":"Transport unknown"}', True),
        (400, "<html>bad request</html>", None),
        (403, "forbidden", None),
        (502, "bad gateway", None),
    ],
)
async def test_a_fleet_asks_once_and_only_what_is_certain_counts(status: int, body: str, expected: bool | None) -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        head = f"HTTP/1.1 {status} It\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body.encode())
        await writer.drain()

    async with raw_server(handle) as place, made() as (_, paths):
        every = [paths.speaks(f"ws://{place}/chat", "/my/socket.io", proxy=None) for _ in range(20)]
        assert set(await asyncio.gather(*every)) == {expected}
        assert await paths.speaks(f"ws://{place}/other", "/my/socket.io", proxy=None) is expected
        assert asked == [b"GET /my/socket.io/?EIO=4&transport=polling HTTP/1.1"]


async def test_an_upgrade_never_goes_over_a_connection_that_has_carried_a_request() -> None:
    """On such a one the platform lets it hang; on a fresh one it ends it after a second."""
    async with Sandbox() as sandbox, made() as (session, _):
        # Leaves a kept-alive connection behind, as a token request does.
        async with session.http.get(f"{sandbox.base_url}/sandbox/info") as answer:
            assert answer.status == 200
        transport = Transport(session, make_wire=choose_wire("auto"))
        target = Target(sandbox.ws_url, "/ws", "/wrong/socket.io")
        with pytest.raises(ConnectError) as failure:
            await transport.open(target, "token", agent_id="a" * 24, on_event=lambda *_: None, timeout=30)
        assert failure.value.unanswered
        assert "closed the connection during the WebSocket upgrade" in failure.value.reason
        await transport.close()
