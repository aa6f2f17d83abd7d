"""What the transport's tests share: an opened socket, and proof that nothing of it is left."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import psutil
from engineio import base_client

from supervisor.core.clock import Instant, SystemClock
from supervisor.net import Session
from supervisor.platform.connection import Connection
from supervisor.platform.hosts.facts import Way
from supervisor.platform.tokens import Grant
from supervisor.platform.tokens.grants import make_grant
from supervisor.platform.transport import Socket, Target, Transport
from supervisor.platform.transport.wires import Dial, Listener, Wire
from supervisor.protocol import parse_connect_answer
from tests.support.gateway import Gateway, Peer, Script, eventually, gateway
from tests.support.wires import WIRES

AGENT = "aaaaaaaaaaaaaaaaaaaa0001"
TOKEN = "eyJhbGciOiJub25l.c2VjcmV0LXRva2Vu.c2lnbmF0dXJl"


class Received(list[tuple[str, Any]]):
    """Events in the order of their arrival; ``received`` is the callback to give to :meth:`Transport.open`."""

    def received(self, event: str, payload: object) -> None:
        self.append((event, payload))

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self]


class OpenTransport(Protocol):
    """Opens a transport over one of the wires; the fixture ``transport`` gives one for each in turn."""

    wire: str
    #: The wires that were made, in order.
    wires: list[Wire]

    def __call__(self, ca_file: Path | None = None, **options: Any) -> AbstractAsyncContextManager[Transport]:
        """A transport.

        Args:
            options: what the wire is to be made with, such as ``goodbye_seconds``.
        """
        ...


class _OpenTransport:
    def __init__(self, wire: str) -> None:
        self.wire = wire
        self.wires: list[Wire] = []

    @asynccontextmanager
    async def __call__(self, ca_file: Path | None = None, **options: Any) -> AsyncIterator[Transport]:
        """A transport; after it neither task, complaint of the event loop nor entry in a library's lists is left."""
        before = asyncio.all_tasks()
        # What was there before is looked through no more: the collection at the end is for what the test makes.
        gc.collect(1)
        gc.freeze()
        complaints: list[dict[str, Any]] = []
        # Such as "exception was never retrieved", which asyncio only logs.
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        session = await Session.open(ca_file=ca_file, connect_timeout=5.0)
        made = Transport(session, make_wire=partial(self._make, options))
        try:
            yield made
        finally:
            await made.close()
            await session.close()
            await eventually(lambda: not _library_tasks(before))
            assert base_client.connected_clients == []
            gc.collect()
            assert complaints == []

    def _make(self, options: dict[str, Any], session: Session, dial: Dial, listener: Listener) -> Wire:
        self.wires.append(WIRES[self.wire](session, dial, listener, **options))
        return self.wires[-1]


def transport_over(wire: str) -> OpenTransport:
    """Opens transports over the wire of that name."""
    return _OpenTransport(wire)


def _library_tasks(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() - before if "async_client.py" in repr(task)]


async def connect(
    made: Transport,
    server: Gateway | str,
    events: Received | None = None,
    *,
    namespace: str = "/ws",
    timeout: float = 5.0,
    **target: Any,
) -> Socket:
    """Open a socket of :data:`AGENT` with :data:`TOKEN`."""
    url = server if isinstance(server, str) else server.url
    events = Received() if events is None else events
    return await made.open(
        Target(url=url, namespace=namespace, **target), TOKEN, agent_id=AGENT, on_event=events.received, timeout=timeout
    )


def make_test_grant() -> Grant:
    """:data:`TOKEN`, good for a day."""
    answer = parse_connect_answer({"accessToken": TOKEN, "expiresIn": 86400})
    return make_grant(answer, Instant.now(SystemClock()), 300, lambda low, high: (low + high) / 2)


async def bound(connection: Connection, made: Transport, server: Gateway) -> None:
    """Open a socket for ``connection`` in the namespace ``/ws``, with a token that is good for a day."""
    grant = make_test_grant()
    socket = await made.open(Target(server.url, "/ws"), TOKEN, agent_id=AGENT, on_event=connection.receive, timeout=5)
    connection.bind(socket, grant, Way("/ws", "/socket.io"))


def open_files() -> int:
    """How many file descriptors this process holds."""
    return psutil.Process().num_fds()


def sending(*frames: str) -> Script:
    """A script that joins, sends ``frames`` and then an event ``end``."""

    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.send(*frames, '42/ws,["end",{}]')

    return script


async def received_from(transport: OpenTransport, *frames: str) -> tuple[Received, Socket]:
    """What comes of ``frames`` up to the event ``end``, which proves that the connection lives on."""
    events = Received()
    async with gateway(sending(*frames)) as server, transport() as made:
        socket = await connect(made, server, events)
        await eventually(lambda: "end" in events.names)
        assert socket.connected
        events.pop()
        return events, socket
