"""How far back a history is read: until it is old enough, or a bound says so."""

from __future__ import annotations

import pytest

from supervisor.messages.looking_back import MOST_CHARS, MOST_SECONDS, LookingBack, most_pages
from supervisor.protocol.history import HistoryRow
from supervisor.protocol.inbound import InboundMessage

AGENT = "a" * 24


def rows(*numbers: int, by: str | None = None, content: str = "") -> list[HistoryRow]:
    """Rows at so many seconds since the epoch."""
    made = []
    for number in numbers:
        message = InboundMessage(
            conversation_id="c1", role="user", content=content or str(number), sender_agent_id=by, id=f"{number:024x}"
        )
        made.append(HistoryRow(f"{number:024x}", float(number), message))
    return made


def test_pages_are_taken_until_one_is_too_old_and_come_out_oldest_first() -> None:
    looking = LookingBack(AGENT, 3.0, 100)
    assert looking.take(rows(5, 6), 0.0)
    assert not looking.take(rows(2, 3, 4), 0.0)
    assert [row.at for row in looking.rows] == [3.0, 4.0, 5.0, 6.0]
    assert looking.cut is None


def test_others_messages_count_and_the_agents_own_do_not() -> None:
    looking = LookingBack(AGENT, 0.0, 2)
    assert looking.take(rows(*range(100, 200), by=AGENT), 0.0)
    assert not looking.take(rows(1, 2, 3), 0.0)
    assert [row.at for row in looking.rows][:2] == [2.0, 3.0]
    assert looking.cut == "more than 2 messages"


@pytest.mark.parametrize(
    ("content", "seconds", "cut"),
    [("x" * (MOST_CHARS // 2), 0.0, "too much text"), ("", MOST_SECONDS + 1, "reading it takes too long")],
)
def test_text_and_time_are_bounded(content: str, seconds: float, cut: str) -> None:
    looking = LookingBack(AGENT, 0.0, 100)
    assert not looking.take(rows(1, 2, 3, by=AGENT, content=content), seconds)
    assert looking.cut == cut


def test_pages_follow_from_the_messages_that_are_wanted() -> None:
    assert (most_pages(0, 100), most_pages(1000, 100)) == (10, 110)
