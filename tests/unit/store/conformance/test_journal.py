"""The journal: what is in it after each operation, and what is not."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.core.records import Reply, Undelivered
from supervisor.core.states import IllegalTransitionError, MessageState, ReplyState
from supervisor.store import Journal
from tests.support.journaling import AGENT, add, answer, inbound, settle


async def test_a_message_is_there_after_add(journal: Journal) -> None:
    row = await add(journal, "k1", at=123.5)
    assert (row.state, row.attempts, row.replay) == (MessageState.AVAILABLE, 0, 0)
    assert await journal.load(row.id) == row
    assert await journal.unsettled(AGENT) == [row]
    assert await journal.unsettled("another") == []
    assert await journal.load(row.id + 1) is None


async def test_a_claimed_message_has_its_first_attempt_on_disk(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    assert (row.state, row.attempts) == (MessageState.RUNNING, 1)
    assert await journal.load(row.id) == row
    assert await journal.unsettled(AGENT) == []


async def test_a_key_is_taken_once_for_each_agent(journal: Journal) -> None:
    first = await add(journal, "k1")
    assert await journal.add(AGENT, inbound("again"), key="k1", received_at=1.0, claim=True) is None
    other = await add(journal, "k1", agent="another")
    assert other.id != first.id
    assert await journal.load(first.id) == first
    await settle(journal, first) if await journal.claim(first) else None
    assert await journal.add(AGENT, inbound("again"), key="k1", received_at=1.0, claim=True) is None


async def test_duplicates_within_one_batch_are_told_from_the_others(journal: Journal) -> None:
    keys = [f"k{i % 60}" for i in range(300)]
    rows = await asyncio.gather(
        *[journal.add(AGENT, inbound(str(i)), key=key, received_at=1.0, claim=False) for i, key in enumerate(keys)]
    )
    kept = [row for row in rows if row is not None]
    # The first of each key is the one that stays.
    assert rows[:60] == kept
    assert await journal.unsettled(AGENT) == kept
    assert [row.key for row in kept] == keys[:60]


async def test_ids_follow_the_order_of_asking(journal: Journal) -> None:
    rows = await asyncio.gather(*[add(journal, f"k{i}", content=str(i)) for i in range(700)])
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    pages = await journal.unsettled(AGENT, limit=300)
    pages += await journal.unsettled(AGENT, limit=300, after_id=pages[-1].id)
    pages += await journal.unsettled(AGENT, limit=300, after_id=pages[-1].id)
    assert pages == rows


async def test_a_claim_is_a_compare_and_set(journal: Journal) -> None:
    row = await add(journal, "k1")
    stale = await journal.load(row.id)
    assert stale is not None
    assert await journal.claim(row)
    assert (row.state, row.attempts) == (MessageState.RUNNING, 1)
    assert not await journal.claim(stale)
    assert (stale.state, stale.attempts) == (MessageState.AVAILABLE, 0)
    assert await journal.load(row.id) == row


async def test_of_two_claims_in_one_batch_one_wins_and_the_others_rows_are_untouched_by_it(journal: Journal) -> None:
    row, bystander = await add(journal, "k1"), await add(journal, "k2")
    twin = await journal.load(row.id)
    assert twin is not None
    won = await asyncio.gather(journal.claim(row), journal.claim(twin), journal.claim(bystander))
    assert list(won) == [True, False, True]
    assert [found.attempts for found in await journal.messages()] == [1, 1]


async def test_release_gives_the_attempt_back_and_retry_keeps_it(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    assert await journal.release(row)
    assert (row.state, row.attempts) == (MessageState.AVAILABLE, 0)
    assert await journal.claim(row)
    assert await journal.retry(row, "model overloaded", 500.0)
    assert (row.state, row.attempts, row.error, row.not_before) == (
        MessageState.RETRYABLE,
        1,
        "model overloaded",
        500.0,
    )
    assert await journal.unsettled(AGENT) == [row]
    assert await journal.claim(row)
    assert row.attempts == 2
    assert await journal.load(row.id) == row


async def test_settling_puts_the_replies_into_the_outbox_with_it(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    replies = await settle(journal, row, answer("one", 0), answer("two", 1))
    assert row.state is MessageState.DONE
    assert [(r.part, r.message.content, r.state, r.inbox_id) for r in replies] == [
        (0, "one", ReplyState.PENDING, row.id),
        (1, "two", ReplyState.PENDING, row.id),
    ]
    assert await journal.unsent(AGENT) == replies
    assert await journal.replies(row.id) == replies
    assert await journal.unsettled(AGENT) == []


async def test_a_settlement_that_lost_inserts_nothing(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    stale = await journal.load(row.id)
    assert stale is not None
    assert await journal.settle(row, MessageState.DEAD, error="time-out") == []
    assert await journal.settle(stale, MessageState.DONE, replies=[answer()]) is None
    assert stale.state is MessageState.RUNNING
    assert await journal.unsent(AGENT) == []
    assert await journal.load(row.id) == row


async def test_a_stale_row_of_an_earlier_attempt_cannot_settle_a_later_one(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    stale = await journal.load(row.id)
    assert stale is not None
    await journal.retry(row, "x", 0.0)
    await journal.claim(row)
    assert await journal.settle(stale, MessageState.DONE) is None
    assert not await journal.release(stale)
    assert await journal.load(row.id) == row


async def test_what_waits_can_be_given_up_and_nothing_else_is_legal(journal: Journal) -> None:
    row = await add(journal, "k1")
    with pytest.raises(IllegalTransitionError):
        await journal.settle(row, MessageState.DONE)
    with pytest.raises(IllegalTransitionError):
        await journal.retry(row, "x", 0.0)
    with pytest.raises(ValueError, match="does not settle"):
        await journal.settle(row, MessageState.RUNNING)
    with pytest.raises(IllegalTransitionError):
        await journal.release(row)
    assert await journal.settle(row, MessageState.CANCELLED) == []
    with pytest.raises(IllegalTransitionError):
        await journal.claim(row)


async def test_a_reply_is_sent_deferred_and_settled(journal: Journal) -> None:
    reply = await journal.add_reply(AGENT, None, answer())
    await journal.mark_sent(reply)
    assert reply.state is ReplyState.SENT
    assert await journal.unsent(AGENT) == [reply]
    await journal.defer_reply(reply, "no answer", 50.0)
    assert (reply.state, reply.attempts, reply.error, reply.not_before) == (ReplyState.PENDING, 1, "no answer", 50.0)
    await journal.defer_reply(reply, "again", 60.0)
    assert reply.attempts == 2
    assert await journal.unsent(AGENT) == [reply]
    (stale,) = await journal.unsent(AGENT)
    with pytest.raises(ValueError, match="does not settle"):
        await journal.settle_reply(reply, ReplyState.SENT)
    assert await journal.settle_reply(reply, ReplyState.ACKED)
    assert await journal.unsent(AGENT) == []
    assert not await journal.settle_reply(stale, ReplyState.DEAD, "late")
    assert stale.state is ReplyState.PENDING
    with pytest.raises(IllegalTransitionError):
        await journal.settle_reply(reply, ReplyState.DEAD)
    with pytest.raises(IllegalTransitionError):
        await journal.defer_reply(reply, "x", 0.0)
    with pytest.raises(IllegalTransitionError):
        await journal.mark_sent(reply)


async def test_one_batch_of_everything_is_one_commit(journal: Journal) -> None:
    rows = [await add(journal, f"k{i}", claim=True) for i in range(4)]
    reply = await journal.add_reply(AGENT, None, answer())
    commits: list[int] = []
    journal.hooks.on_commit = lambda seconds, operations: commits.append(operations)
    results = await asyncio.gather(
        add(journal, "k9"),
        journal.settle(rows[0], MessageState.DONE, replies=[answer("a")]),
        journal.retry(rows[1], "x", 0.0),
        journal.add_reply(AGENT, rows[2].id, answer("b")),
        journal.settle(rows[3], MessageState.DONE, replies=[answer("c"), answer("d", 1)]),
        journal.settle_reply(reply, ReplyState.ACKED),
    )
    assert commits == [6]
    assert results[5] is True
    unsent = await journal.unsent(AGENT)
    assert [r.message.content for r in unsent] == ["a", "b", "c", "d"]
    assert [r.id for r in unsent] == sorted(r.id for r in unsent)


async def test_replies_that_wait_because_sending_failed_are_counted_with_those_behind_them(journal: Journal) -> None:
    async def reply(content: str, conversation: str, agent: str = AGENT) -> Reply:
        return await journal.add_reply(agent, None, answer(content, conversation=conversation))

    other, third = "b" * 24, "c" * 24
    first, _, _, elsewhere = [await reply(*one) for one in (("one", "c1"), ("two", "c1"), ("well", "c2"), ("x", "c3"))]
    of_other, arrived = await reply("there", "c1", other), await reply("gone", "c1", third)
    assert await journal.undelivered() == {}, "none has failed"
    assert await journal.defer_reply(elsewhere, "no ack", 0.0)
    assert await journal.defer_reply(first, "Database is down", 0.0)
    assert await journal.defer_reply(of_other, "no ack", 0.0)
    assert await journal.defer_reply(arrived, "no ack", 0.0)
    assert await journal.settle_reply(arrived, ReplyState.ACKED)
    mine = Undelivered(3, "Database is down")
    assert await journal.undelivered() == {AGENT: mine, other: Undelivered(1, "no ack")}
    assert await journal.undelivered(AGENT) == {AGENT: mine}
    assert await journal.undelivered(third) == {}
