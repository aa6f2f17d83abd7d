"""A question is let in when who has the key asks this incarnation, now, for the first time; and not otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.peers.signing import Doorkeeper, Key, Question

TOKEN = "t0ken-that-never-travels"
KEY = Key(TOKEN, "uuid-1")
PATHS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40).map("/".__add__)
QUESTIONS = st.builds(
    Question.new,
    st.integers(0, 10**17),
    st.just("http://a:1"),
    st.integers(0, 10**17),
    st.sampled_from(["GET", "POST"]),
    PATHS,
    st.binary(max_size=50),
)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def read(question: Question, header: str, key: Key = KEY) -> Question | None:
    return Question.read(header, question.method, question.path, key, question.address)


def doorkeeper(clock: Clock, **given: int) -> Doorkeeper:
    return Doorkeeper(7, clock, lambda: "http://a:1", **given)


def new(target: int, milliseconds: int) -> Question:
    return Question.new(target, "http://a:1", milliseconds, "POST", "/x")


@given(QUESTIONS)
def test_a_signed_question_is_read_as_it_was_made(question: Question) -> None:
    header = question.header(KEY)
    assert read(question, header) == question
    assert TOKEN not in header


@given(QUESTIONS, st.data())
def test_a_question_of_which_anything_is_changed_is_none(question: Question, data: st.DataObject) -> None:
    header = question.header(KEY)
    changed: dict[str, Any] = {
        "method": "PUT",
        "path": question.path + "?x=1",
        "address": "http://a:10",
    }
    name = data.draw(st.sampled_from(sorted(changed)))
    assert read(replace(question, **{name: changed[name]}), header) is None
    at = data.draw(st.integers(0, len(header) - 1))
    other = data.draw(st.sampled_from("0123456789abcdef ").filter(lambda one: one != header[at]))
    assert read(question, header[:at] + other + header[at + 1 :]) is None
    assert read(question, header[:at]) is None


@given(QUESTIONS)
def test_another_token_and_another_registry_are_another_key(question: Question) -> None:
    header = question.header(KEY)
    assert read(question, header, Key("another", "uuid-1")) is None
    assert read(question, header, Key(TOKEN, "uuid-2")) is None


@given(st.text(max_size=200))
def test_whatever_a_header_holds_it_is_no_question_without_a_mark(header: str) -> None:
    assert Question.read(header, "POST", "/", KEY, "http://a:1") is None


@given(st.lists(st.text(max_size=5) | st.integers(0, 99), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_two_things_said_have_two_marks(one: list[str | int], other: list[str | int]) -> None:
    assert (KEY.mark(*one) == KEY.mark(*other)) == (one == other)
    assert KEY.proves(KEY.mark(*one), *one)


def test_a_key_shows_nothing_of_itself() -> None:
    assert TOKEN not in f"{KEY!r} {KEY}"
    assert not {TOKEN, "uuid-1"} & {str(value) for value in vars(KEY).values()}


def test_a_question_is_let_in_once() -> None:
    clock = Clock()
    door = doorkeeper(clock)
    question = new(7, door.milliseconds)
    assert door.lets_in(question)
    assert not door.lets_in(question)
    assert door.lets_in(new(7, door.milliseconds))


@pytest.mark.parametrize("seconds", [0.0, 1.0, 14.0, 15.5, 29.0, 31.0, 3600.0])
def test_a_question_that_was_let_in_never_comes_again_however_late(seconds: float) -> None:
    clock = Clock()
    door = doorkeeper(clock)
    # As far ahead as it may be, it stays young for the longest.
    question = new(7, door.milliseconds + 14_900)
    assert door.lets_in(question)
    clock.now += seconds
    assert not door.lets_in(question)


@pytest.mark.parametrize(
    ("milliseconds", "let_in"), [(0, True), (14_900, True), (-14_900, True), (15_100, False), (-15_100, False)]
)
def test_a_question_is_of_now(milliseconds: int, let_in: bool) -> None:
    door = doorkeeper(Clock())
    assert door.lets_in(new(7, door.milliseconds + milliseconds)) is let_in


def test_a_question_is_for_this_incarnation() -> None:
    door = doorkeeper(Clock())
    assert not door.lets_in(new(6, door.milliseconds))


def test_what_is_remembered_is_bounded_and_forgotten() -> None:
    clock = Clock()
    door = doorkeeper(clock, most=3)
    asked = [door.lets_in(new(7, door.milliseconds)) for _ in range(5)]
    assert asked == [True, True, True, False, False]
    clock.now += 31
    assert door.lets_in(new(7, door.milliseconds))
