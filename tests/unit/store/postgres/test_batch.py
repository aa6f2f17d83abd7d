"""What a batch takes of the database, and what an answer means for its operations."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from supervisor.core.records import JournaledMessage, UsageRecord
from supervisor.core.states import MessageState
from supervisor.core.tasks import awaited
from supervisor.protocol import InboundMessage
from supervisor.store import Registry
from supervisor.store.dialect import TextCodec
from supervisor.store.dialect.face import Outcome
from supervisor.store.dialect.operations import (
    AddMessage,
    AddUsage,
    Barrier,
    NoteConversation,
    Operation,
    add_reply,
    move_message,
)
from supervisor.store.postgres.batch import Batch
from supervisor.store.postgres.statement import Kind
from tests.support.journaling import AGENT, add, answer

TEXTS = TextCodec()
KEYS = {AGENT: 7}


async def commit(registry: Registry, operations: Sequence[Operation]) -> Sequence[Outcome]:
    future, done = awaited()
    registry.database.begin_commit(operations, done)
    outcomes: Sequence[Outcome] = await future
    return outcomes


def message(number: int, key: str = "k") -> JournaledMessage:
    said = InboundMessage(conversation_id="c1", role="user", content="x")
    return JournaledMessage(number, AGENT, key, said, MessageState.RUNNING, 1, 1.0)


async def test_messages_and_replies_take_one_statement_and_what_is_rare_takes_more() -> None:
    row, earlier = message(1), message(2)
    settled = move_message(TEXTS, row, MessageState.DONE, error=None)
    plain = [AddMessage(row=message(0), body=b"{}"), settled, add_reply(TEXTS, AGENT, None, answer(), 1.0), Barrier()]
    assert Batch(plain, KEYS).whole
    again = move_message(TEXTS, row, MessageState.DEAD, error=None)
    assert not Batch([settled, again], KEYS).whole, "a row that two of them change"
    left = NoteConversation(agent_id=AGENT, conversation_id="c1", last_seen=None)
    assert not Batch([left], KEYS).whole
    settled.together = [move_message(TEXTS, earlier, MessageState.DONE, error=None)]
    assert not Batch([settled], KEYS).whole


async def test_an_answer_tells_who_won_and_numbers_what_was_added() -> None:
    first, twin = (AddMessage(row=message(0), body=b"{}") for _ in range(2))
    lost = move_message(TEXTS, message(8), MessageState.DONE, error=None)
    lost.replies = [add_reply(TEXTS, AGENT, 8, answer(), 1.0)]
    won = move_message(TEXTS, message(9), MessageState.DONE, error=None)
    won.replies = [add_reply(TEXTS, AGENT, 9, answer(part=part), 1.0) for part in range(2)]
    batch = Batch([first, twin, lost, won], KEYS)
    told = [(Kind.HELD, 0, 0, b""), (Kind.ADDED, 7, 30, b"k"), (Kind.MOVED, 3, 0, b"")]
    told += [(Kind.REPLIED, 0, number, b"") for number in (12, 11)]
    assert batch.outcomes(told) == [True, False, False, True]
    assert (first.number, twin.number) == (30, 0)
    assert [reply.number for reply in won.replies] == [11, 12], "in the order in which they were asked for"


@pytest.mark.parametrize("number", [1, 40])
async def test_a_row_that_several_operations_move_is_moved_once(registry: Registry, number: int) -> None:
    journal = registry.journal
    rows = [await add(journal, f"k{n}", claim=True) for n in range(number)]
    # What is asked for in one turn of the loop goes in one batch.
    operations = [move_message(TEXTS, row, state, error=None) for row in rows for state in ("done", "dead")]  # type: ignore[arg-type]
    assert await commit(registry, operations) == [True, False] * number
    assert {row.state for row in await journal.messages(limit=100)} == {MessageState.DONE}


async def test_what_was_used_twice_in_one_batch_is_summed_up(registry: Registry) -> None:
    used = UsageRecord(AGENT, "large", "2026-01-31", 1, 10, 5, 0, 0.5, 0, 0, 0)
    assert await commit(registry, [AddUsage(records=[used, used]), AddUsage(records=[used])]) == [True, True]
    (found,) = await registry.usage(AGENT)
    assert (found.requests, found.input_tokens, found.cost) == (3, 30, 1.5)
