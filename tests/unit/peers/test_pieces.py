"""An answer arrives as it was given, to the question that was asked; else it is known for a forgery."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.peers.pieces import LINE_BYTES, ForgedError, Kind, Reader, Writer
from supervisor.peers.signing import Key, Question

KEY = Key("token", "uuid")
QUESTION = Question.new(7, "http://a:1", 1, "POST", "/replicas/status")
PAYLOADS = st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b" "))
ANSWERS = st.lists(st.tuples(st.sampled_from(Kind), PAYLOADS), min_size=1, max_size=6)


def written(answer: list[tuple[Kind, bytes]], question: Question = QUESTION, key: Key = KEY) -> list[bytes]:
    writer = Writer(key, question)
    return [writer.line(kind, payload) for kind, payload in answer]


def read(data: bytes, question: Question = QUESTION) -> list[tuple[Kind, bytes]]:
    return list(Reader(KEY, question).feed(data))


@given(ANSWERS, st.data())
def test_an_answer_is_read_however_it_is_cut(answer: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
    whole, reader, found, at = b"".join(written(answer)), Reader(KEY, QUESTION), [], 0
    while at < len(whole):
        end = data.draw(st.integers(at + 1, len(whole)))
        found += list(reader.feed(whole[at:end]))
        at = end
    assert found == answer


@given(ANSWERS, st.data())
def test_a_bit_that_is_turned_is_found(answer: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
    whole = bytearray(b"".join(written(answer)))
    at = data.draw(st.integers(0, len(whole) - 2))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    # A line break where there was none cuts one line in two, neither of which is one.
    with pytest.raises(ForgedError):
        read(bytes(whole))


@given(ANSWERS, st.data())
def test_lines_are_neither_left_out_nor_said_twice_nor_exchanged(
    answer: list[tuple[Kind, bytes]], data: st.DataObject
) -> None:
    lines = written([*answer, (Kind.PIECE, b"one"), (Kind.PIECE, b"two")])
    at = data.draw(st.integers(0, len(lines) - 2))
    twice = [*lines[: at + 1], *lines[at:]]
    exchanged = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
    for forged in (lines[:at] + lines[at + 1 :], twice, exchanged):
        with pytest.raises(ForgedError):
            read(b"".join(forged))


def test_an_answer_is_to_one_question_of_one_key() -> None:
    for question, key in (
        (Question.new(7, "http://a:1", 1, "POST", "/replicas/status"), KEY),
        (QUESTION, Key("other", "uuid")),
    ):
        with pytest.raises(ForgedError):
            read(written([(Kind.PIECE, b"{}")], question, key)[0])


@pytest.mark.parametrize("line", [b"\n", b"<html>\n", b"p\n", b"\xff" * 80 + b"\n", b"x" * (LINE_BYTES + 1)])
def test_what_is_no_answer_is_refused(line: bytes) -> None:
    with pytest.raises(ForgedError):
        read(line)
