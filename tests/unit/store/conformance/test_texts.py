"""Journaled text encrypted or not: keys that come and go, and rows that cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisor.core.states import MessageState, ReplyState
from supervisor.settings.secrets import SecretBox, generate_key
from supervisor.store import Journal
from supervisor.store.dialect import TextCodec, codec
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.stores import Store, open_on

OLD, NEW = generate_key(), generate_key()


@asynccontextmanager
async def journal_under(store: Store, *keys: str, encrypt: bool = False) -> AsyncIterator[Journal]:
    """The journal of a supervisor that has these keys."""
    registry = await open_on(store, texts=TextCodec(SecretBox(keys) if keys else None, encrypt=encrypt))
    yield registry.journal
    await registry.close()


async def test_an_older_key_reads_while_it_is_listed_and_the_first_one_writes(store: Store) -> None:
    async with journal_under(store, OLD, encrypt=True) as journal:
        old = await add(journal, "old")
    async with journal_under(store, NEW, OLD, encrypt=True) as journal:
        new = await add(journal, "new")
        assert await journal.unsettled(AGENT) == [old, new]
    async with journal_under(store, NEW, encrypt=True) as journal:
        assert [row.problem for row in await journal.messages()] == [None, codec.LOCKED]


@pytest.mark.parametrize("keys", [(NEW,), ()])
async def test_a_lost_key_makes_dead_letters_of_its_messages_and_stops_nothing(store: Store, keys: tuple[str]) -> None:
    async with journal_under(store, OLD, encrypt=True) as journal:
        for number in range(7):
            await add(journal, f"old{number}", content=f"old {number}", conversation=f"c{number}")
    async with journal_under(store) as journal:
        readable = [await add(journal, f"new{number}", content="later") for number in range(4)]
    async with journal_under(store, *keys) as journal:
        told: list[tuple[str, int, str]] = []
        journal.hooks.on_unreadable = lambda *what: told.append(what)
        # A page is full although most of what it would have held cannot be read: the next one is asked for.
        assert await journal.unsettled(AGENT, limit=3) == readable[:3]
        assert sum(number for _, number, _ in told) == 7
        assert {(agent, reason) for agent, _, reason in told} == {(AGENT, codec.LOCKED)}
        dead = await journal.messages(states=[MessageState.DEAD])
        assert [row.error for row in dead] == [codec.LOCKED] * 7
        assert [row.problem for row in dead] == [codec.LOCKED] * 7
        assert [row.conversation_id for row in dead] == [f"c{number}" for number in reversed(range(7))]
        # Replayed too early it dies again, and nothing else happens.
        assert await journal.dead_letters.replay(dead[0])
        assert await journal.replayed() == []
    async with journal_under(store, NEW, OLD) as journal:
        for row in await journal.messages(states=[MessageState.DEAD]):
            assert row.problem is None
            assert await journal.dead_letters.replay(row)
        again = await journal.replayed()
        assert [row.message.content for row in again] == [f"old {number}" for number in range(7)]


async def test_replies_under_a_lost_key_wait_for_it(store: Store) -> None:
    async with journal_under(store, OLD, encrypt=True) as journal:
        row = await add(journal, "k1", claim=True, content="question")
        (old,) = await settle(journal, row, answer("under the old key"))
    async with journal_under(store, NEW, encrypt=True) as journal:
        told: list[tuple[str, int, str]] = []
        journal.hooks.on_unreadable = lambda *what: told.append(what)
        new = await journal.add_reply(AGENT, None, answer("under the new key"))
        assert await journal.unsent(AGENT) == [new]
        assert told == [(AGENT, 1, codec.LOCKED)]
        (seen,) = await journal.replies(row.id)
        assert (seen.part, seen.state, seen.problem) == (0, ReplyState.PENDING, codec.LOCKED)
        assert await journal.own_replies(AGENT, "c1", limit=9) == [new]
        assert [line.content for line in await journal.history(AGENT, "c1", 9)] == ["under the new key"]
    async with journal_under(store, NEW, OLD, encrypt=True) as journal:
        assert await journal.unsent(AGENT) == [old, new]
