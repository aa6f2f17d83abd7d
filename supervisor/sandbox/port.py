"""One listening port: uvicorn's protocols without its signal handlers, its polling loop and its polite shutdown."""

import asyncio
import contextlib
import logging
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.lifespan.off import LifespanOff
from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.sandbox.middleware import Scope
from supervisor.sandbox.sockets.engine import WireProtocol
from supervisor.sandbox.world.config import SandboxConfig

_BACKLOG = 4096
_FAREWELL_SECONDS = 0.05
_LEFT_UPGRADE_SECONDS = 1.0


class PlatformHttp(H11Protocol):
    """uvicorn's HTTP, which leaves WebSocket upgrades at an engine path that is not there as Node does.

    On a fresh TCP connection it is ended after a second; one that has carried a request hangs. Neither is answered
    (docs/protocol.md#7-findings, 11).
    """

    engine_paths: tuple[str, ...] = ()
    wrong_path_status: int | None = None
    _has_answered = False

    def on_response_complete(self) -> None:
        """As uvicorn does, and remember it."""
        self._has_answered = True
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Upgrade where Engine.IO is."""
        path = event.target.partition(b"?")[0].decode("latin-1")
        if any(f"{path}/".startswith(f"{known}/") for known in self.engine_paths):
            super().handle_websocket_upgrade(event)
        elif self.wrong_path_status is not None:
            self.transport.write(f"HTTP/1.1 {self.wrong_path_status} Refused\r\nContent-Length: 0\r\n\r\n".encode())
            self.transport.close()
        elif not self._has_answered:
            self.loop.call_later(_LEFT_UPGRADE_SECONDS, self.transport.close)


class PortServer:
    """Serves one ASGI application on a port that stays the same over restarts."""

    def __init__(self, config: SandboxConfig, *, engine_paths: tuple[str, ...]) -> None:
        self._host = config.host
        known = {"engine_paths": engine_paths, "wrong_path_status": config.wrong_path_status}
        self._http_class = type("Http", (PlatformHttp,), known)
        self._max_payload_bytes = config.max_payload_bytes
        self._server: uvicorn.Server | None = None
        self.port = config.port

    @property
    def running(self) -> bool:
        """Whether the port is open."""
        return self._server is not None

    async def start(self, app: Any) -> None:
        """Open the port; a no-op when it is open.

        Raises:
            OSError: The port is taken or the host is not ours.
        """
        if self._server is not None:
            return
        listener = _bind(self._host, self.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            host=self._host,
            port=self.port,
            ws=WireProtocol,
            ws_max_size=self._max_payload_bytes,
            # The platform negotiates no extension and sends no WebSocket pings: Engine.IO has its own.
            ws_per_message_deflate=False,
            ws_ping_interval=None,
            ws_ping_timeout=None,
            http=self._http_class,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
        )
        # To be without an access log cuts that logger off for the whole process.
        logging.getLogger("uvicorn.access").propagate = True
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = LifespanOff(config)
        startup = asyncio.ensure_future(server.startup(sockets=[listener]))
        try:
            await asyncio.shield(startup)
        except asyncio.CancelledError:
            # Half-open, the listener would leak.
            await startup
            self._server = server
            await self.stop()
            raise
        self._server = server

    async def stop(self) -> None:
        """Close the port and reset what is still connected; a no-op when it is closed."""
        server, self._server = self._server, None
        if server is None:
            return
        for listener in server.servers:
            listener.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        if tasks := set(server.server_state.tasks):
            # Most end by themselves now that their connection is gone; a delayed answer has to be told.
            _, late = await asyncio.wait(tasks, timeout=_FAREWELL_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for listener in server.servers:
            await listener.wait_closed()

    def abort_tainted(self) -> None:
        """Reset the sockets that lost packets to a hang which is over: a stream with holes cannot go on."""
        connections = self._server.server_state.connections if self._server else ()
        for connection in list(connections):
            if isinstance(connection, WireProtocol) and connection.tainted and not connection.hung():
                connection.abort()

    def reset(self, scope: Scope) -> None:
        """Reset the TCP connection that a request came by."""
        if self._server is None:
            return
        client = tuple(scope["client"])
        for connection in list(self._server.server_state.connections):
            if getattr(connection, "client", None) == client:
                connection.transport.abort()


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # At once: until it listens, another process may bind the same port, and would answer in our place.
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        on_failure.pop_all()
    return listener
