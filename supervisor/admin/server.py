"""Serves an app on the running event loop: uvicorn without its signal handlers, its logging or its banner."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Generator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from supervisor.admin.crowd import Crowd
from supervisor.core.errors import ConfigurationError
from supervisor.core.tasks import cancel_all, kept

_STOP_SECONDS: Final = 5.0
_UNREAD_SECONDS: Final = 60
#: Connects that the system keeps for us until they are taken.
_BACKLOG: Final = 4096
#: Connects that are taken in one turn of the event loop: fewer than make the crowd cut one that came just before.
_AT_ONCE: Final = 64
#: What to say instead of the system's words, where it can be said better.
_BIND_PROBLEMS: Final = {
    errno.EADDRINUSE: "is in use, perhaps by another supervisor; stop that, or set SUPERVISOR_ADMIN_PORT "
    "to a free port (0 takes any)",
    errno.EACCES: "is not for this user to take; set SUPERVISOR_ADMIN_PORT to one above 1023",
    errno.EADDRNOTAVAIL: "cannot be taken, the address is not this machine's; mend SUPERVISOR_ADMIN_HOST",
}


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        await kept(super().main_loop)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # Signals belong to the supervisor, which drains before it stops.
        yield


class AdminServer:
    """One HTTP server; ``start`` and ``stop`` may each be called more than once.

    Args:
        app: what it serves.
        host: the address it listens on.
        port: its port; 0 takes a free one, see :attr:`url`.
        crowd: bounds who is connected.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, *, crowd: Crowd | None = None) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._crowd = Crowd() if crowd is None else crowd
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where a browser on this machine reaches it; no slash at the end."""
        port = self._socket.getsockname()[1] if self._socket else self._port
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._host, self._host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen; returns once requests are answered.

        Raises:
            ConfigurationError: the address cannot be taken; says which setting to change.
        """
        if self._task is not None:
            return
        self._socket = await self._bind()
        config = uvicorn.Config(
            self._app,
            http=self._crowd.protocol,
            backlog=_AT_ONCE,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(_STOP_SECONDS) - 2,
        )
        # To be without an access log cuts that logger off for the whole process, warnings of others included.
        logging.getLogger("uvicorn.access").propagate = True
        self._server = server = _Server(config)
        self._task = asyncio.create_task(server.serve(sockets=[self._socket]), name="admin server")
        self._task.add_done_callback(lambda _: server.listening.set())
        await server.listening.wait()
        if self._task.done():
            await self._task
        # asyncio has one figure for both, and has set the smaller one.
        self._socket.listen(_BACKLOG)
        self._sweeper = asyncio.create_task(kept(self._crowd.sweep), name="admin connections")

    async def stop(self) -> None:
        """Stop listening, let requests under way end, close every connection."""
        task, self._task = self._task, None
        if self._sweeper is not None:
            await cancel_all([self._sweeper])
            self._sweeper = None
        if task is not None and self._server is not None:
            self._server.should_exit = True
            await asyncio.wait({task}, timeout=_STOP_SECONDS)
            await cancel_all([task])
        # What nobody has read by now has no more time.
        self._crowd.cut_all()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _bind(self) -> socket.socket:
        where = f"Port {self._port} on {self._host}"
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                self._host or None, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise ConfigurationError(
                f"{self._host} is no address: {error.strerror}; mend SUPERVISOR_ADMIN_HOST"
            ) from None
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                # Connections inherit this from the socket: the system cuts off a peer that reads no more.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_SECONDS * 1000)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            problem = _BIND_PROBLEMS.get(error.errno or 0, f"cannot be taken: {error.strerror}")
            raise ConfigurationError(f"{where} {problem}") from None
        listener.setblocking(False)
        return listener
