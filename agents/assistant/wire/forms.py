"""Answers that are no event stream, as the stream that the provider's client reads. Pure, no I/O.

A server that does not stream answers one JSON body to a streamed request; the platform's proxy passes a stream on as
one JSON string (docs/protocol.md#7-findings); some send an array, or a line of JSON for each chunk. A login page or an
error object that comes with status 200 is no answer, and becomes the refusal that it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..._bounded import TooManyPartsError, check_parts

Provider = Literal["openai", "anthropic", "google"]

#: What stands for a refusal that names no status of its own: trouble of the provider, which may pass.
BAD_GATEWAY: Final = 502
MAX_SHOWN_CHARS: Final = 200
#: A stream in a string in a string: so deep gateways wrap what they pass on.
_DEPTH: Final = 4
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
#: Where gateways put the provider's answer into an object of their own.
_WRAPPERS: Final = ("data", "result", "response", "body", "completion")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A body that answers nothing, as the refusal it should have been."""

    status: int
    body: Json


def begins_a_stream(head: bytes) -> bool:
    """Whether a body that begins so is server-sent events, whatever its type says."""
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    return text.startswith(("data:", "event:", "id:", "retry:", ":"))


def as_stream(provider: Provider, raw: bytes, content_type: str) -> bytes | NoAnswer:
    """A whole body as an event stream."""
    text = raw.decode("utf-8-sig", "replace").strip()
    try:
        check_parts(text)
    except TooManyPartsError as error:
        return _no_answer(f"its answer is not read: {error}")
    value = _parsed(text)
    for _ in range(_DEPTH):
        if not isinstance(value, str):
            break
        text = value.strip()
        if begins_a_stream(text[:64].encode(errors="replace")):
            return (text + "\n\n").encode(errors="surrogatepass")
        value = _parsed(text)
    if value is None:
        return _not_json(text, content_type)
    if (refusal := _refusal(value)) is not None:
        return refusal
    answers = [answer for one in _each(value) if (answer := _unwrapped(provider, one)) is not None]
    if not answers:
        return _no_answer(f"it answered JSON that is no answer: {_shown(json.dumps(value))}")
    events = [event for answer in answers for event in _EVENTS[provider](answer)]
    return b"".join(events) + (b"data: [DONE]\n\n" if provider == "openai" else b"")


def _parsed(text: str) -> Any:
    """JSON, or JSON line by line; None for anything else."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return [json.loads(line) for line in lines] if len(lines) > 1 else None
    except (ValueError, RecursionError):
        return None


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else (value,)


def _not_json(text: str, content_type: str) -> NoAnswer:
    if not text:
        return _no_answer("its answer is empty")
    title = _TITLE.search(text)
    kind = content_type.partition(";")[0].strip() or "no type"
    return _no_answer(f"it answered {kind}, which is no answer of a model: {_shown(title[1] if title else text)}")


def _no_answer(message: str) -> NoAnswer:
    return NoAnswer(BAD_GATEWAY, {"error": {"message": message, "type": "no_answer"}})


def _shown(text: str) -> str:
    return " ".join(text.split())[:MAX_SHOWN_CHARS]


def _refusal(value: Any) -> NoAnswer | None:
    """The error that a body is, however its author writes errors."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return None
    error = value.get("error") or value.get("errors")
    if not error and (value.get("type") == "error" or value.get("object") == "error"):
        error = {name: value[name] for name in ("message", "code", "type") if name in value}
    status = next((found for place in (error, value) if (found := _status(place)) is not None), None)
    if error:
        said = error if isinstance(error, dict | str) else {"message": _shown(json.dumps(error))}
        return NoAnswer(status or BAD_GATEWAY, {"error": said})
    if status is not None and not _answers_something(value):
        message = value.get("message") or value.get("detail") or _shown(json.dumps(value))
        return NoAnswer(status, {"error": {"message": message, "code": status}})
    return None


def _answers_something(value: Mapping[str, Any]) -> bool:
    return any(value.get(name) for name in ("choices", "content", "candidates", *_WRAPPERS))


def _status(value: Any) -> int | None:
    """The HTTP status that an error object names."""
    if not isinstance(value, dict):
        return None
    for name in ("statusCode", "status_code", "status", "code"):
        code = value.get(name)
        if isinstance(code, str) and code.isascii() and code.isdigit():
            code = int(code)
        if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:
            return code
    return None


def _unwrapped(provider: Provider, value: Any, depth: int = _DEPTH) -> Json | None:
    """The provider's answer in a body, or in what a gateway put around it."""
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, dict) or not depth:
        return None
    if _IS_ANSWER[provider](value):
        return value
    inner = (_unwrapped(provider, value[name], depth - 1) for name in _WRAPPERS if value.get(name))
    return next((answer for answer in inner if answer is not None), None)


_IS_ANSWER: Final[Mapping[Provider, Callable[[Json], bool]]] = {
    # A chunk that only counts has no choices.
    "openai": lambda value: isinstance(value.get("choices"), list) and bool(value["choices"] or value.get("usage")),
    # An event of its own stream may come on a line of its own.
    "anthropic": lambda value: isinstance(value.get("content"), list) or _is_event(value),
    "google": lambda value: isinstance(value.get("candidates"), list) or "promptFeedback" in value,
}


def _event(data: Json, name: str = "") -> bytes:
    # As ASCII: halves of an emoji are passed on as they came.
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(data)}\n\n".encode()


def _openai_events(answer: Json) -> Iterable[bytes]:
    choices = []
    for choice in answer["choices"]:
        if not isinstance(choice, dict):
            continue
        delta = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
        choices.append({**choice, "delta": _delta(delta)})
    yield _event({**_OPENAI_CHUNK, **answer, "object": "chat.completion.chunk", "choices": choices})


_OPENAI_CHUNK: Final = {"id": "answer", "created": 0, "model": ""}


def _delta(message: Any) -> Json:
    """A whole message as the one delta that makes it."""
    delta = dict(message) if isinstance(message, dict) else {"content": str(message)}
    delta["role"] = "assistant"
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls) if isinstance(call, dict)]
    return delta


def _is_event(value: Json) -> bool:
    return str(value.get("type")).startswith(("message_", "content_block_"))


def _anthropic_events(answer: Json) -> Iterable[bytes]:
    if _is_event(answer):
        yield _event(answer, str(answer["type"]))
        return
    usage = answer.get("usage") if isinstance(answer.get("usage"), dict) else {}
    usage = {"input_tokens": 0, "output_tokens": 0, **(usage or {})}
    begin = {**_ANTHROPIC_MESSAGE, **answer, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield _event({"type": "message_start", "message": begin}, "message_start")
    for index, block in enumerate(one for one in answer["content"] if isinstance(one, dict)):
        begin, deltas = _block(block)
        yield _event({"type": "content_block_start", "index": index, "content_block": begin}, "content_block_start")
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")
        yield _event({"type": "content_block_stop", "index": index}, "content_block_stop")
    end = {"stop_reason": answer.get("stop_reason"), "stop_sequence": answer.get("stop_sequence")}
    yield _event({"type": "message_delta", "delta": end, "usage": usage}, "message_delta")
    yield _event({"type": "message_stop"}, "message_stop")


_ANTHROPIC_MESSAGE: Final = {"id": "answer", "type": "message", "role": "assistant", "model": ""}


def _block(block: Json) -> tuple[Json, list[Json]]:
    """How a content block begins, and the deltas that fill it."""
    match block.get("type"):
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block.get("text") or ""}]
        case "thinking":
            deltas = [
                {"type": "thinking_delta", "thinking": block.get("thinking") or ""},
                {"type": "signature_delta", "signature": block.get("signature") or ""},
            ]
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use":
            arguments = json.dumps(block.get("input") or {})
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": arguments}]
    return block, []


def _google_events(answer: Json) -> Iterable[bytes]:
    yield _event(answer)


_EVENTS: Final[Mapping[Provider, Callable[[Json], Iterable[bytes]]]] = {
    "openai": _openai_events,
    "anthropic": _anthropic_events,
    "google": _google_events,
}
