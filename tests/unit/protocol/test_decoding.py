"""JSON from outside: what is read of it, what is mended, and what is not read because it would take too long."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from supervisor.protocol.decoding import MAX_PARTS, MAX_VALUES, UnreadableError, decode_json, split_rows


@pytest.mark.parametrize("data", ['{"a":[1,"b"]}', b'{"a":[1,"b"]}'])
def test_json_is_read_as_text_and_as_bytes(data: str | bytes) -> None:
    assert decode_json(data) == {"a": [1, "b"]}


@pytest.mark.parametrize("data", ['["\\ud83d"]', b'["\\ud83d"]', '["\ud83d"]'])
def test_half_an_emoji_is_mended(data: str | bytes) -> None:
    assert decode_json(data) in (["�"], ["?"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "bad_json"),
        ("{", "bad_json"),
        (b"\xff", "bad_json"),
        ("[" * 5_000 + "]" * 5_000, "too_deep"),
        ("[" + "[]," * MAX_PARTS + "0]", "too_many_parts"),
        (b"[" + b"{}," * MAX_PARTS + b"0]", "too_many_parts"),
        (b"[" + b"1," * (MAX_VALUES + 1) + b"0]", "too_many_parts"),
        (b"{" + b",".join(b'"%d" :0' % key for key in range(MAX_PARTS)) + b"}", "too_many_parts"),
    ],
)
def test_what_is_not_read_has_a_reason(data: str | bytes, reason: str) -> None:
    with pytest.raises(UnreadableError) as failure:
        decode_json(data)
    assert failure.value.reason == reason


@pytest.mark.parametrize("data", [b'[{"a": 1}, 5, []]', b'{"total": 3, "data": [{"a": 1}, 5, []]}'])
def test_a_list_is_split_into_rows(data: bytes) -> None:
    assert [decode_json(row) for row in split_rows(data)] == [{"a": 1}, 5, []]


@pytest.mark.parametrize("data", [b"", b"5", b"{}", b'{"data": 5}', b"[1", b"[" * 100_000])
def test_what_is_no_list_is_not_split(data: bytes) -> None:
    with pytest.raises(UnreadableError):
        split_rows(data)


def test_long_text_is_no_trouble() -> None:
    said = {"content": "a, b; " * 1_000_000, "other": "\\" * 100_000}
    assert decode_json(json.dumps(said)) == said


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * (MAX_PARTS - 2) + b"0]",
        b"[" + b'{"a":1},' * (MAX_PARTS // 2 - 1) + b"0]",
        b"{" + b",".join(b'"%d":0' % key for key in range(MAX_PARTS - 2)) + b"}",
        b'["' + b"\\n" * 4_000_000 + b'\\ud83d"]',
        b"[" + b"[]," * 2_700_000 + b"0]",
        b"[" + b"1," * 4_000_000 + b"0]",
        b"[" + b'"a",' * (MAX_VALUES - 2) + b"0]",
    ],
    ids=["arrays", "objects", "keys", "escapes and half an emoji", "eight megabytes of arrays", "of numbers", "texts"],
)
def test_nothing_holds_the_thread_for_long(data: bytes) -> None:
    seconds = []
    for _ in range(3):
        began = time.thread_time()
        with contextlib.suppress(UnreadableError):
            decode_json(data)
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.25, "some 50 ms where nothing else runs"
