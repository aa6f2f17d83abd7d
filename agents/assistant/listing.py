"""Reads along what tool servers answer: a tool that no provider takes is left out by name, and the others stay.

The client refuses a whole list for one tool that is not what the protocol says, and a provider a whole request for one
schema that is none. So the list is read before both. A result with half a character in it, as JavaScript cuts texts,
the client would refuse too; and nobody else bounds what a server sends.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import httpx2
from mcp.types import Tool
from pydantic import ValidationError

from .._bounded import TooManyPartsError, check_parts
from .cleaning import whole_json

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024
MAX_DEPTH: Final = 50
_LISTS: Final = b'"tools/list"'
#: What half a character, or one in two halves, begins with in JSON.
_HALVES: Final = (b"\\ud", b"\\uD")
_OF_THE_BODY: Final = ("content-length", "content-encoding", "transfer-encoding")
#: Keywords of JSON Schema that hold one schema, a list of them, or a mapping to them.
_SCHEMAS: Final = ("items", "additionalProperties", "not")
_LISTED: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPPED: Final = ("properties", "$defs", "definitions", "patternProperties")

#: Tools that were left out of the lists of this task, and why.
_left_out: ContextVar[dict[str, str] | None] = ContextVar("left_out", default=None)


@contextmanager
def leaving_out(found: dict[str, str]) -> Iterator[None]:
    """What is left out of lists that this task and those it begins ask for is noted in ``found``."""
    token = _left_out.set(found)
    try:
        yield
    finally:
        _left_out.reset(token)


class ToolsClient(httpx2.AsyncClient):
    """The HTTP client for tool servers."""

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        if request.method != "POST":
            # A stream of what the server says of itself, or a goodbye.
            return await super().send(request, stream=stream, **options)
        found = _left_out.get() if _LISTS in _content(request) else None
        answer = await super().send(request, stream=True, **options)
        try:
            answer = await _read_along(answer, found)
            if not stream:
                await answer.aread()
        except BaseException:
            await answer.aclose()
            raise
        return answer


def _content(request: httpx2.Request) -> bytes:
    try:
        return request.content
    except httpx2.RequestNotRead:
        return b""


async def _read_along(answer: httpx2.Response, found: dict[str, str] | None) -> httpx2.Response:
    kind = answer.headers.get("content-type", "")
    headers = {name: value for name, value in answer.headers.items() if name not in _OF_THE_BODY}
    given: dict[str, Any] = {"headers": headers, "request": answer.request, "extensions": answer.extensions}
    if kind.startswith("text/event-stream"):
        return httpx2.Response(answer.status_code, stream=_Events(answer, found), **given)
    if not kind.startswith("application/json"):
        return answer
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise httpx2.ReadError(f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
    await answer.aclose()
    return httpx2.Response(answer.status_code, content=_readable(bytes(body), found), **given)


def _readable(body: bytes, found: dict[str, str] | None) -> bytes:
    """An answer as the client can read it.

    Args:
        found: takes what is left out of a list of tools; None where none was asked for.

    Raises:
        httpx2.ReadError: it has more parts than are read.
    """
    try:
        check_parts(body)
    except TooManyPartsError as error:
        raise httpx2.ReadError(f"the answer is not read: {error}") from None
    if any(half in body for half in _HALVES):
        body = whole_json(body.decode(errors="replace")).encode()
    return body if found is None else usable(body, found)


class _Events(httpx2.AsyncByteStream):
    """An event stream, in which an answer is an event."""

    def __init__(self, answer: httpx2.Response, found: dict[str, str] | None) -> None:
        self._answer = answer
        self._found = found

    async def __aiter__(self) -> AsyncIterator[bytes]:
        line = bytearray()
        async for chunk in self._answer.aiter_bytes():
            *whole, rest = chunk.split(b"\n")
            for piece in whole:
                line += piece
                yield self._read(bytes(line)) + b"\n"
                line.clear()
            line += rest
            if len(line) > MAX_ANSWER_BYTES:
                raise httpx2.ReadError(f"an event is larger than {MAX_ANSWER_BYTES} bytes")
        yield self._read(bytes(line))

    def _read(self, line: bytes) -> bytes:
        if not line.startswith(b"data:"):
            return line
        return b"data: " + _readable(line[5:].strip(), self._found)

    async def aclose(self) -> None:
        await self._answer.aclose()


def usable(body: bytes, found: dict[str, str]) -> bytes:
    """An answer without the tools that cannot be used; any other answer as it came.

    Args:
        found: takes their names, and what is wrong with each.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return body
    result = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(result, dict) or not isinstance(tools := result.get("tools"), list):
        return body
    kept = []
    for number, tool in enumerate(tools):
        if reason := why_unfit(tool):
            name = tool.get("name") if isinstance(tool, dict) else None
            found[name if isinstance(name, str) and name else f"number {number + 1}"] = reason
        else:
            kept.append(_as_providers_want(tool))
    return json.dumps({**answer, "result": {**result, "tools": kept}}).encode()


def why_unfit(tool: Any) -> str | None:
    """Why a tool of a server's list cannot be used; None: it can."""
    if not isinstance(tool, dict):
        return "it is no object"
    schema = tool.get("inputSchema")
    if not isinstance(schema, dict):
        return "it has no inputSchema" if schema is None else "its inputSchema is no object"
    if schema.get("type", "object") != "object":
        return "its inputSchema is not of type object"
    if reason := _why_no_schema(schema, "inputSchema", 0):
        return reason
    try:
        Tool.model_validate(tool)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return None


def _why_no_schema(schema: Any, where: str, depth: int) -> str | None:
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return f"{where} is no schema"
    if depth > MAX_DEPTH:
        return f"it is nested more than {MAX_DEPTH} deep"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return f"{where}.required is no list of names"
    for place, inner in _within(schema, where):
        reason = inner if isinstance(inner, str) else _why_no_schema(inner, place, depth + 1)
        if reason:
            return reason
    return None


def _within(schema: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    """The schemas in a schema, each with its place; text says what is wrong."""
    for keyword in _SCHEMAS:
        if keyword in schema and not (keyword == "items" and isinstance(schema[keyword], list)):
            yield f"{where}.{keyword}", schema[keyword]
    for keyword in _MAPPED:
        if keyword in schema:
            value = schema[keyword]
            if not isinstance(value, dict):
                yield "", f"{where}.{keyword} is {json.dumps(value)[:40]}, not an object"
                return
            yield from ((f"{where}.{keyword}.{name}", inner) for name, inner in value.items())
    for keyword in _LISTED:
        if keyword in schema:
            value = schema[keyword]
            if not isinstance(value, list):
                yield "", f"{where}.{keyword} is no list"
                return
            yield from ((f"{where}.{keyword}", inner) for inner in value)


def _as_providers_want(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool without arguments as providers want it: the protocol lets it leave out what some insist on."""
    return {**tool, "inputSchema": {"type": "object", "properties": {}, **tool["inputSchema"]}}
