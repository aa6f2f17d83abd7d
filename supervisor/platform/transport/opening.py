"""Opening connections over one shared HTTP session."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Literal
from urllib.parse import quote

import aiohttp
from yarl import URL

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import ConnectError, Verdict
from supervisor.net.tls import tls_context
from supervisor.net.trouble import redirect_host
from supervisor.platform.transport.failures import RedirectedError
from supervisor.platform.transport.sockets import Socket
from supervisor.platform.transport.wire import SILENT

_CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Target:
    """Where and how to connect (PROTOCOL §2: URL, namespace and engine path are three things).

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
    token_via: Literal["auth", "header", "query"] = "auth"  # noqa: S105 - not a token
    proxy: str | None = field(default=None, repr=False)


class Transport:
    """Opens connections that share a session, a TLS context and no cookie (DESIGN §8: 62 KiB a connection).

    Make it with :meth:`create`. ``session`` serves the token client too.
    """

    def __init__(self, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.session = session
        self._clock = clock
        self._sockets: weakref.WeakSet[Socket] = weakref.WeakSet()
        #: Told the agent whose connection was silent for longer than the server's pings allow; set by the service.
        self.on_silent: Callable[[str], None] = lambda _agent_id: None

    @classmethod
    async def create(
        cls, *, ca_file: Path | None = None, connect_timeout: float = 10.0, clock: Clock | None = None
    ) -> Transport:
        """Make the shared session.

        Args:
            ca_file: a PEM file of authorities to trust beside the system's.
            connect_timeout: seconds for TCP and TLS to one address of a host.
            clock: wall time.

        Raises:
            ConfigurationError: the file cannot be read or holds no certificate.
        """
        context = await asyncio.to_thread(tls_context, ca_file)
        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(_refuse_redirect)
        session = aiohttp.ClientSession(
            # No limit: with one, a fleet larger than it waits for ever, for these connections do not come back.
            connector=aiohttp.TCPConnector(limit=0, ssl=context, ttl_dns_cache=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
            trace_configs=[tracing],
        )
        # aiohttp sends a GET once more when its connection breaks: of an upgrade that would be a second attempt, which
        # nobody counts and no rate bounds.
        session._retry_connection = False
        return cls(session, clock or SystemClock())

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
            self.session,
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
        """Close every connection and the session; bounded in time."""
        sockets = [socket for socket in self._sockets if not socket.closed.done()]
        await asyncio.gather(*(socket.close() for socket in sockets))
        # aiohttp waits until every connection has flushed, for as long as it takes.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.session.close()


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


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    """Refuse to follow a redirect: ``ws_connect`` has no switch for it, and CONNECT would carry the token there."""
    redirect.response.close()
    raise RedirectedError(redirect_host(redirect.response.headers))
