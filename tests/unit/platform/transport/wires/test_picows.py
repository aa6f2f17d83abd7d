"""What the fast wire writes by itself: a client's frames, as another library reads them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from supervisor.net import Session
from supervisor.platform.transport.wires import Dial
from supervisor.platform.transport.wires.face import Noise
from supervisor.platform.transport.wires.picows import PicowsWire, masked
from tests.support.gateway import Gateway, Peer, Script, eventually, gateway


def read(data: bytes) -> tuple[Frame, bytes]:
    """The frame that a server's library reads, and what is left behind it."""
    stream = StreamReader()
    stream.feed_data(data)
    reading: Generator[None, None, Frame] = Frame.parse(stream.read_exact, mask=True)
    with pytest.raises(StopIteration) as read_:
        next(reading)
    return read_.value.value, bytes(stream.buffer)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_a_frame_of_any_size_is_read_as_it_was_written(size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    frame, left = read(masked(payload) + b"next")
    assert (frame.opcode, frame.fin, bytes(frame.data), left) == (Opcode.TEXT, True, payload, b"next")


def test_each_frame_has_a_mask_of_its_own() -> None:
    assert len({masked(b"the same text") for _ in range(20)}) == 20


class CountingSocket(socket.socket):
    """Counts the calls of the system that write."""

    writes = 0

    def send(self, *given: Any) -> int:
        self.writes += 1
        return super().send(*given)


class Ear:
    """What stands above a wire: keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.noise = Noise(b"noise", b"me")

    def upgraded(self) -> None:
        self.heard.append("upgraded")

    def receive(self, text: str) -> None:
        self.heard.append(text)

    def receive_binary(self) -> None:
        self.heard.append("binary")

    def closed_by_peer(self, code: int | None) -> None:
        self.heard.append(f"closed {code}")

    def broken(self, code: int | None = None) -> None:
        self.heard.append(f"broken {code}")


@asynccontextmanager
async def opened(script: Script) -> AsyncIterator[tuple[PicowsWire, Gateway, CountingSocket, Ear]]:
    """A wire that is open, its peer, and its socket."""
    made: list[CountingSocket] = []

    class CountingSession(Session):
        async def connect_tcp(self, host: str, port: int) -> CountingSocket:
            plain = await super().connect_tcp(host, port)
            made.append(CountingSocket(plain.family, plain.type, plain.proto, plain.detach()))
            made[0].setblocking(False)
            return made[0]

    async with gateway(script) as server:
        session = await CountingSession.open(connect_timeout=5.0)
        ear = Ear()
        wire = PicowsWire(session, Dial(server.url, "/socket.io", {}, {}, None, "/ws", {}), ear)
        await wire.open()
        try:
            yield wire, server, made[0], ear
        finally:
            wire.abort()
            await wire.settle(1)
            await session.close()


async def test_the_frames_of_one_moment_are_one_write_in_their_order() -> None:
    async with opened(Peer.serve) as (wire, server, tcp, _ear):
        before = tcp.writes
        frames = [f"42{number}" for number in range(20)]
        assert all(wire.write(frame.encode()) for frame in frames)
        assert wire.buffered_bytes > 20 * 6
        await asyncio.sleep(0)
        assert tcp.writes == before + 1
        assert wire.buffered_bytes == 0
        wire.write(b"next")
        await eventually(lambda: server.peers[0].frames == [*frames, "next"])
        assert tcp.writes == before + 2


async def test_what_was_written_before_a_goodbye_arrives_before_it() -> None:
    async with opened(Peer.serve) as (wire, server, _tcp, _ear):
        wire.write(b"42last")
        wire.hang_up()
        assert not wire.write(b"42late")
        await eventually(lambda: server.peers[0].close_code == 1000)
        assert server.peers[0].frames == ["42last"]


async def test_what_was_written_before_a_cut_does_not_arrive() -> None:
    async with opened(Peer.serve) as (wire, server, tcp, _ear):
        before = tcp.writes
        wire.write(b"42last")
        wire.abort()
        await wire.settle(1)
        assert tcp.writes == before
        await eventually(lambda: server.peers[0].close_code is not None)
        assert server.peers[0].frames == []


async def test_what_nobody_wants_is_dropped_by_its_bytes_and_all_else_is_told() -> None:
    async def talk(peer: Peer) -> None:
        await peer.receive()
        await peer.send_at_once("noise of you", "noise of me", "news", *["noise"] * 200, "end")
        await peer.serve()

    async with opened(talk) as (wire, _server, _tcp, ear):
        ear.noise.begin()
        wire.write(b"go on")
        await eventually(lambda: "end" in ear.heard)
        assert ear.heard == ["upgraded", "noise of me", "news", "end"]
        assert ear.noise.dropped == 201
