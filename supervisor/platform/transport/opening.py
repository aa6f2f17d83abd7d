"""Opens sockets over one shared session."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from yarl import URL

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import ConnectError, Verdict
from supervisor.net.session import Session
from supervisor.platform.transport.sockets import Socket
from supervisor.platform.transport.wire import SILENT

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
        clock: wall time, for a ``Retry-After`` that is a date.

    Attributes:
        on_silent: told the agent whose connection was silent for longer than the server's pings allow; set by the
            service.
    """

    def __init__(self, session: Session, *, clock: Clock | None = None) -> None:
        self._session = session
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
        origin = _origin(target)
        socket = self._socket(target, origin.host or "", agent_id, on_event)
        self._sockets.add(socket)
        failure = await _attempt(socket, target, str(origin), token, timeout)
        if failure is None:
            return socket
        socket.abort()
        await socket.settle(1.0)
        # Outside every except block, and without its past: what the library raised knows the URL and the token.
        raise failure.with_traceback(None)

    def _socket(self, target: Target, host: str, agent_id: str, on_event: Callable[[str, object], None]) -> Socket:
        socket = Socket(
            self._session.http,
            host=host,
            namespace=target.namespace,
            proxy=target.proxy,
            clock=self._clock,
            agent_id=agent_id,
            on_event=on_event,
        )

        def ended(closed: asyncio.Future[str]) -> None:
            if not closed.cancelled() and closed.result() == SILENT:
                self.on_silent(agent_id)

        socket.closed.add_done_callback(ended)
        return socket

    async def close(self) -> None:
        """Close every socket; bounded in time, idempotent."""
        sockets = [socket for socket in self._sockets if not socket.closed.done()]
        await asyncio.gather(*(socket.close() for socket in sockets))


async def _attempt(socket: Socket, target: Target, origin: str, token: str, timeout: float) -> ConnectError | None:
    """Try once; what came of it, None when the socket is open."""
    via = target.token_via
    url = f"{origin}?token={quote(token, safe='')}" if via == "query" else origin
    headers = {"Authorization": f"Bearer {token}"} if via == "header" else {}
    try:
        async with asyncio.timeout(timeout):
            await socket.join(url, target.engine_path, headers, token, in_auth=via == "auth")
    except TimeoutError:
        return socket.failure(timeout)
    except ConnectError as error:
        return error
    except Exception:  # noqa: BLE001 - the library raises many kinds; the wire knows what happened
        return socket.failure()
    except BaseException:
        socket.abort()
        raise
    return None


def _origin(target: Target) -> URL:
    """Scheme, host and port of the target, checked.

    Raises:
        ConnectError: the target cannot be right, whatever the platform does.
    """
    try:
        url = URL(target.url)
        valid = url.scheme in ("ws", "wss", "http", "https") and bool(url.host)
    except ValueError:
        valid = False
    if not valid:
        raise ConnectError("WS_URL must be a ws://, wss://, http:// or https:// URL", Verdict.FAULT)
    name = target.namespace
    if not name.startswith("/") or any(not c.isprintable() or c in ",? " for c in name):
        raise ConnectError("the namespace must begin with / and hold no comma, question mark or space", Verdict.FAULT)
    return url.origin()
