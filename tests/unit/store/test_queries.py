"""What is read from the journal, and the maintenance that touches many rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, bindparam, text

from supervisor.core.records import AgentRecord, JournaledMessage
from supervisor.core.states import FINAL_REPLY_STATES, MessageState, ReplyState
from supervisor.store import Journal, Registry, queries
from tests.support.journaling import AGENT, add, answer, inbound, settle


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
        ("_CANCEL_REMOVED", "inbox_open"),
        ("_CANCEL_REMOVED_REPLIES", "outbox_open"),
        ("_SAID", "inbox_conversation"),
        ("_ANSWERED", "outbox_conversation"),
        ("_REPLAYED", "inbox_open"),
        ("_REPLAYED_REPLIES", "outbox_open"),
        ("_DEAD_REPLIES", "outbox_conversation"),
        ("_KNOWN_KEYS", "message_key=?"),
        ("_OWN_REPLIES", "outbox_conversation"),
    ],
)
async def test_what_must_be_cheap_uses_its_index(registry: Registry, query: str, index: str) -> None:
    statement = getattr(queries, query)

    def plan(connection: Connection) -> str:
        parameters: dict[str, Any] = dict.fromkeys(statement.compile().params, 1)
        lists = parameters.keys() & {"keys", "ids"}
        parameters |= {name: [b"1"] for name in lists}
        explained = text(f"EXPLAIN QUERY PLAN {statement.text}").bindparams(
            *[bindparam(name, expanding=True) for name in lists]
        )
        return str(connection.execute(explained, parameters).all())

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
    assert await journal.conversations(AGENT, since=20.0, limit=9) == [("a", 40.0), ("b", 30.0)]
    assert await journal.conversations(AGENT, since=0.0, limit=9) == [("a", 40.0), ("b", 30.0), ("old", 10.0)]
    assert await journal.conversations(AGENT, since=0.0, limit=1) == [("a", 40.0)]


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


async def test_commands_and_their_answers_can_be_left_out_of_a_history(journal: Journal) -> None:
    asked = await add(journal, "k1", content="question", at=1.0, claim=True)
    command = await add(journal, "k2", content=" /Stop ", at=2.0, claim=True)
    await settle(journal, command, answer("Stopped."))
    # As an agent or with a document it is something else.
    for key, other in (("k3", {"sender_agent_id": AGENT}), ("k4", {"attachments": ("https://example.com/a",)})):
        message = replace(inbound("/status"), **other)
        assert await journal.add(AGENT, message, key=key, received_at=3.0, claim=False)
    await settle(journal, asked, answer("answer"))
    told = [content for _, content, _ in await journal.history(AGENT, "c1", 10, without_commands=True)]
    assert told == ["question", "/status", "/status", "answer"]
    assert len(await journal.history(AGENT, "c1", 10)) == 6
    assert len(await journal.history(AGENT, "c1", 4, without_commands=True)) == 4, "they take nobody's place"


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


async def test_messages_are_listed_by_conversation_time_and_page(journal: Journal) -> None:
    rows = [await add(journal, f"k{i}", at=float(i), conversation=f"c{i % 2}") for i in range(6)]
    foreign = await add(journal, "k1", agent="another", at=2.0, conversation="c1")

    async def listed(**filters: Any) -> list[JournaledMessage]:
        return await journal.messages(**filters)

    assert await listed(agent_id=AGENT, conversation_id="c1") == [rows[5], rows[3], rows[1]]
    assert await listed(conversation_id="c1", older_than=3.0) == [foreign, rows[1]]
    assert await listed(newer_than=4.0) == [rows[5], rows[4]]
    assert await listed(agent_id=AGENT, newer_than=2.0, older_than=4.0) == [rows[3], rows[2]]
    paged: list[JournaledMessage] = []
    while page := await listed(limit=3, before_id=paged[-1].id if paged else None):
        paged += page
    assert paged == [foreign, *reversed(rows)]
    assert await listed(before_id=rows[0].id) == []


async def test_messages_whose_replies_did_not_arrive_are_found(journal: Journal) -> None:
    fates = {
        "dead": ReplyState.DEAD,
        "unknown": ReplyState.UNKNOWN,
        "acked": ReplyState.ACKED,
        "pending": None,
    }
    rows = {}
    for key, fate in fates.items():
        rows[key] = await add(journal, key, claim=True)
        arrived, last = await settle(journal, rows[key], answer(), answer("second", 1))
        await journal.settle_reply(arrived, ReplyState.ACKED)
        if fate is not None:
            await journal.settle_reply(last, fate, "why")
    unasked = await journal.add_reply(AGENT, None, answer())
    await journal.settle_reply(unasked, ReplyState.DEAD)
    foreign = await add(journal, "foreign", agent="another", claim=True)
    (lost,) = await settle(journal, foreign, answer())
    await journal.settle_reply(lost, ReplyState.DEAD)
    assert await journal.messages(undelivered=True) == [foreign, rows["unknown"], rows["dead"]]
    assert await journal.messages(undelivered=True, agent_id=AGENT, limit=1) == [rows["unknown"]]
    assert await journal.messages(undelivered=True, before_id=rows["unknown"].id) == [rows["dead"]]
    assert await journal.messages(undelivered=True, states=[MessageState.DEAD]) == []


async def test_dead_replies_are_dead_letters_until_their_message_is_replayed_or_put_away(journal: Journal) -> None:
    rows = {}
    for key in ("done", "discarded", "replayed", "acked"):
        rows[key] = row = await add(journal, key, claim=True)
        state = MessageState.DONE if key in {"done", "acked"} else MessageState.DEAD
        settled = await journal.settle(row, state, replies=[answer("whole"), answer("second", 1)])
        assert settled is not None
        for reply in settled:
            await journal.settle_reply(reply, ReplyState.ACKED if key == "acked" else ReplyState.DEAD, "why")
    await journal.discard(rows["discarded"])
    assert await journal.messages(dead_letters=True) == [rows["replayed"], rows["done"]]
    assert await journal.messages(dead_letters=True, agent_id=AGENT, conversation_id="c1", limit=1) == [
        rows["replayed"]
    ]
    assert await journal.messages(dead_letters=True, agent_id="another") == []
    await journal.replay(rows["replayed"])
    await journal.claim(rows["replayed"])
    await settle(journal, rows["replayed"], answer("the answer of the replay"))
    # Only what was never said in another way.
    assert await journal.messages(dead_letters=True) == [rows["done"]]
    replies = await journal.dead_replies([row.id for row in rows.values()])
    assert [(reply.inbox_id, reply.part) for reply in replies if reply.inbox_id != rows["discarded"].id] == [
        (rows["done"].id, 0),
        (rows["done"].id, 1),
    ]


async def test_the_newest_own_replies_are_read_in_any_state(journal: Journal) -> None:
    row = await add(journal, "k1", claim=True)
    replies = await settle(journal, row, *[answer(str(part), part) for part in range(4)])
    for reply, state in zip(replies, [ReplyState.ACKED, ReplyState.UNKNOWN, ReplyState.DEAD], strict=False):
        await journal.settle_reply(reply, state)
    unasked = await journal.add_reply(AGENT, None, answer("unasked"))
    await journal.add_reply(AGENT, None, answer("elsewhere", conversation="c2"))
    await journal.add_reply("another", None, answer("foreign"))
    assert await journal.own_replies(AGENT, "c1", limit=10) == [*replies, unasked]
    assert await journal.own_replies(AGENT, "c1", limit=2) == [replies[3], unasked]
    assert await journal.own_replies("nobody", "c1", limit=2) == []
    assert await journal.own_replies(AGENT, "c1", limit=10, before_id=replies[3].id) == replies[:3]
    on_their_way = [reply for reply in [*replies, unasked] if reply.state not in FINAL_REPLY_STATES]
    assert await journal.own_replies(AGENT, "c1", limit=10, since=1e12) == on_their_way


async def test_known_keys_are_those_of_the_inbox_in_any_state(journal: Journal) -> None:
    keys = ["0" * 24, "twelve-chars", "\x00nul", "é"]
    for key in keys:
        await add(journal, key, claim=True)
    done = await journal.messages(agent_id=AGENT, limit=1)
    await settle(journal, done[0])
    await add(journal, "foreign", agent="another")
    many = {f"unknown{n}" for n in range(3000)}
    assert await journal.known_keys(AGENT, {*keys, "foreign", *many}) == set(keys)
    assert await journal.known_keys(AGENT, keys[:1]) == {keys[0]}
    assert await journal.known_keys(AGENT, []) == set()
    assert await journal.known_keys("nobody", keys) == set()


async def test_what_people_replayed_is_found_while_it_waits(journal: Journal) -> None:
    replayed = []
    for number, agent in enumerate(["b", "a", "b"]):
        row = await add(journal, f"k{number}", agent=agent, claim=True)
        await journal.settle(row, MessageState.DEAD)
        assert await journal.replay(row)
        replayed.append(row)
    await add(journal, "never replayed")
    assert await journal.replayed() == replayed
    assert await journal.claim(replayed[0])
    assert await journal.settle(replayed[1], MessageState.CANCELLED) is not None
    assert await journal.replayed() == [replayed[2]]
    await journal.release(replayed[0])
    assert await journal.replayed() == [replayed[0], replayed[2]]


async def test_one_agents_running_messages_are_rescued_without_the_others(journal: Journal) -> None:
    mine = [await add(journal, f"k{i}", claim=i > 0) for i in range(3)]
    foreign = await add(journal, "k1", agent="another", claim=True)
    assert await journal.rescue("nobody") == 0
    assert await journal.rescue(AGENT) == 2
    found = await journal.unsettled(AGENT)
    assert [(row.id, row.attempts) for row in found] == [(row.id, row.attempts) for row in mine]
    assert await journal.load(foreign.id) == foreign
    assert await journal.rescue() == 1


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


async def test_the_work_of_agents_that_are_not_registered_is_cancelled(journal: Journal, registry: Registry) -> None:
    await registry.add_agent(AgentRecord(id="there", handler="echo", secret="env:AGENT_A"))
    for agent in ("there", "gone", "gone too"):
        rows = [await add(journal, f"k{i}", agent=agent, claim=i > 0) for i in range(3)]
        await settle(journal, rows[2], answer())
    assert await journal.cancel_removed() == 4
    assert await journal.counts() == {"there": {MessageState.AVAILABLE: 1, MessageState.RUNNING: 1}}
    assert [len(await journal.unsent(agent)) for agent in ("there", "gone", "gone too")] == [1, 0, 0]
    assert await journal.cancel_removed() == 0


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
    # It begins anew: what was said before is not to be asked for again.
    assert [conversation for conversation, _ in await journal.conversations(AGENT, since=0.0, limit=9)] == ["c1", "c2"]
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


async def test_pruning_forgets_conversations_that_were_not_seen_since(journal: Journal) -> None:
    # More than two slices of them.
    await asyncio.gather(*[journal.note_conversation(AGENT, f"old{n}", at=10.0) for n in range(2100)])
    await journal.note_conversation(AGENT, "recent", at=30.0)
    assert await journal.prune(20.0) == 0, "messages and replies are what is counted"
    assert await journal.conversations(AGENT, since=0.0, limit=5000) == [("recent", 30.0)]


async def test_conversations_are_noted_and_forgotten_in_the_order_of_asking(journal: Journal) -> None:
    await asyncio.gather(
        journal.note_conversation(AGENT, "left", at=1.0),
        journal.forget_conversation(AGENT, "left"),
        add(journal, "k1", conversation="left again", at=2.0),
        journal.forget_conversation(AGENT, "left again"),
        journal.forget_conversation(AGENT, "back"),
        add(journal, "k2", conversation="back", at=3.0),
        journal.forget_conversation(AGENT, "joined"),
        journal.note_conversation(AGENT, "joined", at=4.0),
        journal.forget_conversation("another", "joined"),
    )
    assert await journal.conversations(AGENT, since=0.0, limit=10) == [("joined", 4.0), ("back", 3.0)]
    await journal.forget_conversation(AGENT, "joined")
    await journal.forget_conversation(AGENT, "never known")
    assert await journal.conversations(AGENT, since=0.0, limit=10) == [("back", 3.0)]
    assert len(await journal.messages()) == 2, "what was said stays"
