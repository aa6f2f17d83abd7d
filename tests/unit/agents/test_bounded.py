"""What programs and models answer is read where that holds nobody up, whatever it is made of."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from agents._bounded import MAX_PARTS, MAX_VALUES, TooManyPartsError, check_parts
from agents._exchange import InvalidAnswerError, parts_of
from agents.assistant.wire.forms import NoAnswer, as_stream

MANY = {
    "arrays": b"[" + b"[]," * 10_000_000 + b"0]",
    "numbers": b"[" + b"1," * 15_000_000 + b"0]",
    "keys": b"{" + b",".join(b'"%d":0' % key for key in range(2_000_000)) + b"}",
}
MOST = {
    "arrays": b"[" + b"[]," * (MAX_PARTS - 2) + b"0]",
    "numbers": b"[" + b"1," * MAX_VALUES + b"0]",
}


@pytest.mark.parametrize("raw", MANY.values(), ids=MANY)
def test_more_than_is_read_is_refused_in_the_words_of_whoever_asked(raw: bytes) -> None:
    for text in (raw, raw.decode()):
        with pytest.raises(TooManyPartsError):
            check_parts(text)
    with pytest.raises(InvalidAnswerError, match="more than 100,000 parts"):
        parts_of(raw)
    refused = as_stream("openai", raw, "application/json")
    assert isinstance(refused, NoAnswer)
    assert "more than 100,000 parts" in refused.body["error"]["message"]


@pytest.mark.parametrize("raw", [*MOST.values(), *MANY.values()], ids=[*(f"most {one}" for one in MOST), *MANY])
def test_nothing_holds_the_thread_for_long(raw: bytes) -> None:
    def take(seconds: list[float]) -> None:
        for read in (lambda: check_parts(raw), lambda: parts_of(raw), lambda: as_stream("openai", raw, "")):
            began = time.thread_time()
            with contextlib.suppress(ValueError, InvalidAnswerError):
                read()
            seconds.append(time.thread_time() - began)

    rounds: list[list[float]] = [[], [], []]
    for seconds in rounds:
        take(seconds)
    assert max(min(times) for times in zip(*rounds, strict=True)) < 2.0, "a tenth of it where nothing else runs"


def test_long_text_is_no_trouble() -> None:
    said = {"content": "a, b; " * 400_000}
    check_parts(json.dumps(said))
