"""How answers of language models look on the wire: each provider's stream and whole body, in the dialects of servers.

Only what clients need of them. The shapes of answers, errors and usage are those of the providers' references, and of
the servers' own sources where these speak OpenAI's language in a way of their own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

#: Servers that speak OpenAI's language.
Dialect = Literal["openai", "vllm", "ollama", "litellm", "llama.cpp", "lmdeploy", "xai", "moonshot", "groq"]
#: What a stream of OpenAI's language says of which call a piece belongs to: counted, always 0, or nothing.
Indices = Literal["counted", "zero", "none"]
#: Where a stream says what it cost.
Reports = Literal["end", "every", "finish", "finish and end", "choice", "timings", "x_groq", "none"]

_REPORTS: Mapping[str, Reports] = {
    "openai": "end",
    "vllm": "every",
    "ollama": "end",
    "litellm": "finish and end",
    "llama.cpp": "end",
    "lmdeploy": "every",
    "xai": "finish",
    "moonshot": "choice",
    "groq": "x_groq",
}


@dataclass(frozen=True)
class Answer:
    """One answer of a model.

    Args:
        pieces: the text as the stream brings it; halves of it unless given.
        tool_calls: name and arguments of each.
        call_ids: the id of each of them, in place of the dialect's own.
        indices: how a stream tells them apart; as the dialect does unless given.
        usage: input (cached included), output (reasoning included) and cached tokens.
        reasoning: tokens of the output that nobody reads.
        reports: where the stream says what it cost; where the dialect does unless given.
        status, error: refuse with this status and body instead; with 200 the error comes in the midst of the text,
            one that is a string as it is.
        headers: of a refusal: ``Retry-After`` …
        raw: content type and body, sent as they are in place of everything else.
        delay: seconds before the answer begins.
        breaks: the connection is cut off before the end of the text.
        finish: why the model stopped, in OpenAI's words; None: it does not say.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    call_ids: tuple[str, ...] | None = None
    indices: Indices | None = None
    usage: tuple[int, int, int] = (10, 5, 0)
    status: int = 200
    error: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    breaks: bool = False
    finish: str | None = "stop"
    pieces: tuple[str, ...] | None = None
    reasoning: int = 0
    reports: Reports | None = None
    raw: tuple[str, str] | None = None

    @property
    def chunks(self) -> list[str]:
        """The text as the stream brings it."""
        return list(self.pieces) if self.pieces is not None else halves(self.text)

    @property
    def whole(self) -> str:
        """The text at once."""
        return "".join(self.pieces) if self.pieces is not None else self.text


def halves(text: str) -> list[str]:
    """A text in two pieces, as streams bring it."""
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    """An error in the shape that OpenAI's API gives it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, error={"error": {"message": message, "type": "error", "code": code}}, headers=named)


# OpenAI and those that speak its language.


def _openai_usage(answer: Answer, dialect: Dialect, share: float = 1.0) -> dict[str, Any]:
    given, made, cached = answer.usage
    made, reasoning = int(made * share), answer.reasoning
    # xAI counts reasoning beside the answer, and the sum has both.
    shown = made - reasoning if dialect == "xai" else made
    return {
        "prompt_tokens": given,
        "completion_tokens": shown,
        "total_tokens": given + made,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def openai_events(answer: Answer, model: str, dialect: Dialect = "openai") -> list[str]:
    """The stream of chat completions."""
    reports = answer.reports or _REPORTS[dialect]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "" if dialect != "llama.cpp" else None}]
    deltas += [{_thinks(dialect): piece} for piece in halves(answer.thinking)]
    deltas += [{"content": piece} for piece in answer.chunks]
    deltas += _openai_calls(answer, dialect)
    usage = _openai_usage(answer, dialect)

    def chunk(delta: Any, finish: str | None = None, **more: Any) -> str:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        if reports == "choice" and finish:
            choices[0]["usage"] = usage
        body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, **more}
        return f"data: {json.dumps(body)}\n\n"

    def so_far(number: int) -> dict[str, Any]:
        return {"usage": _openai_usage(answer, dialect, (number + 1) / len(deltas))} if reports == "every" else {}

    events = [chunk(delta, **so_far(number)) for number, delta in enumerate(deltas)]
    ends: dict[str, Any] = {"usage": usage} if reports in ("every", "finish", "finish and end") else {}
    if reports == "timings":
        given, made, cached = answer.usage
        ends["timings"] = {"prompt_n": given - cached, "cache_n": cached, "predicted_n": made, "predicted_ms": 12.5}
    if reports == "x_groq":
        ends["x_groq"] = {"id": "req_1", "usage": usage}
    events.append(chunk({}, "tool_calls" if answer.tool_calls else answer.finish, **ends))
    if reports in ("end", "every", "finish and end"):
        events.append(chunk(None, usage=usage))
    return [*events, "data: [DONE]\n\n"]


def _thinks(dialect: Dialect) -> str:
    return "reasoning" if dialect in ("ollama", "vllm") else "reasoning_content"


def _openai_ids(answer: Answer, dialect: Dialect) -> Sequence[str]:
    form = {"vllm": "chatcmpl-tool-0a1b2c3d4e5f{}", "llama.cpp": "Kq3vX9aB0cD1eF2gH3iJ4kL5mN6oP7q{}"}.get(
        dialect, "call_{}"
    )
    return answer.call_ids or [form.format(number) for number in range(len(answer.tool_calls))]


def _openai_calls(answer: Answer, dialect: Dialect) -> list[dict[str, Any]]:
    """The pieces of tool calls; Ollama sends each whole, with index 0."""
    indices = answer.indices or ("zero" if dialect == "ollama" else "counted")
    deltas = []
    for number, (name, arguments) in enumerate(answer.tool_calls):
        place = {"counted": {"index": number}, "zero": {"index": 0}, "none": {}}[indices]
        written = json.dumps(arguments)
        first, *rest = [written] if dialect == "ollama" else ["", *halves(written)]
        begin = {**place, "id": _openai_ids(answer, dialect)[number], "type": "function"}
        deltas.append({"tool_calls": [{**begin, "function": {"name": name, "arguments": first}}]})
        # vLLM repeats the key of the id, and nothing in it.
        more = {**place, "id": ""} if dialect == "vllm" else place
        deltas += [{"tool_calls": [{**more, "function": {"arguments": piece}}]} for piece in rest]
    return deltas


def openai_body(answer: Answer, model: str, dialect: Dialect = "openai") -> dict[str, Any]:
    """The same, not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.whole or None}
    if answer.thinking:
        message[_thinks(dialect)] = answer.thinking
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": own, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for own, (name, arguments) in zip(_openai_ids(answer, dialect), answer.tool_calls, strict=True)
        ]
    finish = "tool_calls" if answer.tool_calls else answer.finish
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    usage = {} if answer.reports == "none" else {"usage": _openai_usage(answer, dialect)}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], **usage}


# Anthropic.

_STOPS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "pause": "pause_turn"}


def _anthropic_blocks(answer: Answer) -> list[tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]]:
    """How each block begins, what fills it, and the whole of it."""
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = []
    if answer.thinking:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(answer.thinking)]
        begin = {"type": "thinking", "thinking": "", "signature": ""}
        whole: dict[str, Any] = {"type": "thinking", "thinking": answer.thinking, "signature": "c2ln"}
        blocks.append((begin, [*deltas, {"type": "signature_delta", "signature": "c2ln"}], whole))
    if answer.whole:
        deltas = [{"type": "text_delta", "text": piece} for piece in answer.chunks]
        blocks.append(({"type": "text", "text": ""}, deltas, {"type": "text", "text": answer.whole}))
    for number, (name, arguments) in enumerate(answer.tool_calls, len(blocks)):
        whole = {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": dict(arguments)}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(arguments)}]
        blocks.append(({**whole, "input": {}}, deltas, whole))
    return blocks


def _anthropic_usage(answer: Answer) -> dict[str, int]:
    # Anthropic counts what comes from its cache apart.
    given, _, cached = answer.usage
    return {"input_tokens": given - cached, "cache_read_input_tokens": cached, "cache_creation_input_tokens": 0}


def _anthropic_stop(answer: Answer) -> str | None:
    return "tool_use" if answer.tool_calls else _STOPS.get(answer.finish or "")


def anthropic_events(answer: Answer, model: str) -> list[str]:
    """The stream of messages."""
    events: list[str] = []

    def add(kind: str, **fields: Any) -> None:
        events.append(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n")

    empty: dict[str, Any] = {"id": "m1", "type": "message", "role": "assistant", "model": model, "content": []}
    begin = {
        **empty,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**_anthropic_usage(answer), "output_tokens": 1},
    }
    add("message_start", message=begin)
    for number, (first, deltas, _) in enumerate(_anthropic_blocks(answer)):
        add("content_block_start", index=number, content_block=first)
        for delta in deltas:
            add("content_block_delta", index=number, delta=delta)
        add("content_block_stop", index=number)
    usage = {"output_tokens": answer.usage[1]}
    if answer.reports == "every":
        # Sums so far, more than once, as its reference says they may come.
        add(
            "message_delta",
            delta={"stop_reason": None, "stop_sequence": None},
            usage={"output_tokens": answer.usage[1] // 2},
        )
        usage = {**_anthropic_usage(answer), **usage}
    add("message_delta", delta={"stop_reason": _anthropic_stop(answer), "stop_sequence": None}, usage=usage)
    add("message_stop")
    return events


def anthropic_body(answer: Answer, model: str) -> dict[str, Any]:
    """The same, not streamed."""
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [whole for _, _, whole in _anthropic_blocks(answer)],
        "stop_reason": _anthropic_stop(answer),
        "stop_sequence": None,
        "usage": {**_anthropic_usage(answer), "output_tokens": answer.usage[1]},
    }


# Google.


def _google_chunk(answer: Answer, model: str, parts: list[Any], **more: Any) -> dict[str, Any]:
    given, made, cached = answer.usage
    usage = {
        "promptTokenCount": given,
        "candidatesTokenCount": made - answer.reasoning,
        "totalTokenCount": given + made,
        "cachedContentTokenCount": cached,
        **({"thoughtsTokenCount": answer.reasoning} if answer.reasoning else {}),
    }
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
    told = {} if answer.reports == "none" else {"usageMetadata": usage}
    return {"candidates": [candidate], **told, "modelVersion": model}


def _google_finish(answer: Answer) -> dict[str, str]:
    finish = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}.get(answer.finish or "")
    return {"finishReason": finish} if finish else {}


def google_chunks(answer: Answer, model: str) -> list[dict[str, Any]]:
    """The chunks of its stream; without ``alt=sse`` they come as an array."""
    parts: list[Any] = [{"text": piece, "thought": True} for piece in halves(answer.thinking)]
    parts += [{"text": piece} for piece in answer.chunks]
    parts += [{"functionCall": {"name": name, "args": dict(args)}} for name, args in answer.tool_calls]
    chunks = [_google_chunk(answer, model, [part]) for part in parts]
    return [*chunks, _google_chunk(answer, model, [{"text": ""}], **_google_finish(answer))]


def google_events(answer: Answer, model: str) -> list[str]:
    """The stream of contents."""
    return [f"data: {json.dumps(chunk)}\n\n" for chunk in google_chunks(answer, model)]


def google_body(answer: Answer, model: str) -> dict[str, Any]:
    """The same, not streamed."""
    parts: list[Any] = [{"text": answer.thinking, "thought": True}] if answer.thinking else []
    parts += [{"text": answer.whole}] if answer.whole else []
    parts += [{"functionCall": {"name": name, "args": dict(args)}} for name, args in answer.tool_calls]
    return _google_chunk(answer, model, parts, **_google_finish(answer))


EVENTS: Mapping[str, Callable[..., list[str]]] = {
    "openai": openai_events,
    "anthropic": anthropic_events,
    "google": google_events,
}
BODIES: Mapping[str, Callable[..., dict[str, Any]]] = {
    "openai": openai_body,
    "anthropic": anthropic_body,
    "google": google_body,
}
