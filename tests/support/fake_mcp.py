"""A tool server (MCP over streamable HTTP) that dies, hangs and returns when a test says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

#: The revision of the protocol that it speaks.
PROTOCOL_VERSION = "2025-06-18"
_METHOD_NOT_FOUND = -32601


@dataclass(frozen=True)
class Tool:
    """A tool; ``run`` gives its text, or raises for a result that is an error.

    Args:
        listed: what the server lists of it, in place of name, description and ``schema``.
    """

    name: str
    run: Callable[[dict[str, Any]], str | Awaitable[str]]
    schema: Any = None
    listed: Any = None

    @property
    def as_listed(self) -> Any:
        """What the server lists of it."""
        empty = {"type": "object", "properties": {}}
        plain = {"name": self.name, "description": self.name, "inputSchema": self.schema or empty}
        return plain if self.listed is None else self.listed


def _weather(arguments: dict[str, Any]) -> str:
    return f"It is sunny in {arguments.get('city', 'nowhere')}."


def _broken(_arguments: dict[str, Any]) -> str:
    raise RuntimeError("the thermometer is broken")


WEATHER = Tool("weather", _weather, {"type": "object", "properties": {"city": {"type": "string"}}})
BROKEN = Tool("thermometer", _broken)


class FakeMcp:
    """A server on a port of its own, which it keeps over :meth:`stop` and :meth:`start`."""

    def __init__(self, *tools: Tool) -> None:
        self.tools = {tool.name: tool for tool in tools or (WEATHER, BROKEN)}
        self.port = 0
        self.hangs = False
        #: Whether it answers with event streams.
        self.streams = False
        #: Method and Authorization header of each request.
        self.requests: list[tuple[str, str]] = []
        #: Method and traceparent header of each request that has one.
        self.traceparents: list[tuple[str, str]] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._runner: web.AppRunner | None = None
        self._released = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/mcp", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Die: connections are closed, new ones refused."""
        runner, self._runner = self._runner, None
        self._released.set()
        self._released = asyncio.Event()
        if runner is not None:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=200 if request.method == "DELETE" else 405)
        body = json.loads(await request.read())
        method = body.get("method", "")
        self.requests.append((method, request.headers.get("Authorization", "")))
        if traceparent := request.headers.get("traceparent"):
            self.traceparents.append((method, traceparent))
        if self.hangs:
            await self._released.wait()
            return web.Response(status=503)
        if "id" not in body:
            return web.Response(status=202)
        answer = {"jsonrpc": "2.0", "id": body["id"], **await self._answer(method, body.get("params") or {})}
        headers = {"Mcp-Session-Id": "session-1"}
        if self.streams:
            text = f"event: message\ndata: {json.dumps(answer)}\n\n"
            return web.Response(text=text, content_type="text/event-stream", headers=headers)
        return web.json_response(answer, headers=headers)

    async def _answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "initialize":
                info = {"name": "fake", "version": "1"}
                version = params.get("protocolVersion", PROTOCOL_VERSION)
                return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}}
            case "ping":
                return {"result": {}}
            case "tools/list":
                return {"result": {"tools": [tool.as_listed for tool in self.tools.values()]}}
            case "tools/call":
                return {"result": await self._call(params["name"], params.get("arguments") or {})}
        return {"error": {"code": _METHOD_NOT_FOUND, "message": f"no method {method}"}}

    async def _call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((name, arguments))
        try:
            text = self.tools[name].run(arguments)
            if not isinstance(text, str):
                text = await text
        except RuntimeError as error:
            return {"content": [{"type": "text", "text": str(error)}], "isError": True}
        return {"content": [{"type": "text", "text": text}], "isError": False}


@asynccontextmanager
async def fake_mcp(*tools: Tool) -> AsyncIterator[FakeMcp]:
    """A running :class:`FakeMcp`."""
    server = FakeMcp(*tools)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
