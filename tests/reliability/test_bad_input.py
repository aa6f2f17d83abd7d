"""R19: malformed input from the platform, in between messages that are well formed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisor.protocol.text import MAX_CONTENT_CHARS
from supervisor.sandbox.world.sessions import encode_json
from tests.support.nonsense import line
from tests.support.reliability import Case

#: What a platform may put where text is expected.
NOT_TEXT: dict[str, Any] = {"number": 7, "float": 1e300, "true": True, "list": ["x"], "object": {"a": {}}, "empty": []}
#: What an id cannot be.
NO_IDS: dict[str, Any] = {
    "huge": "x" * 300_000,
    "control": "a\x00b",
    "newline": "a\nb",
    "surrogate": "a\ud800b",
    "bidi": "a\u202eb",
    "blank": "",
}
#: Optional fields, each with what it is not.
OPTIONAL: dict[str, dict[str, Any]] = {
    "_id": NOT_TEXT | NO_IDS,
    "participantId": NOT_TEXT | NO_IDS,
    "parentId": NOT_TEXT | NO_IDS,
    "type": NOT_TEXT,
    "externalUsername": NOT_TEXT,
    "createdAt": NOT_TEXT,
    "attachments": {"text": "x", "number": 7, "numbers": [1], "no URL": ["javascript:x"], "many": ["https://x/"] * 200},
    "thinking": {"text": "x", "list": [1], "empty": {}, "wrong": {"content": 7}},
    "toolCalls": {"text": "x", "object": {}, "numbers": [1], "no function": [{"id": "a", "type": "function"}]},
    "toolResults": {"text": "x", "object": {}, "numbers": [1], "null": [None]},
    "usage": {"text": "x", "list": [1], "empty": {}, "wrong": {"promptTokens": "many"}},
    "latency": {"text": "x", "list": [1], "object": {}},
}
#: Content that is text all the same, and what its echo must not hold.
STRANGE_CONTENT = {
    "control": ("a\x00\x07\x1b[31mb", "\x00\x07\x1b"),
    "surrogate": ("a\ud800b\udfff", "\ud800\udfff"),
    "bidi": ("a\u202e\u2066b\u200f", "\u202e\u2066\u200f"),
    "huge": ("x" * (MAX_CONTENT_CHARS + 50_000), ""),
}
DEEP = "[" * 20_000 + "]" * 20_000
#: Frames that are no event at all, after the namespace, and the reason they are counted under.
FRAMES: list[tuple[str | bytes, str]] = [
    ("42{ns},", "not_an_array"),
    ("42{ns},{}", "not_an_array"),
    ('42{ns},"x"', "not_an_array"),
    ("42{ns},null", "not_an_array"),
    ("42{ns},[]", "no_event_name"),
    ("42{ns},[7,{}]", "no_event_name"),
    ("42{ns},[{}]", "no_event_name"),
    ('42{ns},["message:new"', "bad_json"),
    ('42{ns},["message:new",{"content":1e999}]', "bad_json"),
    ('42{ns},["message:new",' + DEEP + "]", "too_deep"),
    ('42{ns},["__malformed__","spoofed"]', "reserved_event"),
    ('42/elsewhere,["message:new",{}]', "unknown_packet"),
    ('451-{ns},["message:new",{"_placeholder":true,"num":0}]', "unknown_packet"),
    ("43{ns},[]", "ack_without_id"),
    ('40{ns},{"sid":"again"}', "second_connect"),
    ("x\x00\u202e", "unknown_packet"),
    ("4", "unknown_packet"),
    (b"\x00\x01\x02", "binary_frame"),
    (b"", "binary_frame"),
]


async def test_r19_every_field_missing_null_or_of_the_wrong_kind(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R19 fields")
    async with line(tmp_path, counted) as on:
        answered = 0
        for name in ("conversationId", "role", "content"):
            for value in (..., None):
                on.bring(f"missing_{name}", **{name: value})
            for value in NOT_TEXT.values():
                on.bring(f"mistyped_{name}", **{name: value})
            await on.say()
        for value in NO_IDS.values():
            # A surrogate comes out of the frame as a character that can be kept.
            on.bring(None if value == NO_IDS["surrogate"] else "mistyped_conversationId", conversationId=value)
        on.bring("mistyped_role", role="x" * 300_000)
        on.bring("unknown_role", role="emperor\u202e")
        on.bring("role", role="assistant")
        on.bring("empty", content=" \x00\u202e ")
        await on.say()
        for name, values in OPTIONAL.items():
            on.bring(None, **{name: None})
            answered += 1
            for value in values.values():
                if value != []:
                    on.bring(None if value == NO_IDS["surrogate"] else f"malformed_{name}", **{name: value})
                    answered += 1
            await on.say()
        harmless: list[dict[str, Any]] = [
            {"createdBy": 7},
            {"createdBy": {"agentId": ["x"], "userId": 7}},
            {"metadata": {"a": [{}]}},
        ]
        for nested in harmless:
            on.bring(None, **nested)
            answered += 1
        await on.fleet.until(lambda: on.contents().count("Echo: odd") == answered, timeout=60)


async def test_r19_content_that_is_huge_nested_or_full_of_controls(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R19 content")
    async with line(tmp_path, counted) as on:
        for content, forbidden in STRANGE_CONTENT.values():
            before = len(on.contents())
            on.bring(None, content=content)
            await on.fleet.until(lambda before=before: len(on.contents()) > before)  # type: ignore[misc]
            assert not set(forbidden) & set(on.contents()[-1])
            assert len(on.contents()[-1]) <= MAX_CONTENT_CHARS + len("Echo: ")
            counted.faults += 1
            await on.say()
        depths = {
            "content": "mistyped_content",
            "thinking": "malformed_thinking",
            "toolResults": "malformed_toolResults",
        }
        for name, reason in depths.items():
            # As deep as a frame may be read, and far deeper.
            for depth, counted_as in ((500, reason), (20_000, "too_deep")):
                body = encode_json(on.message(**{name: "DEEP"}))
                on.frame('42{ns},["message:new",' + body.replace('"DEEP"', "[" * depth + "]" * depth) + "]")
                on.expected[counted_as] += 1
            await on.say()


async def test_r19_frames_that_are_no_events(tmp_path: Path, case: Callable[[str], Case]) -> None:
    async with line(tmp_path, case("R19 frames")) as on:
        for frame, reason in FRAMES:
            on.frame(frame)
            on.expected[reason] += 1
            await on.say()


async def test_r19_events_that_nobody_knows_are_counted(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R19 unknown events")
    async with line(tmp_path, counted) as on:
        payloads: list[Any] = [None, 7, {"a": 1}, [[]]]
        for name in ("unknown:event", "", "message:new ", "constructor", "x" * 100_000, "\u202e\ud800"):
            for payload in payloads:
                on.fleet.sandbox.emit(on.id, name, payload)
                counted.faults += 1
            await on.say()
        await on.answers()
        text = on.fleet.service.metrics.render("text/plain")[0].decode()
        assert f'supervisor_unknown_total{{kind="event"}} {counted.faults}.0' in text
