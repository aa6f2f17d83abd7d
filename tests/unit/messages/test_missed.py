"""What a history says that an agent missed, and whether a doubtful reply is in it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from supervisor.messages.missed import SLACK_SECONDS, Seen, has_news, missed, since_known, was_delivered
from supervisor.protocol import InvalidEventError, parse_history, reply_id
from supervisor.protocol.history import HistoryPage, HistoryRow
from tests.support.paths import RECORDINGS

AGENT = "a" * 24
CONVERSATION = "c" * 24


def page(*rows: dict[str, Any]) -> tuple[HistoryRow, ...]:
    return parse_history({"data": list(rows), "total": len(rows)}, CONVERSATION, 100).rows


def said(number: int, content: str = "hello", **more: Any) -> dict[str, Any]:
    return {"_id": f"{number:024x}", "role": "user", "content": content, "createdAt": _time(number), **more}


def answered(number: int, content: str = "Echo: hello", **more: Any) -> dict[str, Any]:
    own = {"role": "assistant", "createdBy": {"agentId": AGENT, "userId": ""}}
    return {"_id": f"{number:024x}", "content": content, "createdAt": _time(number)} | own | more


def _time(number: int) -> str:
    return f"2026-11-23T00:{number // 60:02}:{number % 60:02}.000Z"


def recorded(name: str) -> list[HistoryPage]:
    """The histories that a recording of the platform's REST side holds."""
    lines = [json.loads(line) for line in (RECORDINGS / name).read_text().splitlines()]
    answers = [line["answer"] for line in lines if "/conversation/" in line["request"] and line["status"] == 200]
    return [parse_history(answer, "6b039dc40088485af0480f76", 3) for answer in answers]


def test_the_recorded_history_of_v1() -> None:
    [found] = recorded("v1-rest.jsonl")
    assert (len(found.rows), found.limit, found.total > 3) == (3, 3, True)
    question, *answers = found.rows
    assert question.id == "6b039dc50088485af0480f79"
    assert question.message.content.startswith("What is 6 ")
    assert (question.message.role, question.message.sender_agent_id) == ("user", None)
    assert question.at == pytest.approx(int(question.id[:8], 16), abs=2)
    assert {row.message.sender_agent_id for row in answers} == {"aaaaaaaaaaaaaaaaaaaa0001"}


def test_the_recorded_histories_of_v2() -> None:
    empty, found = recorded("v2-rest.jsonl")
    assert (empty.rows, empty.total) == ((), 0)
    question, answer = found.rows[:2]
    assert (question.message.role, question.message.sender_user_id) == ("user", "c" * 24)
    assert (answer.message.role, answer.message.sender_agent_id) == ("assistant", "aaaaaaaaaaaaaaaaaaaa0001")
    assert answer.message.type == "text"


def test_deleted_rows_and_nonsense_are_left_out() -> None:
    rows = page(
        said(1, isDeleted=True),
        said(2, deletedAt="2026-01-01T00:00:00Z"),
        {"role": "user", "content": "no id"},
        {"_id": "x" * 24, "content": 7},
        {"_id": "y" * 24, "actor": "nobody", "content": "z"},
    )
    assert [row.id for row in rows] == [f"{2:024x}"]
    assert parse_history({"data": ["a", None, 3]}, CONVERSATION, 100).rows == ()


@pytest.mark.parametrize("answer", [None, [], "data", {"rows": []}, {"data": None}, {"data": {"a": 1}}])
def test_what_is_no_history_is_an_error(answer: object) -> None:
    with pytest.raises(InvalidEventError):
        parse_history(answer, CONVERSATION, 100)


def test_the_time_of_a_row_is_in_its_id_where_nothing_else_tells_it() -> None:
    [row] = page({"_id": "6b039dc50088485af0480f79", "role": "user", "content": "x"})
    assert row.at == 0x6B039DC5
    [other] = page({"_id": "no-object-id", "role": "user", "content": "x", "createdAt": "yesterday"})
    assert other.at is None


def ids(rows: tuple[HistoryRow, ...], seen: Seen) -> list[int]:
    return [int(message.id or "", 16) for message in missed(rows, seen, AGENT)]


def test_what_the_inbox_does_not_know_was_missed() -> None:
    rows = page(said(1), said(2), said(3))
    assert ids(rows, Seen({f"{2:024x}"})) == [1, 3]


def test_only_what_others_said_and_the_inbox_does_not_know_is_news() -> None:
    rows = page(said(1), answered(2), said(3))
    assert not has_news(rows, {rows[0].id, rows[2].id}, AGENT)
    assert has_news(rows, {rows[0].id}, AGENT)
    assert not has_news(page(answered(2)), set(), AGENT)


def test_answers_of_our_own_outbox_answer_nothing_new() -> None:
    """By id where the platform keeps it, by content where it does not."""
    rows = page(said(1), answered(2), said(3), answered(4, "Echo: bye"))
    assert ids(rows, Seen({f"{1:024x}"}, reply_ids={f"{2:024x}"}, replies=["Echo: bye"])) == [3]


def test_a_reply_that_arrived_twice_answers_nothing_new() -> None:
    rows = page(said(1), answered(2), said(3), answered(4))
    assert ids(rows, Seen({f"{1:024x}"}, replies=["Echo: hello"])) == [3]


def test_an_answer_under_the_id_of_its_reply_proves_an_earlier_life() -> None:
    """A journal restored from a backup: the second message was answered, the first was not."""
    reply = answered(9, _id=reply_id(AGENT, f"{2:024x}", 1, 0))
    assert ids(page(said(1), said(2), reply), Seen(())) == [1]


def test_an_unknown_answer_of_ours_answers_the_oldest_open_message() -> None:
    rows = page(said(1), said(2), answered(3, "from another life"), said(4))
    assert ids(rows, Seen(())) == [2, 4]


def test_thinking_and_others_answers_answer_nothing() -> None:
    other = answered(3, createdBy={"agentId": "b" * 24})
    rows = page(said(1), answered(2, "hm", type="thinking"), other)
    assert ids(rows, Seen(())) == [1, 3]


def test_a_message_that_came_without_an_id_is_told_by_its_content_once() -> None:
    rows = page(said(1, "same"), said(2, "same"), said(3, "other"))
    at = rows[0].at or 0.0
    assert ids(rows, Seen((), without_id=[("same", at)])) == [2, 3]
    long_before = at - 2 * SLACK_SECONDS
    assert ids(rows, Seen((), without_id=[("same", long_before)])) == [1, 2, 3], "another one, which said the same"


def test_a_conversation_starts_with_the_first_known_row() -> None:
    rows = page(said(1), said(2), said(3))
    assert [row.id for row in since_known(rows, {f"{2:024x}"}, 0.0)] == [f"{n:024x}" for n in (2, 3)]
    met_at = rows[2].at or 0.0
    assert [row.id for row in since_known(rows, set(), met_at)] == [f"{3:024x}"]


MADE_AT = 0.0


def test_what_was_said_before_a_reply_was_made_is_not_that_reply() -> None:
    """An agent that always says the same, and a journal that knows fewer of those: it was purged."""
    rows = page(said(1), answered(2, "sorry"), said(3), answered(4, "sorry"), said(5))
    last = rows[3].at or 0.0
    assert not was_delivered(rows, "sorry", last + SLACK_SECONDS + 1, [], AGENT)
    assert was_delivered(rows, "sorry", last, [], AGENT)


def test_a_reply_that_is_the_last_row_arrived() -> None:
    rows = page(said(1), answered(2, "one"), said(3), answered(4, "two"))
    assert was_delivered(rows, "two", MADE_AT, ["one"], AGENT)
    assert not was_delivered(rows, "three", MADE_AT, ["one", "two"], AGENT)
    assert not was_delivered(rows[:3], "two", MADE_AT, ["one"], AGENT)


def test_replies_that_say_the_same_are_counted() -> None:
    rows = page(said(1), answered(2, "ok"), said(3), answered(4, "ok"))
    assert was_delivered(rows, "ok", MADE_AT, ["ok"], AGENT)
    assert not was_delivered(rows, "ok", MADE_AT, ["ok", "ok"], AGENT)
    assert not was_delivered(rows[:2], "ok", MADE_AT, ["ok"], AGENT)


def test_a_page_full_of_the_same_proves_nothing() -> None:
    """Where the run began is not known."""
    rows = page(answered(1, "ok"), answered(2, "ok"))
    assert not was_delivered(rows, "ok", MADE_AT, ["ok"], AGENT)


def test_thousands_of_own_rows_hold_nobody_up() -> None:
    asked = page(*(said(number, f"question {number}") for number in range(500)))
    own = page(*(answered(5_000 + number, f"answer {number}") for number in range(500)))
    nameless = [(f"nameless {number}", 0.0) for number in range(5_000)]
    began = time.thread_time()
    assert not missed(asked * 2 + own * 100, Seen((), nameless), AGENT)
    assert time.thread_time() - began < 0.5
