"""Language models that say what a test tells them: OpenAI's, Anthropic's and Google's APIs over real HTTP.

With the dialects of those who speak OpenAI's language, and the platform's proxy in front of all.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from tests.support.fake_wires import BODIES, EVENTS, Answer, Dialect, google_chunks, refusal

__all__ = ["MODEL_KEY", "Answer", "FakeModels", "Request", "fake_models", "refusal"]

MODEL_KEY = "sk-test-0123456789abcdef"
#: How answers come: as they are asked for, or whatever is asked for as one JSON body, as the stream in a string of JSON
#: (or in a string in that), as an array, or as lines of JSON.
Form = Literal["asked", "json", "string", "string in string", "array", "lines"]


@dataclass(frozen=True)
class Request:
    """One request as it arrived; ``key`` is what it brought to prove itself, ``at`` in monotonic seconds."""

    provider: str
    model: str
    key: str
    body: Any
    at: float = field(default_factory=time.monotonic)
    streamed: bool = True

    @property
    def texts(self) -> list[str]:
        """All texts in it, in order: instruction, history, tool results, in whatever shape."""
        found: list[str] = []

        def collect(value: Any) -> None:
            if isinstance(value, str):
                found.append(value)
            for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
                collect(item)

        collect([self.body.get(name) for name in ("systemInstruction", "system", "messages", "contents")])
        return found

    @property
    def said(self) -> str:
        """The texts as one."""
        return "\n".join(self.texts)

    @property
    def files(self) -> list[tuple[str, bytes]]:
        """The files in it, in order, as media type and bytes, in each provider's shape of them."""
        found: list[tuple[str, bytes]] = []

        def collect(value: Any) -> None:
            match value:
                case {"type": "image_url", "image_url": {"url": url}} | {"type": "file", "file": {"file_data": url}}:
                    head, _, data = url.partition(";base64,")
                    found.append((head.removeprefix("data:"), base64.b64decode(data)))
                case {"type": "base64", "media_type": kind, "data": data} | {"mime_type": kind, "data": data}:
                    # Google's client writes its base64 for URLs.
                    found.append((kind, base64.urlsafe_b64decode(data.replace("+", "-").replace("/", "_"))))
                case dict() | list():
                    for item in value.values() if isinstance(value, dict) else value:
                        collect(item)

        collect([self.body.get(name) for name in ("messages", "contents")])
        return found

    @property
    def tools(self) -> list[str]:
        """The names of the tools that the model is offered."""
        names: list[str] = []
        for tool in self.body.get("tools") or ():
            functions = tool.get("functionDeclarations") or [tool.get("function", tool)]
            names += [function["name"] for function in functions]
        return names


class FakeModels:
    """Answers from ``script`` in order, then with ``otherwise``; keeps the requests.

    Attributes:
        dialect: the server that speaks OpenAI's language.
        form: how answers come.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.script: deque[Answer | Callable[[Request], Answer]] = deque()
        self.otherwise: Answer | Callable[[Request], Answer] = Answer("Hello.")
        self.dialect: Dialect = "openai"
        self.form: Form = "asked"
        self.running = 0
        self.most = 0
        #: While it is not set, no answer begins.
        self.go = asyncio.Event()
        self.go.set()

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def proxy_url(self) -> str:
        """The platform's proxy for one deployment: it reads no key but the bearer's, and does not stream."""
        return f"{self.url}/deployments/d1/inference"

    def say(self, *answers: Answer | Callable[[Request], Answer]) -> None:
        """Queue answers."""
        self.script.extend(answers)

    def _next(self, request: Request) -> Answer:
        self.requests.append(request)
        answer = self.script.popleft() if self.script else self.otherwise
        return answer if isinstance(answer, Answer) else answer(request)

    async def openai(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        key = http.headers.get("Authorization", "").removeprefix("Bearer ")
        streamed = body.get("stream") is True
        return await self._serve(http, Request("openai", body["model"], key, body, streamed=streamed))

    async def anthropic(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        key, streamed = http.headers.get("x-api-key", ""), body.get("stream") is True
        return await self._serve(http, Request("anthropic", body["model"], key, body, streamed=streamed))

    async def google(self, http: web.Request) -> web.StreamResponse:
        model, _, method = http.match_info["call"].partition(":")
        key, streamed = http.headers.get("x-goog-api-key", ""), method == "streamGenerateContent"
        return await self._serve(http, Request("google", model, key, await http.json(), streamed=streamed))

    async def proxied(self, http: web.Request) -> web.StreamResponse:
        """The platform's proxy (docs/protocol.md#1-tokens): the bearer's token only, another model, one JSON body."""
        scheme, _, token = http.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return web.json_response({"statusCode": 401, "message": "Unauthorized"}, status=401)
        path, body = http.match_info["path"], await http.json()
        provider = {"chat/completions": "openai", "messages": "anthropic"}.get(path.removeprefix("v1/"), "google")
        request = Request(provider, "model-of-the-deployment", token, body, streamed=False)
        form: Form = "json" if self.form == "asked" else self.form
        return await self._serve(http, request, form, headers=False)

    async def _serve(
        self, http: web.Request, request: Request, form: Form | None = None, *, headers: bool = True
    ) -> web.StreamResponse:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
            answer = self._next(request)
            if answer.delay:
                await asyncio.sleep(answer.delay)
            if answer.raw is not None:
                kind, text = answer.raw
                return web.Response(text=text, status=answer.status, headers={"Content-Type": kind})
            if answer.status != 200:
                return web.json_response(
                    answer.error, status=answer.status, headers=answer.headers if headers else None
                )
            form = form or self.form
            if form != "asked" or not request.streamed:
                return self._whole(answer, request, form)
            return await self._stream(http, answer, request)
        except ConnectionError:
            return web.Response()
        finally:
            self.running -= 1

    def _events(self, answer: Answer, request: Request) -> list[str]:
        more = (self.dialect,) if request.provider == "openai" else ()
        return EVENTS[request.provider](answer, request.model, *more)

    def _whole(self, answer: Answer, request: Request, form: Form) -> web.Response:
        more = (self.dialect,) if request.provider == "openai" else ()
        if form in ("string", "string in string"):
            value: Any = "".join(self._events(answer, request))
            return web.json_response(json.dumps(value) if form == "string in string" else value)
        if form == "lines":
            events = [event.partition("data: ")[2].strip() for event in self._events(answer, request)]
            text = "\n".join(event for event in events if event != "[DONE]")
            return web.Response(text=text, content_type="application/x-ndjson")
        body: Any = BODIES[request.provider](answer, request.model, *more)
        if form == "array":
            body = google_chunks(answer, request.model) if request.provider == "google" else [body]
        return web.json_response(body)

    @staticmethod
    def _error(error: Any, request: Request) -> str:
        if isinstance(error, str):
            return error
        named = "event: error\n" if request.provider == "anthropic" else ""
        return f"{named}data: {json.dumps(error)}\n\n"

    async def _stream(self, http: web.Request, answer: Answer, request: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        written = self._events(answer, request)
        if answer.breaks or answer.error:
            written = written[: len(written) // 2 + 1]
        if answer.error:
            written.append(self._error(answer.error, request))
        for event in written:
            await response.write(event.encode())
        if answer.breaks:
            assert http.transport is not None
            http.transport.abort()
        await response.write_eof()
        return response


@asynccontextmanager
async def fake_models(port: int = 0) -> AsyncIterator[FakeModels]:
    """A running :class:`FakeModels` on loopback."""
    models = FakeModels()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", models.openai)
    app.router.add_post("/v1/messages", models.anthropic)
    app.router.add_post("/v1beta/models/{call}", models.google)
    app.router.add_post("/deployments/d1/inference/{path:.*}", models.proxied)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    models.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield models
    finally:
        await runner.cleanup()
