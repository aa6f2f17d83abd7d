"""What the platform sends is read without ever failing otherwise than by InvalidEventError; what it would refuse is not
sent."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.protocol import (
    InboundMessage,
    InvalidEventError,
    InvalidMessageError,
    OutboundMessage,
    answers,
    check_outbound,
    fields,
    inbound,
    parse_connect_answer,
    parse_event,
    parse_message,
    reply_id,
)
from supervisor.protocol.events import Membership, Presence, ReadReceipt, SendOutcome, Typing
from supervisor.protocol.outbound import MAX_SOURCES, later_form
from supervisor.protocol.text import MAX_CONTENT_CHARS, clean_text, is_object_id
from supervisor.sandbox.gateways.validation import RefusedError, check_attachments, check_v1
from tests.support.paths import RECORDINGS

CONVERSATION = "c" * 24
EVENTS: dict[str, type[Any]] = {
    "presence:update": Presence,
    "user:typing": Typing,
    "agent:typing": Typing,
    "user:joined": Membership,
    "user:left": Membership,
    "message:read": ReadReceipt,
    "message:sent": SendOutcome,
    "message:error": SendOutcome,
}
_FRAME = re.compile(r"4([23])/[\w/]+,(\d*)(\[.*)\Z", re.DOTALL)


def lines(name: str) -> Iterator[dict[str, Any]]:
    for line in (RECORDINGS / name).read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def frames(name: str, direction: str) -> Iterator[tuple[str, str, list[Any]]]:
    """Packet type (2 event, 3 ack), ack id and arguments of each frame."""
    for line in lines(name):
        if line.get("dir") == direction and (match := _FRAME.match(line.get("frame") or "")):
            yield match[1], match[2], json.loads(match[3])


def recorded_events() -> list[Any]:
    found = []
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        for number, (kind, _, arguments) in enumerate(frames(path.name, "in")):
            if kind == "2":
                found.append(pytest.param(path.stem, *arguments[:2], id=f"{path.stem}-{number}-{arguments[0]}"))
    return found


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
message_fields = [
    "conversationId",
    "role",
    "content",
    "_id",
    "type",
    "participantId",
    "externalUsername",
    "attachments",
    "thinking",
    "toolCalls",
    "toolResults",
    "usage",
    "latency",
    "createdAt",
    "parentId",
    "createdBy",
]
likely_values = st.one_of(
    json_values,
    st.text(st.characters(), max_size=300),
    st.fixed_dictionaries({"content": json_values, "visible": json_values, "duration": json_values}),
    st.fixed_dictionaries({"agentId": json_values, "userId": json_values}),
    st.lists(
        st.fixed_dictionaries(
            {"toolCallId": st.text(), "toolName": st.text(), "result": json_values, "success": st.booleans()}
        ),
        max_size=2,
    ),
    st.fixed_dictionaries(dict.fromkeys(("promptTokens", "completionTokens", "totalTokens"), st.integers())),
)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_the_recordings_hold_messages_and_every_event_that_is_parsed() -> None:
    names = {param.values[1] for param in recorded_events()}
    assert {"message:new", "presence:update", "user:typing", "user:joined", "message:sent", "message:error"} <= names


@pytest.mark.parametrize(("recording", "event", "payload"), recorded_events())
def test_every_recorded_event_is_read(recording: str, event: str, payload: Any) -> None:
    if event == "message:new":
        message, malformed = parse_message(payload)
        if recording == "v2-refused-sends":
            # v2 passes on what v1 refuses: any attachment, partial usage.
            assert set(malformed) <= {"attachments", "toolCalls", "toolResults", "usage"}
        else:
            assert malformed == []
        assert message.conversation_id == payload["conversationId"]
        assert message.role == payload["role"]
        assert message.id == payload.get("_id")
        assert message.content == payload["content"].strip("\r") or "\r" in payload["content"]
        if not malformed:
            names = [call["function"]["name"] for call in payload.get("toolCalls") or []]
            assert [call.function.name for call in message.tool_calls] == names
            assert list(message.attachments) == (payload.get("attachments") or [])
    elif event in EVENTS:
        parse_event(EVENTS[event], payload)


def test_the_author_of_a_message_is_read_from_created_by() -> None:
    payload = next(a[1] for k, _, a in frames("v1-conversation.jsonl", "in") if k == "2" and a[0] == "message:new")
    message, _ = parse_message(payload)
    author = payload["createdBy"]
    assert (message.sender_agent_id or "", message.sender_user_id or "") == (author["agentId"], author["userId"])


def test_a_bridged_message_without_id_or_type_is_read() -> None:
    """Required are conversationId, role and content, no more."""
    payload = {"conversationId": CONVERSATION, "orgId": "b", "role": "user", "content": "hi", "externalUsername": "ann"}
    message, malformed = parse_message(payload)
    assert message == InboundMessage(
        conversation_id=CONVERSATION, role="user", content="hi", external_username="ann", type="text"
    )
    assert malformed == []


@given(json_values)
def test_no_json_value_breaks_the_parsers(payload: Any) -> None:
    reasons = []
    for parse in (
        parse_message,
        parse_connect_answer,
        *(lambda p, k=kind: parse_event(k, p) for kind in EVENTS.values()),
    ):
        try:
            parse(payload)
        except InvalidEventError as error:
            reasons.append(error.reason)
    assert all(reasons)


@given(st.dictionaries(st.sampled_from(message_fields), likely_values))
def test_whatever_the_fields_hold_a_message_that_is_taken_can_be_journaled(fields: dict[str, Any]) -> None:
    payload = {"conversationId": CONVERSATION, "role": "user", "content": "hi", **fields}
    refused = None
    try:
        message, malformed = parse_message(payload)
    except InvalidEventError as error:
        refused = error.reason
    if refused is not None:
        assert refused.rpartition("_")[2] in ("conversationId", "role", "content")
        return
    assert set(malformed) <= set(message_fields)
    assert msgspec.json.decode(msgspec.json.encode(message), type=InboundMessage).content == message.content


@given(
    st.dictionaries(
        st.sampled_from(["accessToken", "expiresIn", "instruction", "settings", "mcpServers", "deployment", "name"]),
        likely_values | st.dictionaries(st.sampled_from(["id", "systemPrompt", "guidelines", "provider"]), json_values),
    )
)
def test_whatever_the_token_endpoint_answers_it_is_read_or_refused(answer: dict[str, Any]) -> None:
    try:
        read = parse_connect_answer(answer)
    except InvalidEventError:
        assert not isinstance(answer.get("accessToken"), str) or not answer["accessToken"]
    else:
        assert read.access_token == answer["accessToken"]


@pytest.mark.parametrize("field", ["conversationId", "role", "content"])
@pytest.mark.parametrize(("value", "kind"), [(None, "missing"), (7, "mistyped"), ([], "mistyped"), ({}, "mistyped")])
def test_a_required_field_that_is_missing_or_mistyped_is_named(field: str, value: Any, kind: str) -> None:
    payload = {"conversationId": CONVERSATION, "role": "user", "content": "hi", field: value}
    with pytest.raises(InvalidEventError) as caught:
        parse_message(payload)
    assert caught.value.reason == f"{kind}_{field}"


@pytest.mark.parametrize("conversation", ["", "a\nb", "\ud800", "\u202eabc", "x" * 129])
def test_a_conversation_id_that_is_no_id_is_refused(conversation: str) -> None:
    with pytest.raises(InvalidEventError, match="conversationId") as caught:
        parse_message({"conversationId": conversation, "role": "user", "content": "hi"})
    assert caught.value.reason == "mistyped_conversationId"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_id", 7),
        ("_id", "x" * 200),
        ("_id", "a\x00b"),
        ("participantId", "\ud800"),
        ("type", []),
        ("attachments", "https://x.example/a"),
        ("attachments", ["https://x.example/a\ud800"]),
        ("attachments", ["file:///etc/passwd"]),
        ("thinking", {"content": "\udfff"}),
        ("toolCalls", [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}]),
        ("toolResults", [{"toolCallId": "1", "toolName": "f", "result": nested(5000), "success": True}]),
        ("toolResults", [{"toolCallId": "1", "toolName": "f", "result": "\ud800", "success": True}]),
        ("usage", {"promptTokens": 1}),
        ("latency", "fast"),
    ],
)
def test_a_malformed_optional_field_is_left_out_and_named(field: str, value: Any) -> None:
    """Cutting or cleaning an id would make another id of it; text that UTF-8 cannot hold cannot be journaled."""
    message, malformed = parse_message({"conversationId": CONVERSATION, "role": "user", "content": "hi", field: value})
    assert malformed == [field]
    assert message == InboundMessage(conversation_id=CONVERSATION, role="user", content="hi")


def test_good_attachments_stay_beside_bad_ones() -> None:
    attachments = ["https://x.example/a", "javascript:alert(1)", "document:7"]
    message, malformed = parse_message(
        {"conversationId": CONVERSATION, "role": "user", "content": "", "attachments": attachments}
    )
    assert (message.attachments, malformed) == (("https://x.example/a", "document:7"), ["attachments"])


def test_a_list_that_is_too_long_is_cut_and_named() -> None:
    attachments = [f"document:{n}" for n in range(inbound.MAX_LIST_ITEMS + 5)]
    message, malformed = parse_message(
        {"conversationId": CONVERSATION, "role": "user", "content": "", "attachments": attachments}
    )
    assert (len(message.attachments), malformed) == (inbound.MAX_LIST_ITEMS, ["attachments"])


def test_content_that_is_too_long_is_cut_and_says_so() -> None:
    message, _ = parse_message(
        {"conversationId": CONVERSATION, "role": "user", "content": "x" * (MAX_CONTENT_CHARS + 1)}
    )
    assert message.truncated
    assert len(message.content) == MAX_CONTENT_CHARS


def test_unknown_roles_and_types_are_read() -> None:
    message, malformed = parse_message(
        {"conversationId": CONVERSATION, "role": "agent", "content": "hi", "type": "poem", "new": {"field": 1}}
    )
    assert (message.role, message.type, malformed) == ("agent", "poem", [])


@given(st.text(st.characters()), st.integers(0, 30))
def test_cleaned_text_holds_nothing_that_harms(text: str, limit: int) -> None:
    cleaned, cut = clean_text(text, limit)
    assert cut == (len(text) > limit)
    assert len(cleaned) <= limit
    cleaned.encode()
    assert "\r" not in cleaned
    for character in cleaned:
        assert character in "\n\t" or unicodedata.category(character) != "Cc"
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
    assert clean_text(cleaned, limit) == (cleaned, False)


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs", "M"))))
def test_ordinary_text_is_left_as_it_is(text: str) -> None:
    assert clean_text(text) == (text, False)


def test_cleaning_keeps_lines_and_joins_emoji() -> None:
    assert clean_text("a\r\nb\rc\td\x07\u202e\ud83d👩‍👧")[0] == "a\nb\nc\td👩‍👧"


def outbound(**fields: Any) -> OutboundMessage:
    return OutboundMessage(**{"role": "assistant", "content": "hi", "conversation_id": CONVERSATION, **fields})


CALL = fields.ToolCall("1", "function", fields.FunctionCall("f", "{}"))
RESULT = fields.ToolResult(tool_call_id="1", tool_name="f", result={"a": 1}, success=True)


@pytest.mark.parametrize("role", sorted(fields.ROLES))
@pytest.mark.parametrize("kind", [None, *sorted(fields.TYPES)])
def test_what_v1_takes_is_passed_on_as_it_takes_it(role: str, kind: str | None) -> None:
    message = outbound(
        role=role,
        type=kind,
        id="d" * 24,
        thinking=fields.Thinking(content="hm", duration=3),
        tool_calls=(CALL,),
        tool_results=(RESULT,),
        attachments=("https://x.example/a?b=1", "http://X.example/", "document:7"),
        usage=fields.Usage(1, 2, 3),
        latency=1.5,
        error="e",
        metadata={"k": [1]},
    )
    sent = json.loads(check_outbound(message, 10_000))
    assert check_attachments(sent) == sent["attachments"]
    kept = check_v1(sent)
    assert kept["toolCalls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert set(sent) >= {"conversationId", "_id", "toolResults", "usage", "latency", "error", "metadata"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"role": "agent"}, "role"),
        ({"role": ""}, "role"),
        ({"content": ""}, "content"),
        ({"content": " \n"}, "content"),
        ({"type": "poem"}, "type"),
        ({"attachments": ("ftp://x.example/a",)}, "attachment"),
        ({"attachments": ("document:",)}, "attachment"),
        ({"attachments": ("https://",)}, "attachment"),
        ({"attachments": ("HTTP://x.example/",)}, "attachment"),
        ({"attachments": ("see https://x.example/",)}, "attachment"),
        ({"tool_results": (msgspec.structs.replace(RESULT, result=None),)}, "null"),
        ({"tool_results": (msgspec.structs.replace(RESULT, result=float("nan")),)}, "null"),
        ({"tool_calls": (fields.ToolCall("1", "function", fields.FunctionCall("f", "{a: 1}")),)}, "not JSON"),
        ({"tool_calls": (fields.ToolCall("1", "function", fields.FunctionCall("f", "[" * 9999)),)}, "not JSON"),
        ({"tool_calls": (fields.ToolCall("1", "function", fields.FunctionCall("f", {})),)}, "arguments"),  # type: ignore[arg-type]
        ({"usage": fields.Usage(1, 2, None)}, "totalTokens"),  # type: ignore[arg-type]
        ({"thinking": fields.Thinking(content=5)}, "thinking.content"),  # type: ignore[arg-type]
        ({"type": []}, "type"),
        ({"attachments": (5,)}, "attachments"),
        ({"latency": "fast"}, "latency"),
        ({"error": 5}, "error"),
        ({"content": "\ud800"}, "JSON"),
        ({"metadata": {"k": object()}}, "JSON"),
        ({"metadata": {"k": nested(5000)}}, "JSON"),
        ({"metadata": {1j: 1}}, "JSON"),
        ({"content": "x" * 9_000}, "bytes"),
        ({"sources": ("https://x.example",)}, "sources[0]"),
        ({"sources": (fields.Source("book", "x"),)}, "sources[0].type"),  # type: ignore[arg-type]
        ({"sources": (fields.Source("web", " "),)}, "source is empty"),
        ({"sources": (fields.Source("web", "x", url="javascript:alert(1)"),)}, "url of a source"),
        ({"sources": (fields.Source("web", "x", score="high"),)}, "score"),  # type: ignore[arg-type]
        ({"sources": (fields.Source("web", "x"),) * (MAX_SOURCES + 1)}, "101 sources"),
    ],
)
def test_what_v1_refuses_is_refused_before_it_is_sent(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidMessageError, match=re.escape(said)):
        check_outbound(outbound(**fields), 9_000)


def recorded_sends() -> list[Any]:
    """The sends of v1's recording of refusals: note, payload, whether it was taken."""
    found, note, pending = [], "", {}
    for line in lines("v1-refused-sends.jsonl"):
        note = line.get("note", note)
        match = _FRAME.match(line.get("frame") or "")
        if match is None or line["who"] != "agent":
            continue
        arguments = json.loads(match[3])
        if line["dir"] == "out" and arguments[0] == "message:send":
            pending[match[2]] = (note, arguments[1])
        elif match[1] == "3" and match[2] in pending:
            found.append((*pending.pop(match[2]), arguments[0]))
    return [pytest.param(payload, answer, id=note) for note, payload, answer in found]


@pytest.mark.parametrize(("payload", "answer"), recorded_sends())
def test_what_the_recordings_show_refused_is_refused(payload: dict[str, Any], answer: dict[str, Any]) -> None:
    """Those refusals that can be known beforehand; what only the platform's database knows is left to it."""
    if answer["success"] or answer["error"].startswith(("E11000", "Cast to ObjectId", "No conversation")):
        return
    try:
        message = msgspec.convert(payload, OutboundMessage)
    except msgspec.ValidationError:
        return
    with pytest.raises(InvalidMessageError):
        check_outbound(message, 100_000)


@given(
    st.dictionaries(
        st.sampled_from(["role", "content", "type", "attachments", "usage", "latency", "error"]), json_values
    )
)
def test_nothing_that_passes_would_be_refused_by_v1(fields: dict[str, Any]) -> None:
    if isinstance(fields.get("attachments"), list):
        fields["attachments"] = tuple(fields["attachments"])
    try:
        encoded = check_outbound(outbound(**fields), 10_000)
    except InvalidMessageError:
        return
    sent = json.loads(encoded)
    try:
        check_v1(sent)
        check_attachments(sent)
    except RefusedError as error:
        pytest.fail(f"passed, but refused: {error}")


def test_a_reply_id_is_an_object_id_of_its_own_for_each_part_and_replay() -> None:
    made = {reply_id("a" * 24, key, part, replay) for key in ("k1", "k2") for part in range(3) for replay in range(3)}
    assert len(made) == 18
    assert all(is_object_id(one) for one in made)
    assert reply_id("a" * 24, "k1", 0, 0) == reply_id("a" * 24, "k1", 0, 0)


@pytest.mark.parametrize("text", ["a" * 23, "a" * 25, "g" * 24, "a" * 24 + "\n", ""])
def test_what_is_no_object_id(text: str) -> None:
    assert not is_object_id(text)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_recorded_token_answers_are_read(version: str) -> None:
    answers = [line["answer"] for line in lines(f"{version}-rest.jsonl") if "/connect" in line.get("request", "")]
    good = [answer for answer in answers if "accessToken" in answer]
    assert good
    for answer in good:
        read = parse_connect_answer(answer)
        assert (read.access_token, read.expires_in) == (answer["accessToken"], 86400)
        assert read.instruction.system_prompt == (answer["instruction"] or {}).get("systemPrompt", "")
        assert dict(read.mcp_servers) == (answer.get("mcpServers") or {})
    for answer in answers:
        if "accessToken" not in answer:
            with pytest.raises(InvalidEventError, match="accessToken"):
                parse_connect_answer(answer)


def test_a_malformed_field_of_an_answer_costs_only_itself() -> None:
    read = parse_connect_answer(
        {
            "accessToken": "t",
            "expiresIn": "soon",
            "instruction": {"id": "i", "systemPrompt": "Be kind.", "guidelines": "as text"},
            "settings": [],
            "mcpServers": {"deep": nested(5000)},
            "allowedFunctions": ["mcp__a__b"],
            "deployment": {"id": "d", "baseAPIEndpoint": "https://p.example", "provider": None},
        }
    )
    assert read.expires_in is None
    assert read.instruction == answers.Instruction(id="i", system_prompt="Be kind.")
    assert read.settings == {}
    assert read.allowed_functions == ("mcp__a__b",)
    assert read.deployment is not None
    assert read.deployment.base_api_endpoint == "https://p.example"


@pytest.mark.parametrize("prompt", [*sorted(answers.PLACEHOLDER_PROMPTS), "", "  "])
def test_a_placeholder_is_no_instruction(prompt: str) -> None:
    assert not answers.Instruction(system_prompt=prompt).configured
    assert answers.Instruction(system_prompt=f"{prompt} Be kind.").configured


def test_the_token_is_not_in_the_answers_repr() -> None:
    read = parse_connect_answer(
        {"accessToken": "s3cret", "mcpServers": {"a": {"headers": {"Authorization": "s3cret"}}}}
    )
    assert "s3cret" not in repr(read)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"type": "thinking"}, {"type": "thinking"}),
        ({"type": "tool_call"}, {"type": "tool_use"}),
        ({"type": "tool_result"}, {"type": "tool_result"}),
        ({"type": "system"}, {"type": "system"}),
        ({"type": "text"}, {}),
        ({"type": "error"}, {}),
        ({"sources": [{"type": "web", "content": "x"}]}, {"sources": [{"type": "web", "content": "x"}]}),
        (
            {"attachments": ["https://files.example/a/plan.pdf?x=1", "https://files.example/cat.png", "document:7"]},
            {
                "attachments": [
                    {
                        "type": "document",
                        "url": "https://files.example/a/plan.pdf?x=1",
                        "filename": "plan.pdf",
                        "mimeType": "application/pdf",
                    },
                    {
                        "type": "image",
                        "url": "https://files.example/cat.png",
                        "filename": "cat.png",
                        "mimeType": "image/png",
                    },
                    {"type": "document", "url": "document:7"},
                ]
            },
        ),
    ],
)
def test_the_form_that_later_platforms_want(given: dict[str, Any], expected: dict[str, Any]) -> None:
    message = {"role": "assistant", "content": "here", "conversationId": "c" * 24, "_id": "1" * 24}
    assert json.loads(later_form(json.dumps(message | given).encode())) == message | expected
