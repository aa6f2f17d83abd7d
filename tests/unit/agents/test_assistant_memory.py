"""What of a conversation a model is shown, what stands in place of the rest, and what is to be summed up."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.handler import HistoryItem, Message, Remembered
from tests.support.lone_assistants import part

#: About ten tokens a message.
TEXT = "x" * 24
NOW = Message(conversation_id="c" * 24, role="user", content="now")


def said(*numbers: int | None) -> list[HistoryItem]:
    """A question and its answer for each number, and the message to answer."""
    items = []
    for place, number in enumerate(numbers):
        items.append(HistoryItem("user", f"q{place} {TEXT}", 0.0, id=number))
        items.append(HistoryItem("assistant", f"a{place} {TEXT}", 0.0, id=number))
    return [*items, HistoryItem("user", "now", 0.0, id=1000)]


def names(items: list[HistoryItem]) -> list[str]:
    return [item.content.split()[0] for item in items]


def past(items: list[HistoryItem], room: int = 10_000, **given: Any) -> Any:
    return part("memory").earlier(items, NOW, room, **given)


def overflow(found: Any, left_out: int = 0) -> list[str]:
    return names(part("memory").overflow(found, left_out))


def test_what_is_not_shown_is_known_in_its_order() -> None:
    found = past(said(1, 2, 3, 4), 50)
    assert (names(found.cut), names(found.shown)) == (["q0", "a0", "q1", "a1"], ["q2", "a2", "q3", "a3"])
    found = past(said(1, 2, 3), most=3)
    # The message to answer is one of the three; what would begin with an answer begins later.
    assert (names(found.cut), names(found.shown)) == (["q0", "a0", "q1", "a1"], ["q2", "a2"])
    found = past(said(1, 2, 3))
    assert (found.cut, len(found.shown)) == ([], 6)


def test_what_a_summary_stands_for_is_not_shown_again_and_the_summary_takes_room() -> None:
    known = Remembered("notes " + "n" * 34, 2, 0.0)
    found = past(said(None, 2, 3, 4), 1000, known=known)
    assert (names(found.cut), names(found.shown)) == ([], ["q2", "a2", "q3", "a3"])
    assert found.messages[0].parts[0].content.endswith(known.text)
    assert len(found.messages) == 5
    assert names(past(said(None, 2, 3, 4), 42, known=known).shown) == ["q3", "a3"]


def test_a_message_that_a_summary_stands_for_is_answered_without_it() -> None:
    found = past(said(1, 2), known=Remembered("later", 1000, 0.0))
    assert (found.known, names(found.shown)) == (None, ["q0", "a0", "q1", "a1"])


def test_what_found_no_room_is_summed_up_with_half_of_what_did() -> None:
    assert overflow(past(said(1, 2, 3, 4))) == []
    assert overflow(past(said(1, 2, 3, 4), 50)) == ["q0", "a0", "q1", "a1", "q2", "a2"]
    # One that a model with less room was not shown.
    assert overflow(past(said(1, 2, 3)), 1) == ["q0", "a0", "q1", "a1"]
    assert overflow(past(said(1, 2, 3)), 3) == ["q0", "a0", "q1", "a1", "q2", "a2"]


@pytest.mark.parametrize("room", [50, 30, 0])
def test_what_only_the_platform_has_is_summed_up_together(room: int) -> None:
    """Nothing tells one of these from another the next time."""
    found = overflow(past(said(None, None, None, 7, 8), room))
    assert found[:6] == ["q0", "a0", "q1", "a1", "q2", "a2"]
    assert len(found) % 2 == 0


def test_a_greeting_is_no_reason_for_a_summary() -> None:
    greeting = HistoryItem("assistant", "Ask me anything.", 0.0, id=1)
    assert overflow(past([greeting, *said(2, 3)])) == []


def test_the_beginning_of_a_text_is_as_long_as_it_may_be_in_any_writing() -> None:
    tokens = part("tokens")
    assert tokens.beginning("short", 100) == "short"
    for text in ("x" * 1000, "\u6c49" * 1000):
        cut = tokens.beginning(text, 50)
        assert cut.endswith("\u2026")
        assert 45 <= tokens.text_tokens(cut) <= 51
