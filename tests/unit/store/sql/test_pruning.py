"""Old rows go slice by slice; what is on its way, and what belongs to it, stays."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.states import MessageState, ReplyState
from supervisor.store import Registry
from supervisor.store.sql.pruning import SLICE, last_before, prune_conversations, prune_slice
from supervisor.store.sqlite.writer import Writer
from tests.support.clock import ManualClock
from tests.support.journaling import add, answer, settle
from tests.support.registries import sqlite_of


@pytest.fixture
async def registry(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
def writer(registry: Registry) -> Writer:
    return sqlite_of(registry).writer


async def test_what_was_settled_long_ago_goes_but_for_what_is_on_its_way(
    registry: Registry, writer: Writer, clock: ManualClock
) -> None:
    journal, now = registry.journal, clock.now()
    await add(journal, "waits")
    answered = await add(journal, "answered", claim=True)
    [acked] = await settle(journal, answered, answer())
    await journal.mark_sent(acked)
    await journal.settle_reply(acked, ReplyState.ACKED)
    under_way = await add(journal, "under way", claim=True)
    [pending] = await settle(journal, under_way, answer())
    await journal.settle(await add(journal, "buried", claim=True), MessageState.DEAD)

    for table, deleted, last in (("outbox", 1, pending.id), ("inbox", 2, under_way.id + 1)):
        assert await writer.transact(lambda c, t=table: prune_slice(c, t, 0, 10**9, now)) == (0, last)  # type: ignore[misc]
        assert await writer.transact(lambda c, t=table: prune_slice(c, t, 0, 10**9, now + 1)) == (deleted, last)  # type: ignore[misc]
    assert {row.key for row in await journal.messages()} == {"waits", "under way"}
    assert [reply.id for reply in await journal.unsent(pending.agent_id)] == [pending.id]


async def test_a_slice_is_bounded_and_tells_where_the_next_begins(writer: Writer) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        execute = connection.execute
        execute("INSERT INTO agent_keys (key, agent_id) VALUES (1, 'a')")
        execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO conversations "
            "(agent_key, conversation_id, last_seen) SELECT 1, 'c' || i, i FROM n",
            (SLICE + 10,),
        )

    await writer.transact(fill)
    assert await writer.transact(lambda c: prune_conversations(c, SLICE + 6)) == SLICE
    assert await writer.transact(lambda c: prune_conversations(c, SLICE + 6)) == 5
    assert await writer.transact(lambda c: prune_conversations(c, SLICE + 6)) == 0
    assert await writer.transact(lambda c: prune_slice(c, "inbox", 0, 7, 1.0)) == (0, 7), "an empty table is done"


@pytest.mark.parametrize("gone", [(), (1,), (3, 4), (6,), (1, 2, 3, 4, 5, 6)])
async def test_the_last_row_before_a_time_is_found_whatever_gaps_there_are(
    registry: Registry, writer: Writer, gone: tuple[int, ...]
) -> None:
    times = {number: 100.0 * number for number in range(1, 7)}
    for number, at in times.items():
        await add(registry.journal, f"k{number}", at=at)
    for number in gone:
        await writer.transact(lambda c, n=number: c.execute("DELETE FROM inbox WHERE id = ?", (n,)))  # type: ignore[misc]
    left = {number: at for number, at in times.items() if number not in gone}
    for before in (0.0, 100.0, 100.5, 350.0, 600.0, 1e9):
        last = await writer.transact(lambda c, b=before: last_before(c, "inbox", b))  # type: ignore[misc]
        assert [n for n in left if n <= last] == [n for n, at in left.items() if at < before]
