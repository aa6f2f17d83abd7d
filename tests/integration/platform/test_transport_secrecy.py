"""Tokens go to the platform and nowhere else: not into logs, errors, representations or tracebacks."""

from __future__ import annotations

import asyncio
import logging
import traceback
from pathlib import Path

import pytest
from aiohttp import web

from supervisor.core.errors import ConnectError
from supervisor.platform.transport import Target
from tests.support.certificates import make_server_context
from tests.support.connecting import AGENT, TOKEN, OpenTransport, Received, connect
from tests.support.gateway import Peer, eventually, gateway, raw_server


async def join_and_serve(peer: Peer) -> None:
    await peer.join(interval=0.2, timeout=5)
    await peer.send("2", '42/ws,["message:new",{"content":"hello"}]', "42/ws,broken")
    await peer.answer(lambda _event, _payload: {"success": True})


@pytest.mark.parametrize("via", ["auth", "header", "query"])
async def test_the_token_is_in_no_log_record_of_a_connections_life(
    transport: OpenTransport, via: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("socketio", "socketio.client", "engineio", "engineio.client", "aiohttp", "asyncio", "supervisor"):
        caplog.set_level(logging.DEBUG, logger=name)
    asyncio.get_running_loop().set_debug(True)
    events = Received()
    async with gateway(join_and_serve) as server, transport() as made:
        socket = await connect(made, server, events, token_via=via)
        await socket.call("message:send", {}, 5)
        await eventually(lambda: "__malformed__" in events.names)
        assert TOKEN not in repr(socket)
        await socket.close()

        def refuse(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=502)

        server.refuse = refuse
        with pytest.raises(ConnectError):
            await connect(made, server, token_via=via)
    asyncio.get_running_loop().set_debug(False)
    assert TOKEN not in caplog.text
    assert "hello" not in caplog.text
    assert all(TOKEN not in str(record.__dict__) for record in caplog.records)


@pytest.mark.parametrize("via", ["auth", "header", "query"])
async def test_no_failure_holds_the_token_not_even_in_what_caused_it(
    transport: OpenTransport, via: str, tmp_path: Path
) -> None:
    context, _ = make_server_context(tmp_path)
    failures: list[ConnectError] = []

    async def fail(url: str, timeout: float = 5) -> None:
        with pytest.raises(ConnectError) as failure:
            await made.open(
                Target(url, "/ws", token_via=via),  # type: ignore[arg-type]
                TOKEN,
                agent_id=AGENT,
                on_event=Received().received,
                timeout=timeout,
            )
        failures.append(failure.value)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async def no_open(peer: Peer) -> None:
        await peer.send("nonsense")

    async def refusing(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(f'44/ws,{{"message":"the token {TOKEN} is bad"}}')

    async with transport() as made:
        async with gateway(no_open) as server:
            await fail(server.url)
            for status in (401, 404, 302, 503):
                headers = {"Location": f"http://localhost/?token={TOKEN}"}
                server.refuse = lambda _request, s=status, h=headers: web.Response(status=s, headers=h)
                await fail(server.url)
        async with gateway(refusing) as server:
            await fail(server.url)
        async with gateway(no_open, tls=context) as server:
            await fail(server.url)
        async with raw_server(deaf) as address:
            await fail(f"ws://{address}")
        await fail(f"ws://{address}")
        await fail("ws://nowhere.invalid", timeout=20)
    assert len(failures) == 10
    for failure in failures:
        assert TOKEN not in "".join(traceback.format_exception(failure))
        assert failure.__context__ is None
        assert failure.__cause__ is None
        assert TOKEN not in failure.reason
