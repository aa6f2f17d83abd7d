"""One connection to one tool server (MCP over HTTP), with the platform's headers as they are at each request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator, Mapping
from typing import Final

import httpx2
from pydantic_ai.mcp import MCPToolset

from supervisor.handler import AgentContext

from .listing import leaving_out
from .settings import AssistantSettings
from .shared import Shared

#: How long a server may take to say goodbye; a dead one never does.
CLOSE_SECONDS: Final = 2.0


class _CurrentHeaders(httpx2.Auth):
    """The headers that the platform gives for a server, as they are at each request: the token in them changes."""

    def __init__(self, ctx: AgentContext, server: str) -> None:
        self._ctx = ctx
        self._server = server
        # A message has a trace, an agent has none.
        self._trace_headers: Callable[[], Mapping[str, str]] = getattr(ctx, "trace_headers", dict)

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        config = self._ctx.mcp_servers.get(self._server)
        headers = config.get("headers") if isinstance(config, Mapping) else None
        if isinstance(headers, Mapping):
            for name, value in headers.items():
                if isinstance(name, str) and isinstance(value, str):
                    request.headers[name] = value
        request.headers.update(self._trace_headers())
        yield request


class Connection:
    """A connection to one server, held in a task of its own: what it opens must be closed where it was opened.

    Attributes:
        task: holds it.
        ready: done once its tools are listed, or cannot be.
        left_out: tools of its list that cannot be used, and why.
    """

    def __init__(
        self,
        ctx: AgentContext,
        name: str,
        url: str,
        shared: Shared,
        settings: AssistantSettings,
    ) -> None:
        self.toolset: MCPToolset[None] = MCPToolset(
            url,
            id=name,
            auth=_CurrentHeaders(ctx, name),
            http_client=shared.tool_http,
            tool_error_behavior="failed",
            init_timeout=settings.connect_seconds,
            read_timeout=settings.tool_seconds,
        )
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left_out: dict[str, str] = {}
        self._seconds = settings.connect_seconds
        self._over = asyncio.Event()
        self.task = asyncio.create_task(self._hold(), name=f"tools {name}")

    async def _hold(self) -> None:
        try:
            with leaving_out(self.left_out):
                async with self.toolset:
                    await self.toolset.list_tools()
                    self.ready.set_result(None)
                    await self._over.wait()
        except Exception as error:  # noqa: BLE001  a server may fail in any way, in its goodbye too
            if not self.ready.done():
                self.ready.set_exception(error)
                # Looked at here: who was to ask may have given it up in this moment.
                self.ready.exception()
        finally:
            if not self.ready.done():
                self.ready.cancel()

    def end(self) -> None:
        """Let it say goodbye; given up where it is not ready."""
        if self.ready.done():
            self._over.set()
        else:
            # Nobody waits for it any more, nor for what it may still say.
            self.ready.cancel()
            self.task.cancel()

    @property
    def problem(self) -> str | None:
        """Why it cannot be used; None when it can. To be asked once it is ready or late."""
        if not self.ready.done() or self.ready.cancelled():
            return f"it was not ready within {self._seconds:g} s"
        error = self.ready.exception()
        return None if error is None else f"it cannot be used ({type(_innermost(error)).__name__})"


def _innermost(error: BaseException) -> BaseException:
    """The error that a group or a wrapper is about."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


async def settled(connections: Collection[Connection], seconds: float) -> None:
    """Wait until each of them is ready or has failed, for so long."""
    await asyncio.wait([connection.ready for connection in connections], timeout=seconds)


async def close(connections: Collection[Connection]) -> None:
    """Say goodbye to all of them; those that are not ready are given up."""
    for connection in connections:
        connection.end()
    tasks = {connection.task for connection in connections}
    late = tasks
    try:
        _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
    except asyncio.CancelledError:
        late = {task for task in tasks if not task.done()}
        raise
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
    if late:
        await asyncio.wait(late, timeout=CLOSE_SECONDS)
