"""What all of our connections to the platform share: one TLS context, one HTTP session and no cookie."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import aiohttp

from supervisor.core.turns import Turns
from supervisor.net.masks import UnmaskedConnector
from supervisor.net.tcp import connect_tcp
from supervisor.net.tls import tls_context
from supervisor.net.trouble import redirect_host

_CLOSE_SECONDS: Final = 5.0


class RedirectRefusedError(aiohttp.ClientError):
    """An answer was a redirect, which nobody follows: whoever is there would get the token. Its text is where to."""


class Session:
    """A TLS context and an HTTP session. Made by :meth:`open`.

    A context and a session for each connection would cost a megabyte and a half of memory; shared, a connection takes
    some 60 KiB.

    Attributes:
        tls: verifies the peers of all connections.
        http: the HTTP session; follows no redirect, keeps no cookie, tries nothing twice.
        upgrades: the same for WebSockets, each on a connection that has carried nothing before: on another one the
            platform lets an upgrade at a wrong path hang (docs/protocol.md#711-a-wrong-engine-path).
        turns: what all connections share of the event loop for what comes in bursts.
    """

    def __init__(self, tls: ssl.SSLContext, http: aiohttp.ClientSession, upgrades: aiohttp.ClientSession) -> None:
        self.tls = tls
        self.http = http
        self.upgrades = upgrades
        self.turns = Turns()

    @classmethod
    async def open(cls, *, ca_file: Path | None = None, connect_timeout: float = 10.0) -> Session:
        """Make one.

        Args:
            ca_file: a PEM file of authorities to trust beside the system's.
            connect_timeout: seconds for TCP and TLS to one address of a host.

        Raises:
            ConfigurationError: the file cannot be read or holds no certificate.
        """
        context = await asyncio.to_thread(tls_context, ca_file)
        made = [_session(context, connect_timeout, keeps_connections=keeps) for keeps in (True, False)]
        return cls(context, *made)

    async def connect_tcp(self, host: str, port: int) -> socket.socket:
        """A TCP connection for a WebSocket that is not aiohttp's; see :func:`.tcp.connect_tcp`."""
        return await connect_tcp(self.upgrades, host, port)

    async def close(self) -> None:
        """Close the session; bounded in time, idempotent."""
        # aiohttp waits until every connection has flushed, for as long as it takes.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.gather(self.http.close(), self.upgrades.close())


def _session(context: ssl.SSLContext, connect_timeout: float, *, keeps_connections: bool) -> aiohttp.ClientSession:
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirect)
    connector = aiohttp.TCPConnector if keeps_connections else UnmaskedConnector
    http = aiohttp.ClientSession(
        # No limit: with one, a fleet larger than it waits for ever, because WebSockets' connections do not come back.
        connector=connector(limit=0, ssl=context, ttl_dns_cache=30, force_close=not keeps_connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
        trace_configs=[tracing],
    )
    # aiohttp sends a GET once more when its connection breaks. Of an upgrade that would be a second attempt, which
    # nobody counts and no rate bounds.
    http._retry_connection = False
    return http


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, redirect: aiohttp.TraceRequestRedirectParams
) -> None:
    """Refuse to follow a redirect: ``ws_connect`` has no switch for it."""
    redirect.response.close()
    raise RedirectRefusedError(redirect_host(redirect.response.headers))
