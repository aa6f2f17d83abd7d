"""The platform's tool servers (MCP over HTTP) for one run: connected for it alone, each call with the current token.

A toolset that is held open over its server's outage fails for ever after (pydantic-ai), so none outlives its run. A
server that is dead or hangs costs its tools, not the answer (RELIABILITY R18).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Collection, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset

from supervisor.handler import Context

from .settings import AssistantSettings
from .shared import Shared

#: How long a server may take to say goodbye; a dead one never does.
CLOSE_SECONDS: Final = 2.0
#: What providers take as a tool's name.
MAX_NAME_CHARS: Final = 64
_ODD: Final = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass
class ServerNotes:
    """What was logged of an agent's servers, so that it is logged once; one that is well again begins anew."""

    told: dict[str, str] = field(default_factory=dict)

    def tell(self, ctx: Context, server: str, reason: str, *, unfit: bool = False) -> None:
        """Log what is wrong with a server, unless that is known; one that cannot be meant for us is no warning."""
        if self.told.get(server) != reason:
            self.told[server] = reason
            log = ctx.log.info if unfit else ctx.log.warning
            log("tool_server_left_out", server=server, reason=reason)

    def well(self, ctx: Context, server: str) -> None:
        """A server is connected."""
        if self.told.pop(server, None) is not None:
            ctx.log.info("tool_server_back", server=server)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run has: toolsets that are connected, and the names of the servers that should be and are not."""

    toolsets: Sequence[AbstractToolset[None]]
    missing: Sequence[str]


class _CurrentHeaders(httpx2.Auth):
    """The headers that the platform gives for a server, as they are at each request: the token in them changes."""

    def __init__(self, ctx: Context, server: str) -> None:
        self._ctx = ctx
        self._server = server

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        config = self._ctx.mcp_servers.get(self._server)
        headers = config.get("headers") if isinstance(config, Mapping) else None
        if isinstance(headers, Mapping):
            for name, value in headers.items():
                if isinstance(name, str) and isinstance(value, str):
                    request.headers[name] = value
        request.headers.update(self._ctx.trace_headers())
        yield request


class ServerTools(WrapperToolset[None]):
    """One server's tools under the platform's names ``mcp__Server__tool``, those that the agent is allowed.

    Whatever goes wrong with a call is told to the model, which can say so or do without: it never ends the run.
    """

    def __init__(
        self, wrapped: AbstractToolset[None], server: str, allowed: Collection[str], ctx: Context, seconds: float
    ) -> None:
        super().__init__(wrapped)
        self._server = server
        self._allowed = allowed
        self._ctx = ctx
        self._seconds = seconds
        self._names: dict[str, str] = {}
        self._known: dict[str, ToolsetTool[None]] = {}

    async def get_tools(self, ctx: RunContext[None]) -> dict[str, ToolsetTool[None]]:
        try:
            found = await super().get_tools(ctx)
        except Exception as error:  # noqa: BLE001  a server may fail in any way between two steps
            self._ctx.log.warning("tools_not_listed", server=self._server, reason=type(error).__name__)
            return self._known
        tools = {}
        for name, tool in found.items():
            full = f"mcp__{self._server}__{name}"
            if self._allowed and full not in self._allowed:
                continue
            shown = safe_name(full)
            self._names[shown] = name
            tools[shown] = _renamed(tool, self, shown)
        self._known = tools
        return tools

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:
        original = self._names[name]
        try:
            with self._ctx.tool_call(name, call_id=ctx.tool_call_id):
                async with asyncio.timeout(self._seconds):
                    return await super().call_tool(original, tool_args, ctx, _renamed(tool, self, original))
        except ToolFailed:
            raise
        except ModelRetry as error:
            # As a retry it would count against the run; the model may try again all the same.
            raise ToolFailed(error.message) from error
        except TimeoutError as error:
            raise ToolFailed(f"The tool did not answer within {self._seconds:g} s.") from error
        except Exception as error:
            self._ctx.log.warning("tool_failed", server=self._server, tool=original, reason=type(error).__name__)
            raise ToolFailed(f"The tool server {self._server} does not answer at the moment.") from error


def _renamed(tool: ToolsetTool[None], toolset: AbstractToolset[None], name: str) -> ToolsetTool[None]:
    return replace(tool, toolset=toolset, tool_def=replace(tool.tool_def, name=name))


def safe_name(name: str) -> str:
    """A name that every provider takes; one that had to be changed ends with a digest, so that it stays its own."""
    safe = _ODD.sub("_", name)
    if safe == name and len(name) <= MAX_NAME_CHARS:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{safe[: MAX_NAME_CHARS - len(mark) - 1]}_{mark}"


def is_local(url: str) -> bool:
    """Whether a URL means the machine it is used on."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _unfit(config: object, *, local: bool) -> str | None:
    """Why a server cannot be used, if so."""
    url = config.get("url") if isinstance(config, Mapping) else None
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return "it has no http(s) URL"
    try:
        here = is_local(url)
    except ValueError:
        return "its URL cannot be read"
    if here and not local:
        return "its URL is the platform's default at localhost, which cannot be reached from here"
    return None


@asynccontextmanager
async def connected(
    ctx: Context, settings: AssistantSettings, shared: Shared, notes: ServerNotes
) -> AsyncIterator[Tools]:
    """Connect to all of the agent's servers at once; those that are not ready in time are left out."""
    lines: dict[str, _Line] = {}
    for name, config in ctx.mcp_servers.items():
        if reason := _unfit(config, local=settings.allow_local_tools):
            notes.tell(ctx, name, reason, unfit=True)
        else:
            lines[name] = _Line(ctx, name, config["url"], shared, settings)
    if not lines:
        yield Tools((), ())
        return
    try:
        await asyncio.wait([line.ready for line in lines.values()], timeout=settings.connect_seconds)
        up, missing = [], []
        for name, line in lines.items():
            if reason := line.problem(settings.connect_seconds):
                notes.tell(ctx, name, reason)
                missing.append(name)
            else:
                notes.well(ctx, name)
                up.append(ServerTools(line.toolset, name, ctx.allowed_functions, ctx, settings.tool_seconds))
        yield Tools(up, missing)
    finally:
        await _close(lines.values())


class _Line:
    """A connection to one server, held in a task of its own: what it opens must be closed where it was opened."""

    def __init__(self, ctx: Context, name: str, url: str, shared: Shared, settings: AssistantSettings) -> None:
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
        self.over = asyncio.Event()
        self.task = asyncio.create_task(self._hold(), name=f"tools {name}")

    async def _hold(self) -> None:
        try:
            async with self.toolset:
                await self.toolset.list_tools()
                self.ready.set_result(None)
                await self.over.wait()
        except Exception as error:  # noqa: BLE001  a server may fail in any way, in its goodbye too
            if not self.ready.done():
                self.ready.set_exception(error)
        finally:
            if not self.ready.done():
                self.ready.cancel()

    def problem(self, seconds: float) -> str | None:
        """Why it is not connected; None when it is."""
        if not self.ready.done():
            return f"it was not ready within {seconds:g} s"
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


async def _close(lines: Collection[_Line]) -> None:
    for line in lines:
        if line.ready.done():
            line.over.set()
        else:
            # Nobody waits for it any more, nor for what it may still say.
            line.ready.cancel()
            line.task.cancel()
    tasks = [line.task for line in lines]
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
