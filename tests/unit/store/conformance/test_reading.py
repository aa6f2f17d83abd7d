"""What is read from the journal, and the maintenance that touches many rows."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.states import FINAL_REPLY_STATES, MessageState, ReplyState
from supervisor.protocol.senders import Sender
from supervisor.store import Journal, Registry
from tests.support.journaling import AGENT, add, answer, inbound, settle


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
    assert [(role, content) for role, content, *_ in told] == [
        ("user", "question"),
        ("assistant", "acked"),
        ("assistant", "unasked"),
        ("user", "later"),
    ]
    assert [line.at for line in told] == [1.0, acked.created_at, told[2].at, 4e9]
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
    told = [line.content for line in await journal.history(AGENT, "c1", 10, without_commands=True)]
    assert told == ["question", "answer", "/status", "/status"]
    assert len(await journal.history(AGENT, "c1", 10)) == 6
    assert len(await journal.history(AGENT, "c1", 4, without_commands=True)) == 4, "they take nobody's place"


async def test_each_answer_stands_behind_its_message_whatever_came_meanwhile(journal: Journal) -> None:
    first = await add(journal, "k1", content="first", at=1.0, claim=True)
    second = await add(journal, "k2", content="second", at=2.0)
    await add(journal, "k3", content="third", at=3.0)
    await settle(journal, first, answer("thought"), answer("to the first", 1))
    assert await journal.claim(second)
    await settle(journal, second, NewReply(0, replace(answer("sorry").message, type="error")))
    told = [line.content for line in await journal.history(AGENT, "c1", 10)]
    assert told == ["first", "thought", "to the first", "second", "third"], "an apology is no answer"
    told = [line.content for line in await journal.history(AGENT, "c1", 10, up_to_id=second.id)]
    assert told == ["first", "thought", "to the first", "second"]
    told = [line.content for line in await journal.history(AGENT, "c1", 2, up_to_id=first.id)]
    assert told == ["thought", "to the first"]


async def test_a_history_tells_who_spoke(journal: Journal) -> None:
    for key, who in (("k1", {"sender": Sender(name="Ada")}), ("k2", {"external_username": "bob"}), ("k3", {})):
        message = replace(inbound(key), **who)
        assert await journal.add(AGENT, message, key=key, received_at=3.0, claim=False)
    assert [line.name for line in await journal.history(AGENT, "c1", 10)] == ["Ada", "bob", None]


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
    waits = await add(journal, "waits", claim=True)
    (failed,) = await settle(journal, waits, answer())
    assert await journal.messages(undelivered=True) == [foreign, rows["unknown"], rows["dead"]]
    await journal.defer_reply(failed, "Database is down", 2_000_000_000.0)
    assert await journal.messages(undelivered=True) == [waits, foreign, rows["unknown"], rows["dead"]]
    await journal.settle_reply(failed, ReplyState.ACKED)
    assert await journal.messages(undelivered=True, agent_id=AGENT, limit=1) == [rows["unknown"]]
    assert await journal.messages(undelivered=True, before_id=rows["unknown"].id) == [rows["dead"]]
    assert await journal.messages(undelivered=True, states=[MessageState.DEAD]) == []


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


async def test_conversations_are_noted_and_forgotten_in_the_order_of_asking(journal: Journal) -> None:
    await asyncio.gather(
        journal.record_conversation(AGENT, "left", at=1.0),
        journal.forget_conversation(AGENT, "left"),
        add(journal, "k1", conversation="left again", at=2.0),
        journal.forget_conversation(AGENT, "left again"),
        journal.forget_conversation(AGENT, "back"),
        add(journal, "k2", conversation="back", at=3.0),
        journal.forget_conversation(AGENT, "joined"),
        journal.record_conversation(AGENT, "joined", at=4.0),
        journal.forget_conversation("another", "joined"),
    )
    assert await journal.conversations(AGENT, since=0.0, limit=10) == [("joined", 4.0), ("back", 3.0)]
    await journal.forget_conversation(AGENT, "joined")
    await journal.forget_conversation(AGENT, "never known")
    assert await journal.conversations(AGENT, since=0.0, limit=10) == [("back", 3.0)]
    assert len(await journal.messages()) == 2, "what was said stays"
