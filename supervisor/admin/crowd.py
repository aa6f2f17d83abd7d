"""Bounds on who is connected to the admin server, so that health is answered whoever else is (docs/faults.md#r34).

A connection is its client's while that owes us something: a request, the rest of one, the reading of an answer. Such
connections are cut when they take too long, and the oldest of them when there are too many: whoever comes is let in.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from functools import partial
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.telemetry.logs import get_logger

#: Connections at once. Nobody is refused at this bound: another is cut.
MOST: Final = 256
#: A request's head is in within so many seconds, from the connect or from its first byte.
HEAD_SECONDS: Final = 5.0
#: What was sent is read within so many seconds.
READ_SECONDS: Final = 60.0
#: Closing a socket with this resets it.
_RESET: Final = struct.pack("ii", 1, 0)
_SWEEP_SECONDS: Final = 0.5
#: At most one line in this time says that connections were cut to make room.
_LINE_SECONDS: Final = 60.0
_log = get_logger(__name__)


class Crowd:
    """Everybody who is connected.

    Args:
        most: connections at once.
        head_seconds: how long a request's head may take.
        read_seconds: how long an answer may lie unread.
    """

    def __init__(
        self, *, most: int = MOST, head_seconds: float = HEAD_SECONDS, read_seconds: float = READ_SECONDS
    ) -> None:
        self._most = most
        self._head_seconds = head_seconds
        self._read_seconds = read_seconds
        # The one that came first is first.
        self._visitors: dict[Visitor, None] = {}
        self._cut = 0
        self._said_at = -math.inf

    def __len__(self) -> int:
        """How many are connected."""
        return len(self._visitors)

    @property
    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn is to make for each connection."""
        # uvicorn calls it like a class and asks nothing else of it.
        return cast("type[asyncio.Protocol]", partial(Visitor, self))

    def enter(self, visitor: Visitor) -> None:
        """Somebody has connected."""
        if len(self._visitors) >= self._most:
            self._make_room(visitor)
        self._visitors[visitor] = None

    def leave(self, visitor: Visitor) -> None:
        """Somebody is gone."""
        self._visitors.pop(visitor, None)

    def _make_room(self, newest: Visitor) -> None:
        """Cut the connection that has owed us a request for the longest, or else one that owes us something else."""
        oldest = min(self._visitors, key=Visitor.claim)
        if oldest.owes:
            self._drop(oldest)
        elif len(self._visitors) >= 2 * self._most:
            # All of them are being answered at this moment.
            newest.cut()
        self._cut += 1
        now = asyncio.get_running_loop().time()
        if now - self._said_at >= _LINE_SECONDS:
            _log.warning("admin_connections_cut", cut=self._cut, limit=self._most)
            self._said_at, self._cut = now, 0

    def _drop(self, visitor: Visitor) -> None:
        self.leave(visitor)
        visitor.cut()

    def cut_all(self) -> None:
        """Cut everybody."""
        for visitor in list(self._visitors):
            self._drop(visitor)

    async def sweep(self) -> None:
        """Cut those that take too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for visitor in list(self._visitors):
                if visitor.is_late(now, self._head_seconds, self._read_seconds):
                    self._drop(visitor)


class Visitor(H11Protocol):
    """One connection; uvicorn's own protocol does all the work.

    Args:
        crowd: told of its beginning and its end.
        made: what uvicorn gives.
    """

    def __init__(self, crowd: Crowd, **made: Any) -> None:
        super().__init__(**made)
        self._crowd = crowd
        # When the present request, or the wait for one, began; and what is counted from then on.
        self._since = 0.0
        self._head_since: float | None = None
        self._unread_since: float | None = None

    @property
    def _answered(self) -> bool:
        """Whether no request is being answered: it has come in part, or not at all."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def owes(self) -> bool:
        """Whether its client is to do something before we can."""
        return self._answered or self.conn.their_state is h11.SEND_BODY or self.flow.write_paused

    @property
    def _unread(self) -> bool:
        """Whether something that was sent waits for its client to read it."""
        return self.transport.get_write_buffer_size() > 0

    def claim(self) -> tuple[int, float]:
        """Its claim to stay where others must go: the least has no request, and has had none for the longest."""
        return (0 if self._answered and not self._unread else 1 if self.owes else 2), self._since

    def is_late(self, now: float, head_seconds: float, read_seconds: float) -> bool:
        """Whether its client took too long for what it owes."""
        if self._head_since is not None and now - self._head_since > head_seconds:
            return True
        if not self._unread:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        return self._unread_since is not None and now - self._unread_since > read_seconds

    def cut(self) -> None:
        """End the connection at once, and with it what the system still keeps for a client that does not read."""
        if self._unread and (own := self.transport.get_extra_info("socket")) is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection is there."""
        super().connection_made(transport)
        self._since = self._head_since = self.loop.time()
        self._crowd.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._crowd.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something of a request came."""
        before = self.cycle
        if self._answered and self._head_since is None:
            self._head_since = self.loop.time()
        super().data_received(data)
        if self.cycle is not before:
            self._head_since = None
            self._since = self.loop.time()

    def on_response_complete(self) -> None:
        """A request is answered: the next one may come, or nothing for a while."""
        self._since = self.loop.time()
        super().on_response_complete()
