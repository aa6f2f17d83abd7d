"""WebSocket frames below the messages: parts, control frames between them, bits and sizes that must not be."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Iterable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.support.connecting import OpenTransport, Received, connect
from tests.support.gateway import Peer, eventually, gateway

TEXT, BINARY, CONTINUATION, PING, PONG = 1, 2, 0, 9, 10
END = b'42/ws,["end",{}]'


def frame(kind: int, payload: bytes = b"", *, last: bool = True, bits: int = 0) -> bytes:
    """A server's frame."""
    size = len(payload)
    head = bytes([kind | (0x80 if last else 0) | bits])
    if size < 126:
        return head + bytes([size]) + payload
    return head + (b"\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x7f" + size.to_bytes(8, "big")) + payload


def cut(payload: bytes, *places: int) -> bytes:
    """A text message in parts."""
    parts = [payload[start:end] for start, end in itertools.pairwise([0, *places, len(payload)])]
    kinds = [TEXT] + [CONTINUATION] * (len(parts) - 1)
    return b"".join(
        frame(kind, part, last=place == len(parts) - 1)
        for place, (kind, part) in enumerate(zip(kinds, parts, strict=True))
    )


async def received(transport: OpenTransport, writes: Iterable[bytes]) -> tuple[Received, str]:
    """What comes of bytes written as they are, up to the event ``end`` or the end of the connection; and its reason."""
    events, open_ = Received(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.join()
        await open_.wait()
        assert peer.request.transport is not None
        for data in writes:
            peer.request.transport.write(data)
            await asyncio.sleep(0)

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events)
        open_.set()
        await eventually(lambda: "end" in events.names or socket.closed.done())
        reason = socket.closed.result() if socket.closed.done() else ""
    return events, reason


EVENT = '42/ws,["message:new",{"content":"é👋 in parts"}]'.encode()
PAYLOAD = {"content": "é👋 in parts"}


@pytest.mark.parametrize("places", [(10,), (1, 2, 3), (0, 0), (34, 36, 37), (len(EVENT),)])
async def test_a_message_in_parts_is_one_message(transport: OpenTransport, places: tuple[int, ...]) -> None:
    """Also where a part is empty, and where one ends inside of a character."""
    events, reason = await received(transport, [cut(EVENT, *places) + frame(TEXT, END)])
    assert (list(events), reason) == ([("message:new", PAYLOAD), ("end", {})], "")


async def test_control_frames_between_the_parts_disturb_nothing(transport: OpenTransport) -> None:
    parts = frame(TEXT, EVENT[:9], last=False) + frame(PING, b"p") + frame(PONG) + frame(CONTINUATION, EVENT[9:])
    events, reason = await received(transport, [parts + frame(TEXT, END)])
    assert (list(events), reason) == ([("message:new", PAYLOAD), ("end", {})], "")


async def test_a_binary_message_in_parts_is_one(transport: OpenTransport) -> None:
    parts = frame(BINARY, b"\xff", last=False) + frame(CONTINUATION, b"\xfe")
    events, _ = await received(transport, [parts + frame(TEXT, END)])
    assert list(events) == [("__malformed__", "binary_frame"), ("end", {})]


async def test_a_ping_of_the_websocket_is_answered_with_what_it_says(transport: OpenTransport) -> None:
    answered = asyncio.Event()

    async def script(connection: ServerConnection) -> None:
        await connection.send('0{"sid":"s","pingInterval":25000,"pingTimeout":20000}')
        await connection.recv()
        await connection.send("40/ws")
        # Is over when a PONG has come that says the same.
        await (await connection.ping(b"are you there"))
        answered.set()
        await connection.wait_closed()

    async with serve(script, "127.0.0.1", 0) as server, transport() as made:
        [listener] = server.sockets
        socket = await connect(made, f"ws://127.0.0.1:{listener.getsockname()[1]}")
        async with asyncio.timeout(5):
            await answered.wait()
        await socket.close()


async def test_pings_to_which_nobody_reads_the_answers_do_not_pile_them_up(transport: OpenTransport) -> None:
    if transport.wire == "websockets":
        pytest.skip("its library answers them all")
    count, release = 100_000, asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.join()
        link = peer.request.transport
        assert link is not None
        link.pause_reading()
        link.write(frame(PING, b"p" * 100) * count)
        await release.wait()
        link.resume_reading()
        await peer.send(END.decode())

    events = Received()
    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events)
        sending = server.peers[0].request.transport
        assert sending is not None
        # Either the wire reads on, or it stops: then what is unsent stays as much for a while.
        left = -1
        while left != (left := sending.get_write_buffer_size()):
            assert transport.wires[-1].buffered_bytes < 300_000
            await asyncio.sleep(0.1)
        release.set()
        await eventually(lambda: "end" in events.names, 20)
        assert socket.connected


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (frame(CONTINUATION, b"of nothing"), "protocol error"),
        (frame(TEXT, b"42", last=False) + frame(TEXT, END), "protocol error"),
        (frame(TEXT, b"42", last=False) + frame(BINARY, b"x"), "protocol error"),
        (frame(TEXT, b"42", bits=0x40), "protocol error"),
        (frame(TEXT, b"42", bits=0x10), "protocol error"),
        (frame(PING, b"p", last=False), "protocol error"),
        (frame(PING, b"p" * 126), "protocol error"),
        (frame(3, b"reserved"), "protocol error"),
        (frame(11, b"reserved"), "protocol error"),
        (frame(TEXT, b"\xc3", last=False) + frame(CONTINUATION, b"\x28"), "protocol error"),
    ],
)
async def test_a_frame_that_must_not_be_ends_the_connection_and_what_came_before_counts(
    transport: OpenTransport, wrong: bytes, reason: str
) -> None:
    events, ended = await received(transport, [frame(TEXT, EVENT) + wrong + frame(TEXT, END)])
    assert (list(events), ended) == ([("message:new", PAYLOAD)], reason)


async def test_parts_that_are_too_large_together_end_the_connection(transport: OpenTransport) -> None:
    part = b"x" * (3 * 1024 * 1024)
    writes = [frame(TEXT, b'42/ws,["', last=False), *[frame(CONTINUATION, part, last=False)] * 3]
    _, reason = await received(transport, writes)
    assert reason == "frame too large"


@pytest.mark.parametrize("seed", range(5))
async def test_messages_come_whole_and_in_order_however_they_are_cut(transport: OpenTransport, seed: int) -> None:
    randomness = random.Random(seed)
    contents = ["é" * randomness.choice([0, 1, 60, 130, 5000, 70_000]) + str(number) for number in range(40)]
    stream = b""
    for content in contents:
        text = f'42/ws,["message:new",{json.dumps({"content": content}, ensure_ascii=False)}]'.encode()
        stream += cut(text, *sorted(randomness.choices(range(len(text)), k=randomness.randrange(4))))
    places = sorted(randomness.choices(range(len(stream)), k=60))
    pieces = [stream[start:end] for start, end in itertools.pairwise([0, *places, len(stream)])]
    events, reason = await received(transport, [*pieces, frame(TEXT, END)])
    assert ([payload.get("content") for _, payload in events[:-1]], reason) == (contents, "")


@pytest.mark.parametrize("after", ["kick", "close", "abort"])
async def test_what_came_in_a_burst_before_the_end_counts(transport: OpenTransport, after: str) -> None:
    """Also what was read and had to wait for its turn."""
    count = 20_000
    events = Received()

    async def script(peer: Peer) -> None:
        await peer.join()
        assert peer.request.transport is not None
        peer.request.transport.write(frame(TEXT, b'42/ws,["message:new",{"n":1}]') * count)
        if after == "kick":
            await peer.send("41/ws,")
        elif after == "close":
            await peer.ws.close()
        else:
            await eventually(lambda: len(events) > 100)
            peer.request.transport.close()

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events)
        async with asyncio.timeout(20):
            reason = await socket.closed
    assert len(events) == count
    assert reason == {"kick": "server disconnect", "close": "transport close", "abort": "transport error"}[after]
