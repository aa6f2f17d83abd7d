"""What the person sees of a run, in the order in which it happens."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_core import to_jsonable_python

from supervisor.handler import Part, Reply, Thinking, ToolCall, ToolResult

from .cleaning import each_text, readable

#: What a person is shown of a tool's arguments or result; the model has all of it.
MAX_SHOWN_CHARS: Final = 20_000
#: What one message holds at most: the platform takes a megabyte, and a character may be six bytes of JSON.
MAX_PART_CHARS: Final = 150_000
#: Of thinking, which stands in its message twice.
MAX_THINKING_CHARS: Final = MAX_PART_CHARS // 2


class Show:
    """Shows the parts of one run.

    Args:
        send: sends one.
    """

    def __init__(self, send: Callable[[Part], Awaitable[None]]) -> None:
        self._send = send
        self._calls: dict[str, tuple[ToolCall, float]] = {}

    async def thinking(self, response: ModelResponse, took_ms: Sequence[float]) -> None:
        """The thinking of one answer, and what it says before it uses a tool; the last text is the reply itself."""
        works_on = any(isinstance(part, ToolCallPart) for part in response.parts)
        number = 0
        for part in response.parts:
            if isinstance(part, ThinkingPart):
                # What was found in the text was not timed.
                timed = part.provider_name is not None and number < len(took_ms)
                duration_ms = took_ms[number] if timed else 0.0
                number += timed
                # What has a signature goes back to the model as it came.
                if content := readable(part.content).strip():
                    await self._send(Thinking(_cut(content, MAX_THINKING_CHARS), duration_ms=round(duration_ms, 3)))
            elif isinstance(part, TextPart) and works_on and (text := part.content.strip()):
                for piece in in_parts(text):
                    await self._send(Reply(piece))

    async def event(self, event: object) -> None:
        """A tool call or its result; other events are not for people."""
        if isinstance(event, FunctionToolCallEvent):
            call = ToolCall(event.part.tool_name, _arguments(event.part), id=event.part.tool_call_id)
            await self._send(call)
            self._calls[call.id] = (call, time.perf_counter())
        elif isinstance(event, FunctionToolResultEvent):
            await self._result(event.part)

    async def _result(self, part: ToolReturnPart) -> None:
        called = self._calls.pop(part.tool_call_id, None)
        if called is None:
            return
        call, started = called
        duration_ms = round((time.perf_counter() - started) * 1000, 3)
        if part.outcome == "success":
            await self._send(ToolResult(call, _shown(part.content), duration_ms=duration_ms))
        else:
            said = readable(part.model_response_str(wrap_if_error=False)).strip()
            error = _cut(said, MAX_SHOWN_CHARS) or "The tool failed."
            await self._send(ToolResult(call, error, success=False, error=error, duration_ms=duration_ms))


def _arguments(part: ToolCallPart) -> str:
    """The arguments as a JSON string, also where the model wrote something else."""
    text = part.args_as_json_str()
    try:
        # Strictly: Python's own takes NaN for JSON, and the platform does not.
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        text = json.dumps({"arguments": text}, ensure_ascii=False)
    if len(text) > MAX_SHOWN_CHARS:
        text = json.dumps({"arguments": _cut(text, MAX_SHOWN_CHARS)}, ensure_ascii=False)
    return text


def _shown(content: Any) -> Any:
    """A tool's result as JSON can hold it and people can read it, cut where it is long."""
    value = each_text(to_jsonable_python(content, fallback=str), readable)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MAX_SHOWN_CHARS else _cut(text, MAX_SHOWN_CHARS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def in_parts(text: str) -> list[str]:
    """An answer in parts that the platform takes, cut where a paragraph, a line or a word ends, if that is near."""
    if len(text) <= MAX_PART_CHARS:
        return [text]
    head, tail = text[:MAX_PART_CHARS], ""
    for end in ("\n\n", "\n", " "):
        kept, found, rest = head.rpartition(end)
        if found and len(kept) > MAX_PART_CHARS // 2:
            head, tail = kept, rest
            break
    following = (tail + text[MAX_PART_CHARS:]).strip()
    return [head.rstrip(), *(in_parts(following) if following else ())]
