"""Language models that say what a test tells them: OpenAI's, Anthropic's and Google's streaming APIs over real HTTP.

Only what clients need of them. The shapes of answers, errors and usage are those of the providers' references.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MODEL_KEY = "sk-test-0123456789abcdef"


@dataclass(frozen=True)
class Answer:
    """One answer of a model.

    Args:
        tool_calls: name and arguments of each.
        usage: input (cached included), output and cached tokens.
        status, error: refuse with this status and body instead; with 200 the error comes in the midst of the text.
        headers: of a refusal: ``Retry-After`` …
        delay: seconds before the answer begins.
        breaks: the connection is cut off before the end of the text.
        finish: why the model stopped, in OpenAI's words; None: it does not say.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    usage: tuple[int, int, int] = (10, 5, 0)
    status: int = 200
    error: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    breaks: bool = False
    finish: str | None = "stop"


@dataclass(frozen=True)
class Request:
    """One request as it arrived; ``key`` is what it brought to prove itself, ``at`` in monotonic seconds."""

    provider: str
    model: str
    key: str
    body: Any
    at: float = field(default_factory=time.monotonic)

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
    def tools(self) -> list[str]:
        """The names of the tools that the model is offered."""
        names: list[str] = []
        for tool in self.body.get("tools") or ():
            functions = tool.get("functionDeclarations") or [tool.get("function", tool)]
            names += [function["name"] for function in functions]
        return names


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    """An error in the shape that OpenAI's API gives it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, error={"error": {"message": message, "type": "error", "code": code}}, headers=named)


class FakeModels:
    """Answers from ``script`` in order, then with ``otherwise``; keeps the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.script: deque[Answer | Callable[[Request], Answer]] = deque()
        self.otherwise: Answer | Callable[[Request], Answer] = Answer("Hello.")
        self.running = 0
        self.most = 0
        #: While it is not set, no answer begins.
        self.go = asyncio.Event()
        self.go.set()

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

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
        return await self._serve(http, Request("openai", body["model"], key, body), _openai_events)

    async def anthropic(self, http: web.Request) -> web.StreamResponse:
        body = await http.json()
        request = Request("anthropic", body["model"], http.headers.get("x-api-key", ""), body)
        return await self._serve(http, request, _anthropic_events)

    async def google(self, http: web.Request) -> web.StreamResponse:
        model = http.match_info["model"]
        request = Request("google", model, http.headers.get("x-goog-api-key", ""), await http.json())
        return await self._serve(http, request, _google_events)

    async def _serve(
        self, http: web.Request, request: Request, events: Callable[[Answer, str], list[str]]
    ) -> web.StreamResponse:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go.wait()
            answer = self._next(request)
            if answer.delay:
                await asyncio.sleep(answer.delay)
            if answer.status != 200:
                return web.json_response(answer.error, status=answer.status, headers=answer.headers)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(http)
            written = events(answer, request.model)
            if answer.breaks or answer.error:
                written = written[: len(written) // 2 + 1]
            if answer.error:
                named = "event: error\n" if request.provider == "anthropic" else ""
                written.append(f"{named}data: {json.dumps(answer.error)}\n\n")
            for event in written:
                await response.write(event.encode())
            if answer.breaks:
                assert http.transport is not None
                http.transport.abort()
            await response.write_eof()
            return response
        except ConnectionError:
            return web.Response()
        finally:
            self.running -= 1


def _halves(text: str) -> list[str]:
    """A text in two pieces, as streams bring it."""
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def _openai_events(answer: Answer, model: str) -> list[str]:
    def chunk(delta: Any, finish: str | None = None, **more: Any) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, **more}
        return f"data: {json.dumps(body)}\n\n"

    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"reasoning_content": piece}) for piece in _halves(answer.thinking)]
    events += [chunk({"content": piece}) for piece in _halves(answer.text)]
    for number, (name, arguments) in enumerate(answer.tool_calls):
        function = {"name": name, "arguments": json.dumps(arguments)}
        events.append(
            chunk({"tool_calls": [{"index": number, "id": f"call_{number}", "type": "function", "function": function}]})
        )
    events.append(chunk({}, "tool_calls" if answer.tool_calls else answer.finish))
    given, made, cached = answer.usage
    usage = {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return [*events, chunk(None, usage=usage), "data: [DONE]\n\n"]


def _anthropic_events(answer: Answer, model: str) -> list[str]:
    events: list[str] = []

    def add(kind: str, **fields: Any) -> None:
        events.append(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n")

    def block(number: int, begin: Any, deltas: list[Any]) -> None:
        add("content_block_start", index=number, content_block=begin)
        for delta in deltas:
            add("content_block_delta", index=number, delta=delta)
        add("content_block_stop", index=number)

    given, made, cached = answer.usage
    # Anthropic counts what comes from its cache apart.
    usage = {"input_tokens": given - cached, "cache_read_input_tokens": cached, "cache_creation_input_tokens": 0}
    message: dict[str, Any] = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
    }
    add("message_start", message={**message, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}})
    number = 0
    if answer.thinking:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _halves(answer.thinking)]
        deltas.append({"type": "signature_delta", "signature": "c2ln"})
        block(number, {"type": "thinking", "thinking": "", "signature": ""}, deltas)
        number += 1
    if answer.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in _halves(answer.text)]
        block(number, {"type": "text", "text": ""}, deltas)
        number += 1
    for name, arguments in answer.tool_calls:
        begin = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}}
        block(number, begin, [{"type": "input_json_delta", "partial_json": json.dumps(arguments)}])
        number += 1
    stops = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
    stop = "tool_use" if answer.tool_calls else stops.get(answer.finish or "")
    add("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": made})
    add("message_stop")
    return events


def _google_events(answer: Answer, model: str) -> list[str]:
    def chunk(parts: list[Any], **more: Any) -> str:
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
        given, made, cached = answer.usage
        usage = {
            "promptTokenCount": given,
            "candidatesTokenCount": made,
            "totalTokenCount": given + made,
            "cachedContentTokenCount": cached,
        }
        return f"data: {json.dumps({'candidates': [candidate], 'usageMetadata': usage, 'modelVersion': model})}\n\n"

    events = [chunk([{"text": piece, "thought": True}]) for piece in _halves(answer.thinking)]
    events += [chunk([{"text": piece}]) for piece in _halves(answer.text)]
    events += [chunk([{"functionCall": {"name": name, "args": args}}]) for name, args in answer.tool_calls]
    finish = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}.get(answer.finish or "")
    return [*events, chunk([{"text": ""}], **({"finishReason": finish} if finish else {}))]


@asynccontextmanager
async def fake_models(port: int = 0) -> AsyncIterator[FakeModels]:
    """A running :class:`FakeModels` on loopback."""
    models = FakeModels()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", models.openai)
    app.router.add_post("/v1/messages", models.anthropic)
    app.router.add_post("/v1beta/models/{model}:streamGenerateContent", models.google)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    models.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield models
    finally:
        await runner.cleanup()
