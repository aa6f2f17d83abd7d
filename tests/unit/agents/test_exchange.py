"""What programs outside may answer: the documented shapes, streams cut anywhere, and errors that name the mistake."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest

from agents._exchange import (
    MAX_ANSWER_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    CutOffError,
    InvalidAnswerError,
    StreamedParts,
    parts_of,
    question,
)
from supervisor.handler import HistoryItem, Message, Part, Reply, Source, Thinking, ToolCall, ToolResult, Usage
from supervisor.protocol import parse_message
from supervisor.protocol.inbound import TaskFacts, collected
from supervisor.testing import CONVERSATION_ID, FakeContext

CALL = ToolCall("look_up", {"q": 1}, id="c1", content="Looking")


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ("hello", "hello"),
        ({"content": "hello"}, Reply("hello")),
        ({"type": "text", "content": "x", "thinking": "hm"}, Reply("x", Thinking("hm"), type="text")),
        (
            {
                "content": "x",
                "thinking": {"content": "hm", "duration_ms": 3, "visible": False},
                "attachments": ["https://a.example/b"],
                "usage": {
                    "prompt_tokens": 3,
                    "completion_tokens": 4,
                    "model": "m",
                    "cached_tokens": 1,
                    "provider": "p",
                },
                "latency_ms": 5,
                "metadata": {"a": [1]},
                "sources": [
                    {"type": "rag", "content": "Open at nine.", "score": 0.5, "collection_id": "k1"},
                    {
                        "type": "tool",
                        "content": "Dry",
                        "label": "Weather",
                        "url": "https://w.example",
                        "tool_name": "w",
                    },
                ],
            },
            Reply(
                "x",
                Thinking("hm", 3, False),
                ("https://a.example/b",),
                Usage(3, 4, "m", 1, "p"),
                5,
                metadata={"a": [1]},
                sources=(
                    Source("rag", "Open at nine.", score=0.5, collection_id="k1"),
                    Source("tool", "Dry", "Weather", "https://w.example", tool_name="w"),
                ),
            ),
        ),
        ({"type": "error", "content": "no", "error": "no"}, Reply("no", type="error", error="no")),
        ({"type": "thinking", "content": "hm", "duration_ms": 1.5}, Thinking("hm", 1.5)),
        ({"type": "tool_call", "name": "look_up", "id": "c1", "arguments": {"q": 1}, "content": "Looking"}, CALL),
        (
            {"type": "tool_result", "name": "look_up", "id": "c1", "result": [1], "duration_ms": 2},
            ToolResult(ToolCall("look_up", id="c1"), [1], duration_ms=2),
        ),
    ],
)
def test_each_shape_becomes_its_part(answer: Any, part: Part) -> None:
    assert parts_of(json.dumps(answer).encode()) == [part]
    assert parts_of(json.dumps([answer, answer]).encode()) == [part, part]


def test_whatever_a_handler_can_say_of_usage_and_sources_a_program_can() -> None:
    usage = Usage(3, 4, "m", 1, "p", reasoning_tokens=2, estimated=True)
    source = Source("tool", "Dry", "Weather", "https://w.example", 0.5, "k1", "w")
    # All of their fields, under the names that handlers know them by.
    told = {"content": "x", "usage": dataclasses.asdict(usage), "sources": [msgspec.structs.asdict(source)]}
    assert parts_of(json.dumps(told).encode()) == [Reply("x", usage=usage, sources=(source,))]
    assert all(getattr(usage, field.name) != field.default for field in dataclasses.fields(usage))


def test_null_and_an_empty_list_say_nothing() -> None:
    assert parts_of(b"null") == parts_of(b"[]") == []


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (b"<html>", "not JSON.*<html>"),
        (b"", "not JSON"),
        (b'"\xff"', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"42", "neither text nor an object"),
        (b"[null]", "neither text nor an object"),
        (b"{}", "content"),
        (b'{"content": 1}', r"\$\.content"),
        (b'{"content": "x", "contnet": 1}', "contnet"),
        (b'{"type": "picture", "content": "x"}', "picture"),
        (b'{"type": ["text"], "content": "x"}', "type"),
        (b'{"type": "tool_call", "name": "x"}', "id"),
        (b'{"content": "x", "usage": {"prompt_tokens": -1}}', "completion_tokens"),
        (b'{"content": "x", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "estimated": 1}}', "estimated"),
        (b'{"content": "x", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "reasoning": 1}}', "reasoning"),
    ],
)
def test_what_is_no_answer_is_named(answer: bytes, named: str) -> None:
    with pytest.raises(InvalidAnswerError, match=named):
        parts_of(answer)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b'"one"\n\n{"content": "\xc3\xa4"}\r\n"three"', False),
        (b'"one"\n{"content": "\xc3\xa4"}\n"three"\n', False),
        (b': hello\ndata: "one"\n\nevent: part\r\ndata:{"content":\r\ndata: "\xc3\xa4"}\r\n\r\ndata: "three"', True),
        (b'data: "one"\n\ndata: {"content": "\xc3\xa4"}\n\ndata: "three"\n\ndata: [DONE]\n\ndata: "four"\n\n', True),
    ],
)
def test_streams_are_read_however_they_are_cut(stream: bytes, events: bool, size: int) -> None:
    reader = StreamedParts("it", events=events)
    parts = [part for i in range(0, len(stream), size) for part in reader.feed(stream[i : i + size])]
    assert [*parts, *reader.end()] == ["one", Reply("ä"), "three"]


@pytest.mark.parametrize(("stream", "events"), [(b'"one"\n{"cont', False), (b'data: "one"\n\ndata: {"co', True)])
def test_a_stream_that_ends_within_a_part_is_told_from_garbage(stream: bytes, events: bool) -> None:
    reader = StreamedParts("it", events=events)
    assert reader.feed(stream) == ["one"]
    with pytest.raises(CutOffError, match="in the middle of a part"):
        reader.end()


def test_a_stream_is_bounded() -> None:
    with pytest.raises(InvalidAnswerError, match="a line of more than"):
        StreamedParts("it").feed(b"x" * (MAX_PART_BYTES + 1))
    with pytest.raises(InvalidAnswerError, match="more than 200 parts"):
        StreamedParts("it").feed(b'"x"\n' * (MAX_PARTS + 1))
    with pytest.raises(InvalidAnswerError, match="gave more than"):
        StreamedParts("it", events=True).feed(b":\n" * (MAX_ANSWER_BYTES // 2 + 1))
    with pytest.raises(InvalidAnswerError, match="201 parts"):
        parts_of(json.dumps(["x"] * (MAX_PARTS + 1)).encode())


async def told(message: Message) -> Any:
    return json.loads(await question(message, FakeContext(), 0))["message"]


async def test_what_the_platform_says_of_a_message_stands_beside_what_it_says_ever() -> None:
    message, _ = parse_message(
        {
            "_id": "1" * 24,
            "conversationId": CONVERSATION_ID,
            "role": "user",
            "content": "look",
            "type": "message",
            "createdBy": {"userId": "2" * 24},
            "platform": "portal",
            "attachments": ["document:7", {"type": "image", "url": "https://x.example/a.png", "filename": "a.png"}],
            "references": [{"resourceType": "deal", "label": "Deal 7"}],
        }
    )
    assert await told(message) == {
        "_id": "1" * 24,
        "conversationId": CONVERSATION_ID,
        "role": "user",
        "content": "look",
        "type": "text",
        "createdBy": {"userId": "2" * 24},
        "sender": {"id": "2" * 24, "platform": "portal"},
        "attachments": ["document:7", "https://x.example/a.png"],
        "attachment_details": [{}, {"name": "a.png"}],
        "references": [{"resourceType": "deal", "label": "Deal 7"}],
    }


async def test_a_work_says_that_nobody_said_it() -> None:
    work = Message(
        conversation_id="work:1", role="user", content="Tidy", source="work", task=TaskFacts(id="1", title="Tidy")
    )
    assert await told(work) == {
        "conversationId": "work:1",
        "role": "user",
        "content": "Tidy",
        "type": "text",
        "source": "work",
        "task": {"id": "1", "title": "Tidy"},
    }


async def test_messages_that_are_answered_together_are_told_together() -> None:
    first = Message(conversation_id=CONVERSATION_ID, role="user", content="a", attachments=("document:1",))
    newest = Message(conversation_id=CONVERSATION_ID, role="user", content="b", attachments=("document:2",))
    asked = await told(collected(newest, [first]))
    assert {**asked, "earlier": None} == {**await told(newest), "earlier": None}
    assert asked["earlier"] == [await told(first)]
    assert "earlier" not in await told(newest)


async def test_who_spoke_before_is_told_where_it_is_known() -> None:
    history = [HistoryItem("user", "hi", 1.0, "Ana"), HistoryItem("assistant", "hello", 2.0)]
    message = Message(conversation_id=CONVERSATION_ID, role="user", content="b")
    asked = json.loads(await question(message, FakeContext(history=history), 5))["history"]
    assert [one.get("name") for one in asked] == ["Ana", None]
