"""A batch in one transaction: what wins, what loses, and that a batch of which one loses is applied one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.records import JournaledMessage, UsageRecord
from supervisor.core.states import MessageState, ReplyState
from supervisor.store import Registry
from supervisor.store.dialect.codec import TextCodec
from supervisor.store.dialect.operations import (
    AddMessage,
    AddUsage,
    MoveMessage,
    NoteConversation,
    Operation,
    add_reply,
    move_message,
    move_reply,
)
from supervisor.store.sqlite.batch import ContendedError, apply, apply_singly
from supervisor.store.sqlite.numbers import Numbers
from tests.support.journaling import AGENT, answer, inbound
from tests.support.registries import sqlite_of

TEXTS = TextCodec()


class Desk:
    """Batches on a real file."""

    def __init__(self, registry: Registry) -> None:
        self.registry, self.numbers = registry, Numbers()
        self.writer = sqlite_of(registry).writer

    async def apply(self, *operations: Operation) -> list[bool]:
        won = await self.writer.transact(lambda connection: apply(connection, operations, self.numbers))
        self.numbers.keep()
        for operation, outcome in zip(operations, won, strict=True):
            operation.result(outcome)
        return won

    async def singly(self, *operations: Operation) -> Sequence[Any]:
        return await self.writer.transact(lambda connection: apply_singly(connection, operations, self.numbers))

    async def ask(self, statement: str) -> list[Any]:
        return await self.writer.transact(lambda connection: [row[0] for row in connection.execute(statement)])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    registry = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True)
    yield Desk(registry)
    await registry.close()


def message(key: str, at: float = 100.0, conversation: str = "c1") -> AddMessage:
    row = JournaledMessage(0, AGENT, key, inbound("x", conversation), MessageState.RUNNING, 0, received_at=at)
    return AddMessage(row=row, body=TEXTS.body(row.message))


def done(add: AddMessage) -> MoveMessage:
    return move_message(TEXTS, add.row, MessageState.DONE, error=None)


async def test_all_that_may_happen_goes_into_one_transaction(desk: Desk) -> None:
    first, second = message("1"), message("2")
    assert await desk.apply(first, second) == [True, True]
    settled = done(first)
    settled.settling = True
    settled.replies = [add_reply(TEXTS, AGENT, first.row.id, answer(part=part), 5.0) for part in range(2)]
    used = UsageRecord(AGENT, "m", "2026-01-31", requests=1, input_tokens=5)
    assert await desk.apply(settled, AddUsage(records=[used, used]), done(second)) == [True] * 3
    assert await desk.ask("SELECT id FROM outbox ORDER BY part") == [1, 2]
    assert await desk.ask("SELECT input_tokens FROM usage") == [10]
    replies = [reply.reply for reply in settled.replies]
    assert await desk.apply(*[move_reply(TEXTS, reply, ReplyState.SENT, None) for reply in replies]) == [True] * 2


async def test_a_key_that_is_there_loses_and_the_others_win(desk: Desk) -> None:
    await desk.apply(message("1"))
    assert await desk.apply(message("2"), message("1"), message("3")) == [True, False, True]
    assert await desk.ask("SELECT count(*) FROM inbox") == [3]


async def test_a_move_that_lost_undoes_the_batch_and_alone_fails_alone(desk: Desk) -> None:
    first, second = message("1"), message("2")
    await desk.apply(first, second)
    lost = done(first)
    lost.expected = (MessageState.RUNNING, 7, 0)
    with pytest.raises(ContendedError):
        await desk.apply(lost, done(second), message("3"))
    assert await desk.ask("SELECT count(*) FROM inbox WHERE settled_at IS NOT NULL OR message_key = '3'") == [0]
    assert list(await desk.singly(lost, done(second), message("3"))) == [False, True, True]


async def test_what_the_database_refuses_is_told_of_that_operation_alone(desk: Desk) -> None:
    refused = message("2")
    refused.row.received_at = None  # type: ignore[assignment]
    found = list(await desk.singly(message("1"), refused, message("3")))
    assert (found[0], found[2]) == (True, True)
    assert isinstance(found[1], sqlite3.Error)


async def test_numbers_that_another_process_has_used_are_taken_up_where_they_are(desk: Desk) -> None:
    await desk.apply(message("1"))
    other = Desk(desk.registry)
    with pytest.raises(sqlite3.Error):
        # It does not know that the first number is taken.
        await other.apply(message("2"))
    assert list(await other.singly(message("2"))) == [True]
    assert await desk.ask("SELECT count(DISTINCT id) FROM inbox") == [2]


async def test_a_conversation_is_where_its_last_word_leaves_it(desk: Desk) -> None:
    await desk.apply(message("1", at=200.0), message("2", at=100.0), message("3", conversation="c2"))
    assert await desk.ask("SELECT last_seen FROM conversations ORDER BY conversation_id") == [200.0, 100.0]
    older = NoteConversation(agent_id=AGENT, conversation_id="c1", last_seen=50.0)
    gone = NoteConversation(agent_id=AGENT, conversation_id="c2", last_seen=None)
    await desk.apply(older, gone)
    assert await desk.ask("SELECT last_seen FROM conversations") == [200.0]


async def test_a_conversation_that_was_left_is_remembered_until_somebody_speaks_in_it(desk: Desk) -> None:
    journal = desk.registry.journal
    await desk.apply(message("1", at=200.0), NoteConversation(agent_id=AGENT, conversation_id="c1", last_seen=-300.0))
    assert await journal.conversations(AGENT, since=0.0, limit=9) == []
    assert await journal.left_conversations(AGENT, limit=9) == [("c1", 300.0)]
    await desk.apply(message("2", at=250.0))
    assert await journal.conversations(AGENT, since=0.0, limit=9) == [("c1", 250.0)]
    assert await journal.left_conversations(AGENT, limit=9) == []
