"""Opens sockets over one shared session, each over a wire of its own."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Literal

from yarl import URL

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import ConnectError, Verdict
from supervisor.net import Session
from supervisor.platform.transport.handshake import SILENT
from supervisor.platform.transport.sockets import Socket
from supervisor.platform.transport.wires import Dial, MakeWire

TokenVia = Literal["auth", "header", "query"]


@dataclass(frozen=True)
class Target:
    """Where and how to connect: URL, namespace and engine path are three things (docs/protocol.md#2-addresses).

    Args:
        url: scheme and host, ``ws``, ``wss``, ``http`` or ``https``; a path is ignored.
        namespace: the Socket.IO namespace, such as ``/dev/aiwm/chat``.
        engine_path: the HTTP path of the upgrade.
        token_via: how the token is passed: in the CONNECT packet, as a header, or in the query.
        proxy: an HTTP proxy's URL; it may hold a user and a password.
    """

    url: str
    namespace: str
    engine_path: str = "/socket.io"
    token_via: TokenVia = "auth"  # noqa: S105 - not a token
    proxy: str | None = field(default=None, repr=False)


class Transport:
    """Opens the sockets of all agents and closes them.

    Args:
        session: what they share.
        make_wire: makes the wire of each socket.
        clock: wall time, for a ``Retry-After`` that is a date.

    Attributes:
        on_silent: told the agent whose connection was silent for longer than the server's pings allow; set by the
            service.
    """

    def __init__(self, session: Session, *, make_wire: MakeWire, clock: Clock | None = None) -> None:
        self._make_wire = partial(make_wire, session)
        self._clock = clock or SystemClock()
        self._sockets: weakref.WeakSet[Socket] = weakref.WeakSet()
        self.on_silent: Callable[[str], None] = lambda _agent_id: None

    async def open(
        self,
        target: Target,
        token: str,
        *,
        agent_id: str,
        on_event: Callable[[str, object], None],
        timeout: float,
    ) -> Socket:
        """Connect an agent and wait until its namespace's CONNECT is acked.

        Args:
            target: where to.
            token: the agent's access token.
            agent_id: whose presence events are of interest; those that do not name it are dropped unread.
            on_event: called with each event's name and payload, in order, perhaps before this returns. It must only
                enqueue. Malformed frames come as ``__malformed__`` with a short word.
            timeout: seconds for the whole attempt.

        Raises:
            ConnectError: refused, kicked, or not made in time; nothing of the attempt is left. The same is true when
                this is cancelled.
        """
        dial = _dial(target, token)
        socket = Socket(self._make_wire, dial, agent_id=agent_id, on_event=on_event, clock=self._clock)
        socket.closed.add_done_callback(partial(self._report_silence, agent_id))
        self._sockets.add(socket)
        try:
            failure = await socket.join(token, timeout)
        except BaseException:
            socket.abort()
            raise
        if failure is None:
            return socket
        socket.abort()
        await socket.settle(1.0)
        # Outside every except block, and without its past: what a library raised knows the URL and the token.
        raise failure.with_traceback(None)

    def _report_silence(self, agent_id: str, closed: asyncio.Future[str]) -> None:
        if not closed.cancelled() and closed.result() == SILENT:
            self.on_silent(agent_id)

    async def close(self) -> None:
        """Close every socket; bounded in time, idempotent."""
        sockets = [socket for socket in self._sockets if not socket.closed.done()]
        await asyncio.gather(*(socket.close() for socket in sockets))


def _dial(target: Target, token: str) -> Dial:
    """What a wire gets to know of a target.

    Raises:
        ConnectError: the target cannot be right, whatever the platform does.
    """
    via = target.token_via
    return Dial(
        origin=_origin(target.url, target.namespace),
        engine_path=target.engine_path,
        query={"token": token} if via == "query" else {},
        headers={"Authorization": f"Bearer {token}"} if via == "header" else {},
        proxy=target.proxy,
        namespace=target.namespace,
        auth={"token": token} if via == "auth" else {},
    )


@lru_cache(maxsize=64)
def _origin(ws_url: str, name: str) -> str:
    """Scheme, host and port of a URL, which is checked with the namespace; a fleet has one of both or a few.

    Raises:
        ConnectError: the target cannot be right, whatever the platform does.
    """
    try:
        url = URL(ws_url)
        valid = url.scheme in ("ws", "wss", "http", "https") and bool(url.host)
    except ValueError:
        valid = False
    if not valid:
        raise ConnectError("WS_URL must be a ws://, wss://, http:// or https:// URL", Verdict.FAULT)
    if not name.startswith("/") or any(not c.isprintable() or c in ",? " for c in name):
        raise ConnectError("the namespace must begin with / and hold no comma, question mark or space", Verdict.FAULT)
    return str(url.origin())
