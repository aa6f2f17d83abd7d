"""A webhook, or a server of files, that answers as a test tells it, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        """Whether the signature is that of the timestamp and the body: the rule in a few lines of its own."""
        signed = f"{self.headers['X-Supervisor-Timestamp']}.{self.body.decode()}"
        return (
            self.headers["X-Supervisor-Signature"]
            == "v1=" + hmac.digest(secret.encode(), signed.encode(), hashlib.sha256).hex()
        )


@dataclass
class ScriptedWebhook:
    """Gives ``answers`` in turn, the last of them for ever."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2].partition("/")[0])

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Note a request and answer it."""
        self.asked.append(Asked(dict(request.headers), await request.read()))
        return await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)


def says(
    body: Any = None, status: int = 200, *, kind: str = "application/json", headers: dict[str, str] | None = None
) -> Answer:
    """An answer whole at once; ``body`` is bytes, or anything JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(
            status=status, body=b"" if status == 204 else raw, headers={"Content-Type": kind, **(headers or {})}
        )

    return answer


def cuts(*chunks: bytes, kind: str = "application/x-ndjson") -> Answer:
    """Sends ``chunks`` and then breaks the connection off; without any, before it answers at all."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        if chunks:
            await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.05)  # so that it is on its way before the connection is reset
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer


def streams(*chunks: bytes | asyncio.Event, kind: str = "application/x-ndjson") -> Answer:
    """Sends ``chunks`` one by one; an event among them is waited for."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        for chunk in chunks:
            if isinstance(chunk, asyncio.Event):
                await chunk.wait()
            else:
                await response.write(chunk)
        return response

    return answer


def hangs(release: asyncio.Event) -> Answer:
    """Does not answer until ``release``."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response(status=204)

    return answer


@asynccontextmanager
async def scripted_webhook() -> AsyncIterator[ScriptedWebhook]:
    """A webhook on a port of its own."""
    webhook = ScriptedWebhook()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", webhook.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        webhook.url = f"http://{host}:{port}/hook"
        yield webhook
    finally:
        await runner.cleanup()
