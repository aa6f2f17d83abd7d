"""A token endpoint that answers what a test tells it."""

from __future__ import annotations

import asyncio
import base64
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from supervisor.core.clock import SystemClock
from supervisor.core.errors import PlatformError, TokenError
from supervisor.platform.history import PlatformHistory
from supervisor.platform.hosts.agent_api import AgentApi
from supervisor.platform.hosts.api import PlatformApi
from supervisor.platform.hosts.facts import HostFacts
from supervisor.platform.hosts.gates import Gates
from supervisor.platform.hosts.pool import BoundedPool
from supervisor.platform.tokens import TokenClient, TokenSource

AGENT = "aaaaaaaaaaaaaaaaaaaa0001"
SECRET = "s3cret-of-agent-1"
RECORDINGS = Path(__file__).parent.parent / "recordings"


def jwt(**claims: Any) -> str:
    """An unsigned JWT with these claims."""

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.c2lnbmF0dXJl"


def recorded_answers(name: str) -> list[tuple[str, str, int, Any]]:
    """The answers of a recording: note, request, status, body."""
    lines = [json.loads(line) for line in (RECORDINGS / name).read_text().splitlines()]
    return [(line["note"], line["request"], line["status"], line["answer"]) for line in lines]


class TokenServer:
    """Counts and keeps requests; ``answer`` makes each answer."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.running = 0
        self.most = 0
        self.issued = 0
        self.url = ""
        self.answer: Callable[[web.Request], web.StreamResponse | Awaitable[web.StreamResponse]] = self.grant

    def grant(self, _request: web.Request) -> web.StreamResponse:
        """Give a token that is new each time."""
        self.issued += 1
        return web.json_response({"accessToken": jwt(sub=AGENT, n=self.issued), "expiresIn": 86400}, status=201)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        is_json = body and not request.content_type.startswith("multipart/")
        self.requests.append((request.path_qs, json.loads(body) if is_json else None))
        self.headers.append(dict(request.headers))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            answer = self.answer(request)
            return answer if isinstance(answer, web.StreamResponse) else await answer
        finally:
            self.running -= 1


@asynccontextmanager
async def token_server() -> AsyncIterator[TokenServer]:
    """A running :class:`TokenServer`."""
    server = TokenServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    # A client that goes away ends its handler, so that a test can see a request being cancelled.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


class Client:
    """A token client and a history over one session, and how the token requests ended."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        at_once: int = 10,
        rate: float = 1000.0,
        timeout_seconds: float = 5.0,
        **options: Any,
    ) -> None:
        self.outcomes: list[str] = []
        self.clock = SystemClock()
        self.gates = Gates(
            connect_rate=1, auth_rate=rate, connect_concurrency=1, auth_concurrency=at_once, clock=self.clock
        )
        self.api = PlatformApi(session, self.clock, timeout_seconds=timeout_seconds)
        self.facts = HostFacts()
        self.tokens = TokenClient(
            self.api, self.gates, clock=self.clock, facts=self.facts, on_outcome=self.outcomes.append, **options
        )
        self.agent_api = AgentApi(self.api, self.gates)
        self.history = PlatformHistory(self.agent_api, self.clock)

    @property
    def pool(self) -> BoundedPool:
        """What bounds the token requests to a server of this machine."""
        return self.gates.of("127.0.0.1").token_pool

    def source(self, url: str, secret: Callable[[], str] = lambda: SECRET) -> TokenSource:
        return TokenSource(self.tokens, AGENT, url, secret, self.clock)


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[Client]:
    """A token client with a session and gates of its own; nothing of it is left afterwards."""
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        made = Client(session, **options)
        yield made
        await made.gates.close()
    leftover = {task for task in asyncio.all_tasks() - before if "token" in task.get_name()}
    assert not leftover


Answer = Callable[[web.Request], web.StreamResponse]


def answering(status: int, text: str = "", **headers: str) -> Answer:
    """Answer every request so."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: web.Response(status=status, text=text, headers=fields)


def answering_json(status: int, body: Any, **headers: str) -> Answer:
    """Answer every request with this JSON."""
    return answering(status, json.dumps(body), Content_Type="application/json", **headers)


def assert_secret_is_nowhere(error: PlatformError) -> None:
    """Neither the error nor what caused it shows the secret, and its reason is one short line."""
    assert SECRET not in "".join(traceback.format_exception(error))
    assert error.__context__ is None
    assert error.reason.isprintable()
    assert len(error.reason) < 400


async def failure_of(answer: Answer, agent_id: str = AGENT) -> tuple[TokenError, list[str]]:
    """What a token request comes to that is answered so, and the outcomes that were told."""
    async with token_server() as server, client() as made:
        server.answer = answer
        with pytest.raises(TokenError) as failure:
            await made.tokens.fetch(agent_id, server.url, SECRET)
        assert_secret_is_nowhere(failure.value)
        return failure.value, made.outcomes
