"""Below the providers' clients: each gets the event stream that it reads, whatever the other side answered."""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from ..._bounded import TooManyPartsError, check_parts
from .calls import MARK, Calls
from .forms import BAD_GATEWAY, NoAnswer, Provider, as_stream, begins_a_stream
from .reports import Report, may_report, wants_usage, with_usage

#: Bounds of what is read of an answer that is no stream, and of one event.
MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_STREAM_TYPE: Final = "text/event-stream"
#: Headers that no longer fit a body which was decoded or made anew.
_OF_THE_BODY: Final = ("content-length", "content-encoding", "transfer-encoding", "content-type")


@dataclass(slots=True)
class Exchange:
    """One request to a model and what came back, as far as the transport knows it.

    Args:
        bearer: whether the key goes into ``Authorization``, whatever the provider's own API wants.
        streams: whether an event stream is asked for.
    """

    provider: Provider
    key: str
    bearer: bool = False
    streams: bool = True
    #: The answer was one body, though a stream was asked for.
    whole: bool = False
    #: An answer has begun: it is paid for, whatever becomes of it.
    answered: bool = False
    report: Report = field(init=False)

    def __post_init__(self) -> None:
        self.report = Report(self.provider)

    @property
    def header(self) -> tuple[str, str]:
        """The header that proves who asks, where the other side looks for it."""
        if self.bearer or self.provider == "openai":
            return "Authorization", f"Bearer {self.key}"
        return ("x-api-key" if self.provider == "anthropic" else "x-goog-api-key"), self.key


#: The exchange under way, of this task only.
_exchange: ContextVar[Exchange] = ContextVar("exchange")


@contextmanager
def exchanging(exchange: Exchange) -> Iterator[Exchange]:
    """Requests of this task belong to ``exchange``."""
    token = _exchange.set(exchange)
    try:
        yield exchange
    finally:
        _exchange.reset(token)


class AnswersClient(httpx2.AsyncClient):
    """The HTTP client that the providers' own stand on: puts the key of the moment on each request, and makes an event
    stream of each answer.
    """

    #: What the clients put there of themselves, or found in the environment.
    _PROOFS: Final = ("authorization", "x-api-key", "x-goog-api-key", "openai-organization", "openai-project")

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        exchange = _exchange.get()
        for name in self._PROOFS:
            request.headers.pop(name, None)
        name, value = exchange.header
        request.headers[name] = value
        if not exchange.streams:
            request = _not_streamed(request, exchange.provider)
        answer = await super().send(request, stream=True, **options)
        try:
            if answer.status_code < 400:
                answer = await _as_events(answer, exchange)
            if not stream:
                await answer.aread()
        except BaseException:
            await answer.aclose()
            raise
        return answer


def _not_streamed(request: httpx2.Request, provider: Provider) -> httpx2.Request:
    """The same question, for a server that does not stream."""
    url, body = request.url, json.loads(request.content)
    if provider == "google":
        path = url.path.replace(":streamGenerateContent", ":generateContent")
        url = url.copy_with(path=path, query=None)
    else:
        body["stream"] = False
        body.pop("stream_options", None)
    headers = {name: value for name, value in request.headers.items() if name not in ("content-length", "accept")}
    content = json.dumps(body).encode()
    return httpx2.Request(request.method, url, headers=headers, content=content, extensions=request.extensions)


async def _as_events(answer: httpx2.Response, exchange: Exchange) -> httpx2.Response:
    if answer.status_code >= 300:
        await answer.aclose()
        where = urlsplit(answer.headers.get("location", "")).hostname or "nowhere"
        message = f"it answered {answer.status_code}, a redirect to {where}; those are not followed"
        return _refused(answer, NoAnswer(BAD_GATEWAY, {"error": {"message": message, "type": "no_answer"}}))
    chunks = answer.aiter_bytes()
    head = b""
    async for chunk in chunks:
        head += chunk
        if head.strip():
            break
    if begins_a_stream(head):
        exchange.answered = True
        return _stream(answer, _Events(_after(head.removeprefix(codecs.BOM_UTF8), chunks), exchange, answer))
    body = await _read(head, chunks)
    await answer.aclose()
    made = as_stream(exchange.provider, body, answer.headers.get("content-type", ""))
    if isinstance(made, NoAnswer):
        return _refused(answer, made)
    exchange.answered = exchange.whole = True
    return _stream(answer, _Events(_after(made), exchange))


async def _after(head: bytes, chunks: AsyncIterator[bytes] | None = None) -> AsyncIterator[bytes]:
    yield head
    if chunks is not None:
        async for chunk in chunks:
            yield chunk


async def _read(head: bytes, chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray(head)
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise httpx2.ReadError(f"the answer is larger than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _headers(answer: httpx2.Response, content_type: str) -> dict[str, str]:
    kept = {name: value for name, value in answer.headers.items() if name not in _OF_THE_BODY}
    return {**kept, "content-type": content_type}


def _stream(answer: httpx2.Response, events: httpx2.AsyncByteStream) -> httpx2.Response:
    headers = _headers(answer, _STREAM_TYPE)
    return httpx2.Response(200, headers=headers, stream=events, request=answer.request, extensions=answer.extensions)


def _refused(answer: httpx2.Response, refusal: NoAnswer) -> httpx2.Response:
    content = json.dumps(refusal.body).encode()
    headers = _headers(answer, "application/json")
    return httpx2.Response(refusal.status, headers=headers, content=content, request=answer.request)


class _Events(httpx2.AsyncByteStream):
    """An event stream on its way to the client, line by line: tokens are read along, calls of tools told apart."""

    def __init__(self, chunks: AsyncIterator[bytes], exchange: Exchange, answer: httpx2.Response | None = None) -> None:
        self._chunks = chunks
        self._answer = answer
        self._report = exchange.report
        self._calls = Calls() if exchange.provider == "openai" else None
        self._counts = exchange.provider == "anthropic"
        self._line = bytearray()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            if lines := self._whole_lines(chunk):
                yield lines
        if rest := self._whole_lines(b"\n"):
            yield rest

    def _whole_lines(self, chunk: bytes) -> bytes:
        """The lines that a chunk ends."""
        *ends, rest = chunk.split(b"\n")
        lines = []
        for end in ends:
            self._line += end
            lines.append(self._read(bytes(self._line)))
            self._line.clear()
        self._line += rest
        if len(self._line) > MAX_BODY_BYTES:
            raise httpx2.ReadError(f"an event of the answer is larger than {MAX_BODY_BYTES} bytes")
        return b"".join(line + b"\n" for line in lines)

    def _read(self, line: bytes) -> bytes:
        """A line as the client shall have it."""
        if line.startswith(b'{"error"'):
            # Ollama's, and that of llama.cpp: what went wrong in the midst of a stream is no event.
            return b"data: " + line
        if line.startswith(b"error:"):
            return b'data: {"error": ' + line[6:].strip() + b"}"
        if not line.startswith(b"data:"):
            return line
        try:
            check_parts(line)
        except TooManyPartsError as error:
            raise httpx2.ReadError(f"an event of the answer is not read: {error}") from None
        calls = self._calls if MARK in line else None
        counts = self._counts and wants_usage(line)
        if calls is None and not counts and not may_report(line):
            return line
        event = _event(line[5:])
        self._report.read(event)
        if (calls is not None and calls.tell_apart(event)) or (counts and with_usage(event)):
            # As ASCII: halves of an emoji are passed on as they came.
            return b"data: " + json.dumps(event).encode()
        return line

    async def aclose(self) -> None:
        if self._answer is not None:
            await self._answer.aclose()


def _event(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
