"""Opening a connection: what the gateway gets to see, and every way in which no connection comes of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from supervisor.core.errors import ConnectError, Verdict
from supervisor.platform.transport import Target
from tests.support.connecting import AGENT, TOKEN, OpenTransport, Received, connect
from tests.support.gateway import Peer, eventually, gateway, raw_server, recorded


async def join(peer: Peer) -> None:
    await peer.join()


async def attempt(
    transport: OpenTransport, script: Callable[[Peer], Awaitable[None]], *, timeout: float = 5.0, namespace: str = "/ws"
) -> ConnectError:
    """Open a connection that must fail; the server holds no socket afterwards."""
    async with gateway(script) as server, transport() as made:
        with pytest.raises(ConnectError) as failure:
            await connect(made, server, timeout=timeout, namespace=namespace)
        await eventually(lambda: server.open_sockets == 0)
        return failure.value


async def test_the_socket_is_open_when_the_namespace_is_acked(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.open(maxPayload=1234)
        await peer.connect_frame()
        await peer.send('40/ws,{"sid":"abc"}')

    async with gateway(script) as server, transport() as made:
        before = time.monotonic()
        socket = await connect(made, server)
        assert socket.connected
        assert (socket.sid, socket.max_payload) == ("abc", 1234)
        assert before <= socket.opened_at <= time.monotonic()
        assert server.peers[0].auth == {"token": TOKEN}
        assert "Authorization" not in server.requests[0].headers
        assert TOKEN not in str(server.requests[0].url)


async def test_the_token_can_travel_as_a_header_or_in_the_query(transport: OpenTransport) -> None:
    token = "a+b/c=&d"
    async with gateway(join) as server, transport() as made:
        for via in ("header", "query"):
            target = Target(server.url, "/ws", token_via=via)
            socket = await made.open(target, token, agent_id=AGENT, on_event=Received().received, timeout=5)
            await socket.close()
        assert server.requests[0].headers["Authorization"] == f"Bearer {token}"
        assert "token" not in server.requests[0].query
        assert server.requests[1].query["token"] == token
        assert "Authorization" not in server.requests[1].headers
        assert [peer.auth for peer in server.peers] == [{}, {}]


@pytest.mark.parametrize("namespace", ["/", "/ws", "/ws/chat", "/dev/aiwm/chat"])
async def test_any_namespace_can_be_joined(transport: OpenTransport, namespace: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.join(namespace)

    async with gateway(script) as server, transport() as made:
        assert (await connect(made, server, namespace=namespace)).connected


async def test_url_path_and_engine_path_are_two_things(transport: OpenTransport) -> None:
    async with gateway(join, path="/dev/aiwm/chat/socket.io/") as server, transport() as made:
        socket = await connect(made, f"{server.url}/ignored", engine_path="/dev/aiwm/chat/socket.io")
        assert socket.connected
        assert dict(server.requests[0].query) == {"transport": "websocket", "EIO": "4"}


async def test_an_ack_of_connect_without_data_will_do(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.connect_frame()
        await peer.send("40/ws")

    async with gateway(script) as server, transport() as made:
        assert (await connect(made, server)).sid == ""


async def test_no_cookie_travels_from_one_connection_to_another(transport: OpenTransport) -> None:
    async with gateway(join) as server, transport() as made:

        def sticky(request: web.Request) -> web.StreamResponse:
            answer = web.Response(status=503)
            answer.set_cookie("io", "someone")
            return answer

        server.refuse = sticky
        with pytest.raises(ConnectError):
            await connect(made, server)
        server.refuse = None
        await connect(made, server)
        assert "Cookie" not in server.requests[1].headers


async def test_more_connections_than_any_default_limit_open_at_once(transport: OpenTransport) -> None:
    async with gateway(join) as server, transport() as made:
        sockets = await asyncio.gather(*(connect(made, server, timeout=30) for _ in range(150)))
        assert all(socket.connected for socket in sockets)
        assert server.open_sockets == 150


def refuse_with(frame: str) -> Callable[[Peer], Awaitable[None]]:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send(frame)

    return script


@pytest.mark.parametrize("recording", ["v1-refused-connects.jsonl", "v2-refused-connects.jsonl"])
async def test_an_undeclared_namespace_is_told_apart(transport: OpenTransport, recording: str) -> None:
    frame = next(frame for frame in recorded(recording) if frame.startswith("44"))
    error = await attempt(transport, refuse_with(frame), namespace="/dev/aiwm/chat")
    assert error.invalid_namespace
    assert not error.kicked
    assert "/dev/aiwm/chat" in error.reason


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ('{"message":"Invalid token"}', Verdict.REAUTHENTICATE),
        ('{"message":"Token expired (401)"}', Verdict.REAUTHENTICATE),
        ('{"message":"jwt malformed"}', Verdict.REAUTHENTICATE),
        ('{"message":"Unauthorized","data":{"code":1}}', Verdict.REAUTHENTICATE),
        ('"token"', Verdict.REAUTHENTICATE),
        ('{"message":"Agent suspended (403)"}', Verdict.REJECT),
        ('{"message":"Agent is suspended"}', Verdict.REJECT),
        ('{"message":"Internal error"}', Verdict.RETRY),
        ('{"message":{"a":1}}', Verdict.RETRY),
        ("{}", Verdict.RETRY),
        ("[]", Verdict.RETRY),
        ("", Verdict.RETRY),
        ("not json", Verdict.RETRY),
    ],
)
async def test_a_connect_error_is_classified_by_its_message(
    transport: OpenTransport, message: str, verdict: Verdict
) -> None:
    error = await attempt(transport, refuse_with(f"44/ws,{message}"))
    assert error.verdict is verdict
    assert not error.invalid_namespace


async def test_the_platforms_words_are_cleaned_and_never_hold_the_token(transport: OpenTransport) -> None:
    error = await attempt(
        transport, refuse_with("44/ws," + json.dumps({"message": f"bad token {TOKEN}\x00\u202e\n" + "x" * 999}))
    )
    assert TOKEN not in error.reason
    assert error.reason.isprintable()
    assert len(error.reason) < 300


@pytest.mark.parametrize("recording", ["v1-refused-connects.jsonl", "v2-refused-connects.jsonl"])
async def test_a_kick_right_after_the_ack_is_noticed_as_recorded(transport: OpenTransport, recording: str) -> None:
    opened, connected, kicked = recorded(recording)[:3]
    assert kicked.startswith("41")
    namespace = kicked[2:].rstrip(",")

    async def script(peer: Peer) -> None:
        await peer.send(opened)
        await peer.connect_frame(namespace)
        await peer.send_at_once(connected, kicked)

    error = await attempt(transport, script, namespace=namespace)
    assert error.kicked
    assert error.verdict is Verdict.REAUTHENTICATE


async def test_a_kick_some_time_after_the_ack_is_noticed_one_way_or_the_other(transport: OpenTransport) -> None:
    outcomes: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.join()
        for _ in range(len(server.peers) % 8):
            await asyncio.sleep(0)
        if len(server.peers) % 3 == 0:
            await asyncio.sleep(0.01)
        await peer.send("41/ws,")

    async with gateway(script) as server, transport() as made:
        for _ in range(40):
            try:
                socket = await connect(made, server)
            except ConnectError as error:
                outcomes.append("kicked" if error.kicked else error.reason)
            else:
                async with asyncio.timeout(2):
                    assert await socket.closed == "server disconnect"
                outcomes.append("closed")
        await eventually(lambda: server.open_sockets == 0)
    assert set(outcomes) == {"kicked", "closed"}


async def test_open_never_sent(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await asyncio.sleep(0)

    error = await attempt(transport, script, timeout=0.3)
    assert error.reason == "no word of a Socket.IO server (Engine.IO's OPEN packet) from 127.0.0.1 within 0.3 s"
    assert error.verdict is Verdict.RETRY


async def test_connect_ack_never_sent(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()

    error = await attempt(transport, script, timeout=0.3)
    assert error.reason == "no ack of CONNECT to the namespace from 127.0.0.1 within 0.3 s"


async def test_connect_ack_of_another_namespace_does_not_count(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send('40{"sid":"root"}', '40/ws/chat,{"sid":"other"}', "40/ws,[1]", "40/ws,{")

    assert "no ack of CONNECT" in (await attempt(transport, script, timeout=0.3)).reason


async def test_tcp_accepted_and_the_upgrade_never_answered(transport: OpenTransport) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(silent) as address, transport() as made:
        with pytest.raises(ConnectError, match=r"no TCP or TLS connection or WebSocket upgrade .* within 0\.3 s"):
            await connect(made, f"ws://{address}", timeout=0.3)
        # The same over TLS: the handshake hangs.
        with pytest.raises(ConnectError, match=r"within 0\.3 s"):
            await connect(made, f"wss://{address}", timeout=0.3)


@pytest.mark.parametrize(
    "first",
    ["", "2", "hello", "0", "0{}", "0[]", '0{"sid":"a"}', '0{"sid":"a","pingInterval":"x","pingTimeout":1}']
    + [json.dumps({"sid": "a", "pingInterval": i, "pingTimeout": 1}) for i in (0, -5, 1e12)]
    + ["0" + "[" * 100_000, '42/ws,["message:new",{}]'],
)
async def test_a_first_frame_that_is_no_open(transport: OpenTransport, first: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(first)

    assert "sent something else instead of Engine.IO's OPEN" in (await attempt(transport, script)).reason


async def test_the_websocket_closes_before_open(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.ws.close()

    assert "closed the WebSocket instead of Engine.IO's OPEN" in (await attempt(transport, script)).reason


async def test_the_connection_breaks_before_open_and_before_the_connect_ack(transport: OpenTransport) -> None:
    async def broken_early(peer: Peer) -> None:
        peer.abort()

    async def broken_late(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        peer.abort()

    assert (await attempt(transport, broken_early)).verdict is Verdict.RETRY
    error = await attempt(transport, broken_late)
    assert "before the namespace was joined: transport error" in error.reason
    assert not error.kicked


async def test_engine_close_before_the_connect_ack(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.open()
        await peer.receive()
        await peer.send("1")

    assert "before the namespace was joined: transport close" in (await attempt(transport, script)).reason
