"""What a handler gives becomes what the platform takes, or an error that tells the author what is wrong."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from supervisor.core.errors import InvalidReplyError
from supervisor.handler import Reply, Source, Thinking, ToolCall, ToolResult, Usage
from supervisor.handlers import to_outbound
from supervisor.protocol import OutboundMessage, check_outbound
from supervisor.sandbox.gateways.validation import check_v1

AGENT, CONVERSATION = "a" * 24, "c" * 24
CALL = ToolCall("search", {"q": "café"}, id="call_1")


def outbound(part: object, **more: Any) -> OutboundMessage:
    return to_outbound(part, conversation_id=CONVERSATION, agent_id=AGENT, **more)


def sent(part: object, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(check_outbound(outbound(part, **more), 100_000))
    check_v1(made)
    return made


COMMON = {"conversationId": CONVERSATION, "participantId": AGENT}


def test_text_is_an_answer_of_the_assistant() -> None:
    assert sent("hi") == {**COMMON, "role": "assistant", "content": "hi"}


def test_a_full_reply() -> None:
    reply = Reply(
        "hi",
        thinking=Thinking("hm", duration_ms=1.23456, visible=False),
        attachments=["document:1"],
        usage=Usage(3, 4, model="m"),
        latency_ms=5.5555,
        type="error",
        error="broken",
        metadata={"k": 1},
        sources=[
            Source("rag", "At nine.", "Hours", score=0.5, collection_id="k1"),
            Source("memory", "Likes tea."),
        ],
    )
    assert sent(reply) == {
        **COMMON,
        "role": "assistant",
        "content": "hi",
        "type": "error",
        "thinking": {"content": "hm", "visible": False, "duration": 1.235},
        "attachments": ["document:1"],
        "usage": {"promptTokens": 3, "completionTokens": 4, "totalTokens": 7},
        "latency": 5.556,
        "error": "broken",
        "metadata": {"k": 1},
        "sources": [
            {"type": "rag", "content": "At nine.", "label": "Hours", "score": 0.5, "collectionId": "k1"},
            {"type": "memory", "content": "Likes tea."},
        ],
    }


def test_latency_and_usage_are_filled_in_where_the_reply_has_none_of_its_own() -> None:
    spent = Usage(1, 2)
    assert sent("hi", latency_ms=7.0, usage=spent)["usage"]["totalTokens"] == 3
    assert sent(Reply("hi"), latency_ms=7.0)["latency"] == 7.0
    own = sent(Reply("hi", usage=Usage(10, 10), latency_ms=1.0), latency_ms=7.0, usage=spent)
    assert (own["usage"]["totalTokens"], own["latency"]) == (20, 1.0)


def test_thinking_on_its_own() -> None:
    made = sent(Thinking("hm", duration_ms=2))
    assert (made["type"], made["content"], made["thinking"]["duration"]) == ("thinking", "hm", 2)


def test_a_tool_call_carries_its_arguments_as_a_json_string() -> None:
    made = sent(CALL)
    assert (made["role"], made["type"], made["content"]) == ("assistant", "tool_call", "Using search …")
    [call] = made["toolCalls"]
    assert (call["id"], call["type"], call["function"]["name"]) == ("call_1", "function", "search")
    assert json.loads(call["function"]["arguments"]) == {"q": "café"}
    assert sent(ToolCall("f", '{"a": 1}'))["toolCalls"][0]["function"]["arguments"] == '{"a": 1}'


def test_a_tool_result_belongs_to_its_call() -> None:
    made = sent(ToolResult(CALL, {"n": 1}, duration_ms=3.0))
    assert (made["role"], made["type"], made["content"]) == ("tool", "tool_result", "search answered")
    assert made["toolResults"] == [
        {"toolCallId": "call_1", "toolName": "search", "result": {"n": 1}, "success": True, "executionTime": 3.0}
    ]
    failed = sent(ToolResult(CALL, "no", success=False, error="404"))
    assert failed["content"] == "search failed"
    assert (failed["toolResults"][0]["success"], failed["toolResults"][0]["error"]) == (False, "404")


def test_a_tool_that_answers_nothing_has_still_answered() -> None:
    """The platform refuses a null result."""
    assert sent(ToolResult(CALL, None))["toolResults"][0]["result"] == ""


@pytest.mark.parametrize("falsy", [0, False, [], {}, ""])
def test_a_falsy_result_is_kept(falsy: Any) -> None:
    assert sent(ToolResult(CALL, falsy))["toolResults"][0]["result"] == falsy


@pytest.mark.parametrize("thing", [5, b"hi", ["hi"], {"content": "hi"}, object()], ids=lambda t: type(t).__name__)
def test_what_is_no_part_is_named(thing: object) -> None:
    with pytest.raises(InvalidReplyError, match=f"gave a {type(thing).__name__}; it may give text, Reply"):
        outbound(thing)


def test_a_coroutine_asks_whether_await_was_forgotten() -> None:
    async def history() -> str:
        return "hi"

    for part in (forgotten := history(), Reply(forgotten)):  # type: ignore[arg-type]
        with pytest.raises(InvalidReplyError, match=r"coroutine \(did you forget await\?\)"):
            outbound(part)
    forgotten.close()


circular: dict[str, Any] = {}
circular["self"] = circular


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Reply(5), "Reply .* content is a int"),  # type: ignore[arg-type]
        (Reply("hi", attachments="https://x.example/"), "Reply .* attachments is text"),
        (Reply("hi", attachments=5), "Reply"),  # type: ignore[arg-type]
        (Reply("hi", usage=(1, 2)), "Reply"),  # type: ignore[arg-type]
        (Reply("hi", latency_ms="fast"), "Reply"),  # type: ignore[arg-type]
        (Reply("hi", metadata=5), "Reply"),  # type: ignore[arg-type]
        (Thinking("hm", duration_ms=None), "Thinking"),  # type: ignore[arg-type]
        (ToolCall("f", {"x": object()}), "ToolCall .* JSON serializable"),
        (ToolCall("f", circular), "ToolCall .* [Cc]ircular"),
        (ToolResult("call_1", 1), "ToolResult"),  # type: ignore[arg-type]
    ],
)
def test_a_part_with_fields_of_the_wrong_type_is_named(part: object, said: str) -> None:
    with pytest.raises(InvalidReplyError, match=re.compile(said, re.DOTALL)):
        outbound(part)


def test_a_usage_adds_up() -> None:
    assert Usage(3, 4).total_tokens == 7
    assert CALL.id != ToolCall("search").id != ToolCall("search").id
