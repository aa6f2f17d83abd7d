"""What the platform refuses in a ``message:send``, word for word."""

from typing import Any

import pytest

from supervisor.sandbox.gateways.validation import (
    RefusedError,
    check_attachments,
    check_conversation_id,
    check_v1,
    check_v2,
    inspect_value,
    type_name,
)

GOOD = {"role": "assistant", "content": "x"}
CALL = {"id": "c", "type": "mcp_tool", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"toolCallId": "c", "toolName": "f", "result": 1, "success": True}
USAGE = {"promptTokens": 1, "completionTokens": 2, "totalTokens": 3}


@pytest.mark.parametrize(
    ("payload", "errors"),
    [
        ({"content": "x"}, "role: Path `role` is required."),
        ({"role": "agent", "content": "x"}, "role: `agent` is not a valid enum value for path `role`."),
        ({"role": "assistant"}, "content: Path `content` is required."),
        ({"role": "assistant", "content": ""}, "content: Path `content` is required."),
        (
            {"role": "assistant", "content": {"a": 1}},
            'content: Cast to string failed for value "{ a: 1 }" (type Object) at path "content"',
        ),
        ({**GOOD, "type": "poem"}, "type: `poem` is not a valid enum value for path `type`."),
        (
            {**GOOD, "usage": {"promptTokens": 1}},
            "usage.totalTokens: Path `totalTokens` is required., "
            "usage.completionTokens: Path `completionTokens` is required.",
        ),
        (
            {**GOOD, "usage": {**USAGE, "totalTokens": "many"}},
            'usage.totalTokens: Cast to Number failed for value "many" (type string) at path "totalTokens"',
        ),
        ({**GOOD, "latency": []}, 'latency: Cast to Number failed for value "[]" (type Array) at path "latency"'),
        (
            {**GOOD, "toolCalls": [CALL, {**CALL, "function": {"name": "f", "arguments": {"a": [1, "b"]}}}]},
            "toolCalls.1.function.arguments: Cast to string failed for value \"{ a: [ 1, 'b' ] }\" (type Object) "
            'at path "function.arguments"',
        ),
        (
            {**GOOD, "toolCalls": [{"id": "c", "type": "t"}]},
            "toolCalls.0.function.name: Path `function.name` is required., "
            "toolCalls.0.function.arguments: Path `function.arguments` is required.",
        ),
        (
            {**GOOD, "toolCalls": ["x"]},
            'toolCalls.0: Cast to Object failed for value "x" (type string) at path "toolCalls.0" '
            'because of "ObjectExpectedError"',
        ),
        ({**GOOD, "toolResults": [{**RESULT, "result": None}]}, "toolResults.0.result: Path `result` is required."),
        (
            {**GOOD, "toolResults": [{**RESULT, "success": "maybe"}]},
            'toolResults.0.success: Cast to Boolean failed for value "maybe" (type string) at path "success" '
            'because of "CastError"',
        ),
        (
            {**GOOD, "_id": "mine"},
            '_id: Cast to ObjectId failed for value "mine" (type string) at path "_id" because of "BSONError"',
        ),
    ],
)
def test_v1_refuses(payload: dict[str, Any], errors: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_v1(payload)
    assert str(caught.value) == f"Message validation failed: {errors}"


def test_v1_keeps_known_fields_casts_them_and_drops_the_rest() -> None:
    kept = check_v1(
        {
            "role": "user",
            "content": 5,
            "latency": "12",
            "thinking": {"content": "t", "visible": "true", "duration": 3.0, "mood": "x"},
            "toolCalls": CALL,
            "toolResults": [{**RESULT, "result": {"any": ["thing"]}, "executionTime": True}],
            "usage": USAGE,
            "clientId": "c",
            "participantId": None,
        }
    )
    ids = [kept["toolCalls"][0].pop("_id"), kept["toolResults"][0].pop("_id"), kept["usage"].pop("_id")]
    assert len(set(ids)) == 3
    assert kept == {
        "role": "user",
        "content": "5",
        "type": "text",
        "latency": 12,
        "thinking": {"content": "t", "visible": True, "duration": 3.0},
        "toolCalls": [{"function": {"name": "f", "arguments": "{}"}, "id": "c", "type": "mcp_tool"}],
        "toolResults": [{**RESULT, "result": {"any": ["thing"]}, "executionTime": 1}],
        "usage": USAGE,
    }


def test_blank_content_is_content() -> None:
    assert check_v1({"role": "assistant", "content": "   "})["content"] == "   "
    check_v2({"content": "   "})


@pytest.mark.parametrize("attachments", [["ftp://x"], ["document:"], ["https://"], [5], "https://x", {}, [None]])
def test_v1_refuses_attachments_that_are_not_addresses(attachments: Any) -> None:
    with pytest.raises(RefusedError, match=r"^Invalid attachments$"):
        check_attachments({"attachments": attachments})


def test_v1_takes_addresses_and_documents() -> None:
    good = ["https://files.example/a.pdf", "http://x/y", "document:doc-1"]
    assert check_attachments({"attachments": good}) == good
    assert check_attachments({}) == check_attachments({"attachments": None}) == []


@pytest.mark.parametrize(
    ("content", "tail"), [(None, "Path `content` is required."), ("", "Path `content` is required.")]
)
def test_v2_wants_content_only(content: Any, tail: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_v2({"role": "assistant", "content": content})
    assert str(caught.value) == f"Action validation failed: content: {tail}"


def test_v2_cannot_store_an_object_as_content() -> None:
    with pytest.raises(RefusedError, match="Cast to string failed"):
        check_v2({"content": {"a": 1}})


@pytest.mark.parametrize(
    ("value", "shown"),
    [("nope", 'value "nope" (type string)'), (5, 'value "5" (type number)'), ({}, 'value "{}" (type Object)')],
)
def test_conversation_ids_are_cast(value: Any, shown: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_conversation_id(value)
    assert str(caught.value) == f'Cast to ObjectId failed for {shown} at path "_id" for model "Conversation"'


@pytest.mark.parametrize(
    ("value", "shown", "name"),
    [
        ({"a": 1, "b-c": "it's"}, "{ a: 1, 'b-c': 'it\\'s' }", "Object"),
        ([], "[]", "Array"),
        ([1.0, True, None], "[ 1, true, null ]", "Array"),
        (False, "false", "boolean"),
        (1.5, "1.5", "number"),
        ("x", "'x'", "string"),
    ],
)
def test_values_are_shown_as_node_shows_them(value: Any, shown: str, name: str) -> None:
    assert inspect_value(value) == shown
    assert type_name(value) == name
