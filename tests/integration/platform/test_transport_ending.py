"""The end of a connection, whoever brings it about: noticed, told with its reason, and nothing left of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from engineio import base_client

from supervisor.core.errors import ConnectError, ConnectionLostError
from supervisor.platform.transport import Socket, Transport
from tests.support.certificates import make_server_context
from tests.support.connecting import OpenTransport, Received, connect, open_files
from tests.support.gateway import Gateway, Peer, eventually, gateway, raw_server


async def join(peer: Peer) -> None:
    await peer.join()


async def reset(peer: Peer) -> None:
    peer.abort()


async def serve_raw(peer: Peer, data: bytes) -> None:
    assert peer.request.transport is not None
    peer.request.transport.write(data)


def xored(payload: bytes) -> bytes:
    """A payload as the mask "abcd" makes it."""
    return bytes(byte ^ b"abcd"[place % 4] for place, byte in enumerate(payload))


ENDS: dict[str, tuple[Callable[[Peer], Awaitable[object]], str]] = {
    "kick": (lambda peer: peer.send("41/ws,"), "server disconnect"),
    "kick without comma": (lambda peer: peer.send("41/ws"), "server disconnect"),
    "engine close": (lambda peer: peer.send("1"), "transport close"),
    "websocket close": (lambda peer: peer.ws.close(), "transport close"),
    "going away": (lambda peer: peer.ws.close(code=1001), "transport close"),
    "too large for the server": (lambda peer: peer.ws.close(code=1009), "payload too large"),
    "server error": (lambda peer: peer.ws.close(code=1011), "server error"),
    "restart": (lambda peer: peer.ws.close(code=1012), "server restart"),
    "policy": (lambda peer: peer.ws.close(code=1008), "policy violation"),
    "application code": (lambda peer: peer.ws.close(code=4001), "transport close"),
    "reset": (reset, "transport error"),
    "garbage": (lambda peer: serve_raw(peer, b"\xff\xff\xff\xff"), "protocol error"),
    "text that is not UTF-8": (lambda peer: serve_raw(peer, b"\x81\x03\xff\xfe\xfd"), "protocol error"),
    "too large for us": (lambda peer: serve_raw(peer, b"\x81\x7f" + (2**32).to_bytes(8, "big")), "frame too large"),
    "masked event": (lambda peer: serve_raw(peer, b"\x81\x86abcd" + xored(b'42["x"')), "protocol error"),
    "masked ping": (lambda peer: serve_raw(peer, b"\x89\x80abcd"), "protocol error"),
    "late refusal": (lambda peer: peer.send('44/ws,{"message":"token expired"}'), "refused"),
}


@pytest.mark.parametrize("name", ENDS)
async def test_the_end_is_told_at_once_with_its_reason_and_fails_pending_calls(
    transport: OpenTransport, name: str
) -> None:
    end, reason = ENDS[name]

    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.receive()
        await peer.receive()
        await end(peer)
        await asyncio.sleep(60)

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        calls = [asyncio.create_task(socket.call("message:send", {}, 60)) for _ in range(2)]
        async with asyncio.timeout(2):
            for call in calls:
                with pytest.raises(ConnectionLostError, match=f"before message:send was acknowledged: {reason}"):
                    await call
        assert socket.closed.result() == reason
        assert not socket.connected
        async with asyncio.timeout(0.5):
            await socket.close()
        assert socket.closed.result() == reason


async def test_after_a_kick_the_supervisor_closes_the_socket_itself(transport: OpenTransport) -> None:
    """The server keeps it open, and so would the reference wire's library."""

    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.send("41/ws,")

    async with gateway(script) as server, transport() as made:
        socket = await connect_or_kicked(made, server)
        if socket is not None:
            await socket.closed
        await eventually(lambda: server.open_sockets == 0, 2)


async def connect_or_kicked(made: Transport, server: Gateway) -> Socket | None:
    try:
        return await connect(made, server)
    except ConnectError:
        return None


async def test_a_silent_server_is_noticed_after_ping_interval_and_timeout(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join(interval=0.3, timeout=0.2)
        await asyncio.sleep(60)

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        begun = time.monotonic()
        call = asyncio.create_task(socket.call("message:send", {}, 60))
        async with asyncio.timeout(2):
            assert await socket.closed == "ping timeout"
        assert time.monotonic() - begun > 0.4
        with pytest.raises(ConnectionLostError, match="ping timeout"):
            await call


async def test_pings_keep_the_connection(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join(interval=0.2, timeout=0.2)
        for _ in range(6):
            await asyncio.sleep(0.15)
            await peer.send("2")
            assert await peer.receive() == "3"
        await peer.send('42/ws,["end",{}]')

    events = Received()
    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events)
        await eventually(lambda: "end" in events.names)
        assert socket.connected


async def test_a_ping_that_is_late_within_its_timeout_does_not_cost_the_connection(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join(interval=0.2, timeout=0.5)
        await asyncio.sleep(0.4)
        await peer.send("2")
        assert await peer.receive() == "3"
        await peer.send('42/ws,["end",{}]')

    events = Received()
    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events)
        await eventually(lambda: "end" in events.names)
        assert socket.connected


class Freezer:
    """A TCP proxy that can stop passing bytes on in both directions while both connections stay open."""

    def __init__(self, server: Gateway) -> None:
        self._port = int(server.url.rpartition(":")[2])
        self.passing = asyncio.Event()
        self.passing.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            far_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.passing.wait()
        while data := await reader.read(65536):
            await self.passing.wait()
            writer.write(data)
        writer.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_packets_that_vanish_both_ways_while_much_is_unsent(
    transport: OpenTransport, secure: bool, tmp_path: Path
) -> None:
    context, ca_file = make_server_context(tmp_path)

    async def script(peer: Peer) -> None:
        await peer.join(interval=0.4, timeout=0.4)

    async with gateway(script, tls=context if secure else None) as server:
        freezer = Freezer(server)
        async with raw_server(freezer) as address, transport(ca_file, goodbye_seconds=0.3) as made:
            url = f"wss://localhost:{address.rpartition(':')[2]}" if secure else f"ws://{address}"
            socket = await connect(made, url)
            files = open_files()
            freezer.passing.clear()
            calls = [asyncio.create_task(socket.call("message:send", {"x": "y" * 900_000}, 60)) for _ in range(20)]
            async with asyncio.timeout(5.5):
                assert await socket.closed == "ping timeout"
                for call in calls:
                    with pytest.raises(ConnectionLostError):
                        await call
            # Nothing can be flushed any more: the socket is cut off all the same.
            await eventually(lambda: open_files() < files, 5)


@pytest.mark.parametrize("secure", [False, True])
async def test_closing_takes_less_than_five_seconds_though_nobody_answers(
    transport: OpenTransport, secure: bool, tmp_path: Path
) -> None:
    context, ca_file = make_server_context(tmp_path)
    async with gateway(join, tls=context if secure else None) as server:
        freezer = Freezer(server)
        async with raw_server(freezer) as address, transport(ca_file, goodbye_seconds=0.3) as made:
            url = f"wss://localhost:{address.rpartition(':')[2]}" if secure else f"ws://{address}"
            socket = await connect(made, url)
            files = open_files()
            freezer.passing.clear()
            call = asyncio.create_task(socket.call("message:send", {"x": "y" * 900_000}, 60))
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await socket.close()
            await eventually(lambda: open_files() < files, 1)
            with pytest.raises(ConnectionLostError):
                await call


async def test_closing_says_goodbye_once_and_leaves_nothing(transport: OpenTransport) -> None:
    async with gateway(join) as server, transport() as made:
        socket = await connect(made, server)
        before = asyncio.all_tasks()
        await asyncio.gather(*(socket.close() for _ in range(5)))
        await socket.close()
        assert socket.closed.result() == "closed by us"
        peer = server.peers[0]
        await eventually(lambda: server.open_sockets == 0)
        assert peer.frames[1:] == ["41/ws,", "1"]
        assert peer.close_code == 1000
        assert base_client.connected_clients == []
        await eventually(lambda: not (asyncio.all_tasks() - before))


async def test_a_cancelled_close_closes_all_the_same(transport: OpenTransport) -> None:
    async with gateway(join) as server, transport() as made:
        for turns in range(1, 7):
            socket = await connect(made, server)
            closing = asyncio.create_task(socket.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            assert socket.closed.done()
        await eventually(lambda: server.open_sockets == 0)


async def test_closing_the_transport_closes_every_connection(transport: OpenTransport) -> None:
    async with gateway(join) as server, transport() as made:
        sockets = [await connect(made, server) for _ in range(20)]
        await made.close()
        assert all(socket.closed.result() == "closed by us" for socket in sockets)
        await eventually(lambda: server.open_sockets == 0)


async def test_hundreds_of_connections_leave_no_task_no_file_and_no_client(transport: OpenTransport) -> None:
    async with gateway(join) as server, transport() as made:
        await (await connect(made, server)).close()
        await eventually(lambda: server.open_sockets == 0)
        tasks, files = len(asyncio.all_tasks()), open_files()
        for _ in range(4):
            sockets = await asyncio.gather(*(connect(made, server) for _ in range(100)))
            assert len(base_client.connected_clients) == (100 if transport.wire == "socketio" else 0)
            for socket in sockets[::2]:
                socket.abort()
            for peer in server.peers:
                if peer.request.transport is not None:
                    peer.abort()
            server.peers.clear()
            server.requests.clear()
            await asyncio.gather(*(socket.closed for socket in sockets))
        await eventually(lambda: server.open_sockets == 0)
        await eventually(lambda: (len(asyncio.all_tasks()), open_files()) == (tasks, files))
        assert base_client.connected_clients == []


async def cancel_at_random(server: Gateway, made: Transport, rounds: int, longest_seconds: float) -> int:
    """Cancel attempts at random moments, by turns of the loop and by time; how many were open by then."""
    randomness, opened = random.Random(11), 0
    for number in range(rounds):
        attempt = asyncio.create_task(connect(made, server, timeout=5))
        if number % 2:
            for _ in range(randomness.randrange(60)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep(randomness.uniform(0, longest_seconds))
        attempt.cancel()
        await asyncio.wait([attempt])
        if not attempt.cancelled():
            opened += 1
            attempt.result().abort()
    return opened


async def slowly(peer: Peer) -> None:
    """Joins with pauses, so that a cancellation can fall between any two frames."""
    await asyncio.sleep(0.001)
    await peer.open()
    await asyncio.sleep(0.001)
    await peer.connect_frame()
    await asyncio.sleep(0.001)
    await peer.send('40/ws,{"sid":"s"}')


@pytest.mark.parametrize("secure", [False, True])
async def test_an_attempt_cancelled_at_any_moment_leaves_no_socket(
    transport: OpenTransport, secure: bool, tmp_path: Path
) -> None:
    context, ca_file = make_server_context(tmp_path)
    async with gateway(slowly, tls=context if secure else None) as server, transport(ca_file) as made:
        await (await connect(made, server)).close()
        await eventually(lambda: server.open_sockets == 0)
        tasks, files = len(asyncio.all_tasks()), open_files()
        opened = await cancel_at_random(server, made, 100, 0.03 if secure else 0.015)
        assert opened < 100
        await eventually(lambda: server.open_sockets == 0, 2)
        await eventually(lambda: (len(asyncio.all_tasks()), open_files()) == (tasks, files))
        assert base_client.connected_clients == []
        # The next attempt succeeds.
        assert (await connect(made, server)).connected


async def test_an_attempt_that_times_out_leaves_no_socket(transport: OpenTransport) -> None:
    async def silent(peer: Peer) -> None:
        await asyncio.sleep(0)

    async with gateway(silent) as server, transport() as made:
        tasks, files = len(asyncio.all_tasks()), open_files()
        outcomes = await asyncio.gather(
            *(connect(made, server, timeout=0.2) for _ in range(50)), return_exceptions=True
        )
        assert all(isinstance(outcome, ConnectError) for outcome in outcomes)
        await eventually(lambda: server.open_sockets == 0, 2)
        await eventually(lambda: (len(asyncio.all_tasks()), open_files()) == (tasks, files))
