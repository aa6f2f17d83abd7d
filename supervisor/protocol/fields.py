"""What messages of both directions are made of, and the error of one that cannot be read."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

ROLES: Final = frozenset({"user", "assistant", "system", "tool"})
TYPES: Final = frozenset({"text", "thinking", "tool_call", "tool_result", "error", "system"})
#: v1 keeps content of any length below the frame bound; a person's message of more than this is cut, and says so.


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's reasoning shown beside its answer; ``duration`` in milliseconds."""

    content: str
    visible: bool = True
    duration: float | None = 0


class FunctionCall(msgspec.Struct, frozen=True):
    """A function's name and its arguments as a JSON **string** (docs/protocol.md#4-sending)."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """One call of a tool."""

    id: str
    type: str
    function: FunctionCall


class ToolResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a tool answered; ``execution_time`` in milliseconds."""

    tool_call_id: str
    tool_name: str
    result: Any
    success: bool
    error: str | None = None
    execution_time: float | None = None


class Source(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What an answer rests on (docs/protocol.md#86-sends).

    Args:
        type: where it was found: in a knowledge collection, on the web, by a tool, or in the agent's memory.
        content: the passage itself, or what it says; must not be blank.
        label: what a person calls it.
        url: an http(s) URL.
        score: how well it fits, as whoever found it says.
        collection_id: of ``rag``: the platform's id of the collection.
        tool_name: of ``tool``: the tool's name.
    """

    type: Literal["rag", "web", "tool", "memory"]
    content: str
    label: str | None = None
    url: str | None = None
    score: float | None = None
    collection_id: str | None = None
    tool_name: str | None = None


class Usage(msgspec.Struct, frozen=True, rename="camel"):
    """Tokens that a model was given and made; the platform takes all three figures or none."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class InvalidEventError(ValueError):
    """An event of the platform lacks something required; ``reason`` is a short word for the counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
