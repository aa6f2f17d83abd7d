"""What stands in place of the beginning of a conversation, and what was said after that."""

from __future__ import annotations

import pytest

from supervisor.core.history import HistoryItem, Remembered, in_place_of


def item(text: str, number: int | None, at: float = 0.0) -> HistoryItem:
    return HistoryItem("user", text, at, id=number)


#: The platform's own, then two messages with their answers, and a notice that answers none.
SAID = [item("old", None), item("older", None), *(item(text, n) for text, n in (("q5", 5), ("a5", 5), ("q7", 7)))]


@pytest.mark.parametrize(
    ("up_to_id", "behind"),
    [
        # Of those without a number all are taken to be in it: they come first.
        (0, ["q5", "a5", "q7"]),
        (4, ["q5", "a5", "q7"]),
        (5, ["q7"]),
        (6, ["q7"]),
    ],
)
def test_what_was_said_after_it(up_to_id: int, behind: list[str]) -> None:
    assert [one.content for one in Remembered("x", up_to_id, 0.0).behind(SAID)] == behind


def test_nobody_is_left_without_what_was_said_last() -> None:
    """Numbers that mean nothing to it, as in a registry that began anew, hide no message."""
    assert Remembered("x", 9, 0.0).behind(SAID) == SAID
    assert Remembered("x", 9, 0.0).behind([]) == []


def test_it_stands_for_all_that_it_was_made_of_and_is_as_old_as_the_oldest_of_that() -> None:
    first = in_place_of([item("old", None, 1.0), item("q5", 5, 50.0), item("a5", 5, 55.0)], None, "one", 100.0)
    assert first == Remembered("one", 5, 50.0)
    second = in_place_of([item("q7", 7, 70.0)], first, "two", 100.0)
    assert second == Remembered("two", 7, 50.0)
    assert in_place_of([], second, "shorter", 100.0) == Remembered("shorter", 7, 50.0)


def test_what_only_the_platform_has_counts_from_now_on() -> None:
    assert in_place_of([item("old", None, 1.0)], None, "x", 100.0) == Remembered("x", 0, 100.0)


def test_its_words_are_in_no_log_and_two_that_say_the_same_are_equal() -> None:
    assert "secret" not in repr(Remembered("secret", 1, 0.0))
    assert item("hi", 3) == item("hi", None)
