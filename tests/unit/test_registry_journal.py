"""The journal: what is in it after each operation, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.records import JournaledMessage, NewReply, Reply
from supervisor.registry import Journal, Registry, queries
from supervisor.states import IllegalTransitionError, MessageState, ReplyState

AGENT = "64b5f0c2a1d2e3f405060708"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/supervisor.db"


@pytest.fixture
async def registry(url: str) -> AsyncIterator[Registry]:
    opened = await Registry.open(url, upgrade=True)
    yield opened
    await opened.close()


@pytest.fixture
def journal(registry: Registry) -> Journal:
    return registry.journal


def inbound(content: str = "hello", conversation: str = "c1", role: str = "user") -> InboundMessage:
    return InboundMessage(conversation_id=conversation, role=role, content=content)


def answer(content: str = "hi", part: int = 0, conversation: str = "c1") -> NewReply:
    return NewReply(part, OutboundMessage(role="assistant", content=content, conversation_id=conversation))


async def add(
    journal: Journal,
    key: str,
    *,
    agent: str = AGENT,
    at: float = 100.0,
    claim: bool = False,
    content: str = "hello",
    conversation: str = "c1",
) -> JournaledMessage:
    row = await journal.add(agent, inbound(content, conversation), key=key, received_at=at, claim=claim)
    assert row is not None
    return row


async def settle(journal: Journal, row: JournaledMessage, *replies: NewReply) -> list[Reply]:
    settled = await journal.settle(row, MessageState.DONE, replies=replies)
    assert settled is not None
    return settled


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


async def test_a_dead_letter_is_replayed_with_all_its_attempts(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    with pytest.raises(ValueError, match="only a dead letter"):
        await journal.replay(row)
    assert await journal.settle(row, MessageState.DEAD, error="boom", replies=[answer("sorry")]) is not None
    stale = await journal.load(row.id)
    assert stale is not None
    with pytest.raises(ValueError, match=r"replay\(\)"):
        await journal.release(row)
    assert await journal.replay(row)
    assert (row.state, row.attempts, row.replay, row.error) == (MessageState.AVAILABLE, 0, 1, "boom")
    assert await journal.load(row.id) == row
    assert not await journal.replay(stale)
    assert stale.replay == 0
    assert await journal.claim(row)
    assert await journal.settle(row, MessageState.DEAD) == []
    assert await journal.settle(row, MessageState.CANCELLED) == []


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
    journal.on_commit = lambda seconds, operations: commits.append(operations)
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


async def test_after_a_crash_what_was_running_runs_again_with_its_attempt_counted(url: str) -> None:
    first = await Registry.open(url, upgrade=True)
    running = await add(first.journal, "k1", claim=True)
    waiting = await add(first.journal, "k2")
    done = await add(first.journal, "k3", claim=True)
    await settle(first.journal, done, answer())
    await first.close()
    second = await Registry.open(url)
    assert await second.journal.rescue() == 1
    assert await second.journal.rescue() == 0
    again, _ = await second.journal.unsettled(AGENT)
    assert (again.id, again.attempts) == (running.id, 1)
    assert await second.journal.claim(again)
    assert again.attempts == 2
    newest = await add(second.journal, "k4")
    assert newest.id == done.id + 1
    assert waiting.id < newest.id
    await second.close()


async def test_counts_are_of_what_is_open_and_dead(journal: Journal) -> None:
    rows = [await add(journal, f"k{i}", claim=i > 0) for i in range(6)]
    await journal.retry(rows[1], "x", 0.0)
    await journal.settle(rows[2], MessageState.DEAD)
    await journal.settle(rows[3], MessageState.DONE)
    await journal.settle(rows[4], MessageState.CANCELLED)
    await add(journal, "k0", agent="another")
    assert await journal.counts() == {
        AGENT: {
            MessageState.AVAILABLE: 1,
            MessageState.RETRYABLE: 1,
            MessageState.DEAD: 1,
            MessageState.RUNNING: 1,
        },
        "another": {MessageState.AVAILABLE: 1},
    }


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("_COUNTS", "inbox_open"),
        ("_UNSETTLED", "inbox_open"),
        ("_UNSENT", "outbox_open"),
        ("_CANCEL", "inbox_open"),
        ("_SAID", "inbox_conversation"),
        ("_ANSWERED", "outbox_conversation"),
    ],
)
async def test_what_must_be_cheap_uses_its_index(registry: Registry, query: str, index: str) -> None:
    statement = getattr(queries, query)

    def plan(connection: Connection) -> str:
        parameters: dict[str, Any] = dict.fromkeys(statement.compile().params, 1)
        return str(connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), parameters).all())

    assert index in await registry._writer.transact(plan)


async def test_seen_keys_are_the_newest_oldest_first(journal: Journal) -> None:
    keys = ["0" * 24, "ABCDEF0123456789ABCDEF01", "twelve-chars", "\x00nul", "é"]
    for key in keys:
        await add(journal, key)
    await add(journal, "foreign", agent="another")
    assert await journal.seen_keys(AGENT, 10) == keys
    assert await journal.seen_keys(AGENT, 2) == keys[-2:]
    assert await journal.seen_keys("nobody", 2) == []


async def test_conversations_come_most_recently_active_first(journal: Journal) -> None:
    for key, conversation, at in [("1", "old", 10.0), ("2", "a", 20.0), ("3", "b", 30.0), ("4", "a", 40.0)]:
        await add(journal, key, conversation=conversation, at=at)
    await add(journal, "5", conversation="b", at=15.0)
    await add(journal, "6", agent="another", conversation="z", at=90.0)
    # A duplicate is no activity.
    assert await journal.add(AGENT, inbound(conversation="b"), key="5", received_at=99.0, claim=False) is None
    assert await journal.conversations(AGENT, since=20.0, limit=9) == ["a", "b"]
    assert await journal.conversations(AGENT, since=0.0, limit=9) == ["a", "b", "old"]
    assert await journal.conversations(AGENT, since=0.0, limit=1) == ["a"]


async def test_history_is_what_was_said_and_not_what_failed(journal: Journal, registry: Registry) -> None:
    first = await add(journal, "k1", content="question", at=1.0, claim=True)
    acked, dead = await settle(journal, first, answer("acked"), answer("dead", 1))
    await journal.settle_reply(acked, ReplyState.ACKED)
    await journal.settle_reply(dead, ReplyState.DEAD)
    await journal.add_reply(AGENT, None, answer("unasked"))
    await add(journal, "k2", content="later", at=4e9)
    await add(journal, "k3", content="elsewhere", conversation="c2")
    await add(journal, "k4", content="foreign", agent="another")
    told = await journal.history(AGENT, "c1", 10)
    assert [(role, content) for role, content, _ in told] == [
        ("user", "question"),
        ("assistant", "acked"),
        ("assistant", "unasked"),
        ("user", "later"),
    ]
    assert [at for _, _, at in told] == [1.0, acked.created_at, told[2][2], 4e9]
    assert await journal.history(AGENT, "c1", 2) == told[-2:]
    assert await journal.history(AGENT, "c1", 0) == []


async def test_messages_are_listed_newest_first_by_agent_state_and_age(journal: Journal) -> None:
    rows = [await add(journal, f"k{i}", at=float(i), claim=True) for i in range(5)]
    foreign = await add(journal, "k1", agent="another", at=2.0)
    await journal.settle(rows[0], MessageState.DEAD, error="boom")
    await journal.settle(rows[1], MessageState.DONE)

    async def listed(**filters: Any) -> list[int]:
        return [row.id for row in await journal.messages(**filters)]

    everything = [row.id for row in [foreign, *reversed(rows)]]
    assert await listed() == everything
    assert await listed(limit=2) == everything[:2]
    assert await listed(agent_id="another") == [foreign.id]
    assert await listed(states=[MessageState.DEAD]) == [rows[0].id]
    assert await listed(states=[MessageState.DEAD, MessageState.DONE]) == [rows[1].id, rows[0].id]
    assert await listed(states=[]) == []
    assert await listed(older_than=2.0) == [rows[1].id, rows[0].id]
    assert await listed(agent_id=AGENT, older_than=3.0, states=[MessageState.RUNNING]) == [rows[2].id]
    assert (await journal.messages(states=[MessageState.DEAD]))[0].error == "boom"


async def test_a_removed_agents_work_is_cancelled(journal: Journal) -> None:
    rows = [await add(journal, f"k{i}", claim=i > 0) for i in range(4)]
    await journal.retry(rows[1], "x", 0.0)
    (reply,) = await settle(journal, rows[2], answer())
    other = await add(journal, "k1", agent="another")
    assert await journal.cancel_agent(AGENT) == 3
    assert await journal.unsettled(AGENT) == []
    assert await journal.unsent(AGENT) == []
    assert {row.state for row in await journal.messages(agent_id=AGENT)} == {MessageState.CANCELLED, MessageState.DONE}
    assert await journal.unsettled("another") == [other]
    # Who still runs finds out when settling.
    assert await journal.settle(rows[3], MessageState.DONE, replies=[answer()]) is None
    assert not await journal.settle_reply(reply, ReplyState.ACKED)
    assert await journal.cancel_agent("nobody") == 0


async def test_cancelling_an_agent_includes_what_was_asked_for_before_it(journal: Journal) -> None:
    adding = [asyncio.ensure_future(add(journal, f"k{i}")) for i in range(50)]
    await asyncio.sleep(0)
    assert await journal.cancel_agent(AGENT) == 50
    await asyncio.gather(*adding)


async def test_purging_erases_a_conversation_or_an_agent(journal: Journal) -> None:
    for number, conversation in enumerate(["c1", "c1", "c2"]):
        row = await add(journal, f"k{number}", conversation=conversation, claim=True)
        await settle(journal, row, answer(conversation=conversation))
    await add(journal, "k0", agent="another")
    assert await journal.purge(AGENT, "c1") == 4
    assert await journal.history(AGENT, "c1", 9) == []
    assert await journal.conversations(AGENT, since=0.0, limit=9) == ["c2"]
    assert await journal.purge(AGENT) == 2
    assert await journal.messages(agent_id=AGENT) == []
    assert len(await journal.messages()) == 1


# ── pruning ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class SetClock:
    """A wall clock that tests set; it sleeps for real."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def test_pruning_deletes_what_was_settled_before_and_nothing_else(url: str) -> None:
    clock = SetClock()
    registry = await Registry.open(url, upgrade=True, clock=clock)
    journal = registry.journal
    clock.time = 10.0
    early = [await add(journal, f"early{i}", at=10.0, claim=True) for i in range(6)]
    for row, state in zip(early, [MessageState.DONE, MessageState.DEAD, MessageState.CANCELLED], strict=False):
        assert await journal.settle(row, state) == []
    (acked,) = await settle(journal, early[3], answer())
    (pending,) = await settle(journal, early[4], answer())
    await journal.settle_reply(acked, ReplyState.ACKED)
    clock.time = 30.0
    late = await add(journal, "late", at=30.0, claim=True)
    await settle(journal, late)
    # early[5] runs still, and was settled after the limit; the pending reply keeps its message.
    assert await journal.prune(5.0) == 0
    assert await journal.prune(20.0) == 5
    assert [row.key for row in reversed(await journal.messages())] == ["early4", "early5", "late"]
    assert await journal.replies(early[4].id) == [pending]
    await journal.settle(early[5], MessageState.DONE)
    assert await journal.prune(20.0) == 0
    await journal.settle_reply(pending, ReplyState.ACKED)
    assert await journal.prune(31.0) == 4
    assert await journal.messages() == []
    # A key may be used again once it is pruned; a number may not meet an old one's replies.
    assert await journal.add(AGENT, inbound(), key="late", received_at=32.0, claim=False) is not None
    await registry.close()


async def test_pruning_goes_in_slices_and_finds_its_limit_among_gaps(url: str) -> None:
    clock = SetClock()
    registry = await Registry.open(url, upgrade=True, clock=clock)
    journal = registry.journal
    for start in range(0, 5000, 1000):
        clock.time = float(start)
        rows = await asyncio.gather(
            *[add(journal, f"k{i}", at=float(i), claim=True) for i in range(start, start + 1000)]
        )
        await asyncio.gather(*[settle(journal, row) for row in rows if row.id % 10])
    commits: list[int] = []
    journal.on_commit = lambda seconds, operations: commits.append(operations)
    adding = asyncio.gather(*[add(journal, f"beside{i}", at=9e9) for i in range(20)])
    deleted = await journal.prune(3500.0)
    await adding
    assert deleted == 3 * 900 + 450
    assert len(await journal.messages(limit=10_000)) == 5000 - deleted + 20
    assert await journal.prune(3500.0) == 0
    await registry.close()
