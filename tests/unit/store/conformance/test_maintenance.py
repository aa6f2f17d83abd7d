"""What touches many rows at once: taking over, cancelling, erasing, pruning."""

from __future__ import annotations

import asyncio

from supervisor.core.records import AgentRecord
from supervisor.core.states import MessageState, ReplyState
from supervisor.store import Journal, Registry
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT, add, answer, inbound, settle
from tests.support.stores import Opener


async def test_after_a_crash_what_was_running_runs_again_with_its_attempt_counted(opened: Opener) -> None:
    first = await opened()
    running = await add(first.journal, "k1", claim=True)
    waiting = await add(first.journal, "k2")
    done = await add(first.journal, "k3", claim=True)
    await settle(first.journal, done, answer())
    await first.close()
    second = await opened()
    assert await second.journal.maintenance.rescue() == 1
    assert await second.journal.maintenance.rescue() == 0
    again, _ = await second.journal.unsettled(AGENT)
    assert (again.id, again.attempts) == (running.id, 1)
    assert await second.journal.claim(again)
    assert again.attempts == 2
    newest = await add(second.journal, "k4")
    assert waiting.id < done.id < newest.id


async def test_one_agents_running_messages_are_rescued_without_the_others(journal: Journal) -> None:
    mine = [await add(journal, f"k{i}", claim=i > 0) for i in range(3)]
    foreign = await add(journal, "k1", agent="another", claim=True)
    assert await journal.maintenance.rescue("nobody") == 0
    assert await journal.maintenance.rescue(AGENT) == 2
    found = await journal.unsettled(AGENT)
    assert [(row.id, row.attempts) for row in found] == [(row.id, row.attempts) for row in mine]
    assert await journal.load(foreign.id) == foreign
    assert await journal.maintenance.rescue() == 1


async def test_a_removed_agents_work_is_cancelled(journal: Journal) -> None:
    rows = [await add(journal, f"k{i}", claim=i > 0) for i in range(4)]
    await journal.retry(rows[1], "x", 0.0)
    (reply,) = await settle(journal, rows[2], answer())
    other = await add(journal, "k1", agent="another")
    assert await journal.maintenance.cancel_agent(AGENT) == 3
    assert await journal.unsettled(AGENT) == []
    assert await journal.unsent(AGENT) == []
    assert {row.state for row in await journal.messages(agent_id=AGENT)} == {MessageState.CANCELLED, MessageState.DONE}
    assert await journal.unsettled("another") == [other]
    # Who still runs finds out when settling.
    assert await journal.settle(rows[3], MessageState.DONE, replies=[answer()]) is None
    assert not await journal.settle_reply(reply, ReplyState.ACKED)
    assert await journal.maintenance.cancel_agent("nobody") == 0


async def test_the_work_of_agents_that_are_not_registered_is_cancelled(journal: Journal, registry: Registry) -> None:
    await registry.add_agent(AgentRecord(id="there", handler="echo", secret="env:AGENT_A"))
    for agent in ("there", "gone", "gone too"):
        rows = [await add(journal, f"k{i}", agent=agent, claim=i > 0) for i in range(3)]
        await settle(journal, rows[2], answer())
    assert await journal.maintenance.cancel_removed() == 4
    assert await journal.counts() == {"there": {MessageState.AVAILABLE: 1, MessageState.RUNNING: 1}}
    assert [len(await journal.unsent(agent)) for agent in ("there", "gone", "gone too")] == [1, 0, 0]
    assert await journal.maintenance.cancel_removed() == 0


async def test_cancelling_an_agent_includes_what_was_asked_for_before_it(journal: Journal) -> None:
    adding = [asyncio.ensure_future(add(journal, f"k{i}")) for i in range(50)]
    await asyncio.sleep(0)
    assert await journal.maintenance.cancel_agent(AGENT) == 50
    await asyncio.gather(*adding)


async def test_purging_erases_a_conversation_or_an_agent(journal: Journal) -> None:
    for number, conversation in enumerate(["c1", "c1", "c2"]):
        row = await add(journal, f"k{number}", conversation=conversation, claim=True)
        await settle(journal, row, answer(conversation=conversation))
    await add(journal, "k0", agent="another")
    assert await journal.maintenance.purge(AGENT, "c1") == 4
    assert await journal.history(AGENT, "c1", 9) == []
    # It begins anew: what was said before is not to be asked for again.
    assert [conversation for conversation, _ in await journal.conversations(AGENT, since=0.0, limit=9)] == ["c1", "c2"]
    assert await journal.maintenance.purge(AGENT) == 2
    assert await journal.messages(agent_id=AGENT) == []
    assert len(await journal.messages()) == 1


async def test_erasing_messages_takes_their_replies_and_no_others(journal: Journal) -> None:
    rows = []
    for number, conversation in enumerate(["c1", "c1", "c2", "c3"]):
        rows.append(await add(journal, f"k{number}", conversation=conversation, claim=True))
        await settle(journal, rows[-1], answer(f"answer {number}", conversation=conversation))
    assert await journal.maintenance.erase([rows[0].id, rows[2].id, 10**9]) == 4
    assert [row.key for row in await journal.messages()] == ["k3", "k1"]
    assert [reply.message.content for reply in await journal.unsent(AGENT)] == ["answer 1", "answer 3"]
    # What was erased is not to be asked for again, where it was.
    seen = dict(await journal.conversations(AGENT, since=0.0, limit=9))
    assert (seen["c1"] > 100.0, seen["c2"] > 100.0, seen["c3"]) == (True, True, 100.0)
    assert await journal.maintenance.erase([]) == 0


async def test_pruning_deletes_what_was_settled_before_and_nothing_else(opened: Opener) -> None:
    clock = ManualClock(10.0)
    journal = (await opened(clock=clock)).journal
    early = [await add(journal, f"early{i}", at=10.0, claim=True) for i in range(6)]
    for row, state in zip(early, [MessageState.DONE, MessageState.DEAD, MessageState.CANCELLED], strict=False):
        assert await journal.settle(row, state) == []
    (acked,) = await settle(journal, early[3], answer())
    (pending,) = await settle(journal, early[4], answer())
    await journal.settle_reply(acked, ReplyState.ACKED)
    await clock.advance(20.0)
    late = await add(journal, "late", at=30.0, claim=True)
    await settle(journal, late)
    # early[5] runs still, and was settled after the limit; the pending reply keeps its message.
    assert await journal.maintenance.prune(5.0) == 0
    assert await journal.maintenance.prune(20.0) == 5
    assert [row.key for row in reversed(await journal.messages())] == ["early4", "early5", "late"]
    assert await journal.replies(early[4].id) == [pending]
    await journal.settle(early[5], MessageState.DONE)
    assert await journal.maintenance.prune(20.0) == 0
    await journal.settle_reply(pending, ReplyState.ACKED)
    assert await journal.maintenance.prune(31.0) == 4
    assert await journal.messages() == []
    # A key may be used again once it is pruned; a number may not meet an old one's replies.
    assert await journal.add(AGENT, inbound(), key="late", received_at=32.0, claim=False) is not None


async def test_pruning_goes_on_past_a_slice_and_lets_others_write(opened: Opener) -> None:
    clock = ManualClock(0.0)
    journal = (await opened(clock=clock)).journal
    for start in range(0, 5000, 1000):
        rows = await asyncio.gather(
            *[add(journal, f"k{i}", at=float(i), claim=True) for i in range(start, start + 1000)]
        )
        await clock.advance(1000.0)
        await asyncio.gather(*[settle(journal, row) for row in rows if row.id % 10])
    adding = asyncio.gather(*[add(journal, f"beside{i}", at=9e9) for i in range(20)])
    deleted = await journal.maintenance.prune(3500.0)
    await adding
    assert deleted == 3 * 900
    assert len(await journal.messages(limit=10_000)) == 5000 - deleted + 20
    assert await journal.maintenance.prune(3500.0) == 0


async def test_pruning_forgets_conversations_that_were_not_seen_since(journal: Journal) -> None:
    # More than two slices of them.
    await asyncio.gather(*[journal.record_conversation(AGENT, f"old{n}", at=10.0) for n in range(2100)])
    await journal.record_conversation(AGENT, "recent", at=30.0)
    assert await journal.maintenance.prune(20.0) == 0, "messages and replies are what is counted"
    assert await journal.conversations(AGENT, since=0.0, limit=5000) == [("recent", 30.0)]
