"""A batch is committed once, whatever becomes of the connection, and by nobody who has lost the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.states import MessageState
from supervisor.protocol import InboundMessage
from supervisor.store import LockInfo, Registry
from supervisor.store.dialect import StorageError
from supervisor.store.dialect.operations import Barrier
from supervisor.store.postgres.address import address_of
from supervisor.store.postgres.connecting import Connector
from supervisor.store.postgres.writer import Writer
from tests.support import postgres
from tests.support.journaling import AGENT, add, answer, inbound, settle
from tests.support.postgres_way import Way, way_to


@pytest.fixture
async def way(url: str) -> AsyncIterator[Way]:
    async with way_to(url) as made:
        yield made


@pytest.fixture
async def registry(way: Way) -> AsyncIterator[Registry]:
    opened = await Registry.open(way.url, lock=LockInfo())
    yield opened
    await opened.close()


async def test_what_was_committed_although_nobody_was_told_is_not_committed_again(
    registry: Registry, way: Way, url: str
) -> None:
    journal = registry.journal
    row = await add(journal, "before", claim=True)
    way.losing = True
    (reply,) = await settle(journal, row, answer())
    assert way.lost == 1
    way.losing = True
    again = await add(journal, "again", claim=True)
    await journal.flush()
    assert [one.id for one in await journal.unsent(AGENT)] == [reply.id]
    assert {one.key: one.state for one in await journal.messages()} == {"before": "done", "again": "running"}
    assert (await journal.load(again.id)) == again
    assert postgres.on_server("SELECT count(*) FROM outbox", url=url) == [(1,)]


async def test_a_batch_whose_first_sending_is_under_way_still_is_committed_once(
    registry: Registry, way: Way, url: str
) -> None:
    journal = registry.journal
    row = await add(journal, "k1", claim=True)
    with postgres.holding(f"SELECT 1 FROM inbox_open WHERE id = {row.id} FOR UPDATE", url):
        settling = asyncio.create_task(settle(journal, row, answer()))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%fences%'"
        async with asyncio.timeout(10):
            while postgres.on_server(waiting) == [(0,)]:
                await asyncio.sleep(0.01)
            way.cut()
            while journal.healthy:
                await asyncio.sleep(0.01)
    (reply,) = await settling
    assert [one.id for one in await journal.replies(row.id)] == [reply.id]


async def test_a_connection_that_the_server_ends_is_opened_anew(registry: Registry, url: str) -> None:
    first = await add(registry.journal, "k1")
    name = postgres.name_of(url)
    postgres.on_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    second = await add(registry.journal, "k2")
    assert second.id > first.id
    assert await registry.journal.unsettled(AGENT) == [first, second]


async def test_what_the_database_refuses_fails_alone(registry: Registry) -> None:
    journal = registry.journal
    nul = InboundMessage(conversation_id="c\x00", role="user", content="x")
    adding = [add(journal, "k1"), journal.add(AGENT, nul, key="k2", received_at=1.0, claim=False), add(journal, "k3")]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert isinstance(outcomes[1], RegistryError)
    assert "\n" not in str(outcomes[1])
    assert [row.key for row in await journal.unsettled(AGENT)] == ["k1", "k3"]
    assert journal.healthy


async def test_whoever_lost_the_registry_writes_nothing(registry: Registry, url: str) -> None:
    row = await add(registry.journal, "k1", claim=True)
    postgres.on_server("DELETE FROM fences WHERE replica > 0", url=url)
    assert await registry.journal.settle(row, MessageState.DONE, replies=[answer()]) is None
    with pytest.raises(StorageError, match="another supervisor"):
        await registry.database.changes.rescue(AGENT)
    await registry.close(0.1)
    assert postgres.on_server("SELECT state, attempts FROM inbox", url=url) == [(2, 1)]
    assert postgres.on_server("SELECT count(*) FROM outbox", url=url) == [(0,)]


async def test_a_server_that_does_not_answer_is_waited_for_so_long(url: str) -> None:
    writer = Writer(Connector(address_of(url), lock_seconds=30), seconds=0.2)
    await writer.commit([Barrier()])
    with postgres.holding("LOCK TABLE fences IN ACCESS EXCLUSIVE MODE", url), pytest.raises(StorageError, match="time"):
        await writer.commit([Barrier()])
    assert await writer.commit([Barrier()]) == [True]
    await writer.close()
    with pytest.raises(RegistryError, match="closed"):
        await writer.commit([Barrier()])


async def test_answers_that_nobody_needs_any_more_are_forgotten(registry: Registry, url: str) -> None:
    for number in range(520):
        await registry.journal.add_reply(AGENT, None, answer(part=number))
    ((kept,),) = postgres.on_server("SELECT count(*) FROM journal_commits", url=url)
    assert 0 < kept < 100
    await registry.close()
    assert postgres.on_server("SELECT count(*) FROM journal_commits", url=url) == [(0,)]


async def test_a_database_that_lacks_what_was_committed_is_another_one(registry: Registry, url: str) -> None:
    journal = registry.journal
    row = await add(journal, "k1", claim=True)
    # A standby that took the server's place, and had not got the last moment: of the beats there is every one.
    for table in ("journal_commits", "inbox"):
        postgres.on_server(f"DELETE FROM {table}", url=url)
    name = postgres.name_of(url)
    postgres.on_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    assert await journal.settle(row, MessageState.DONE, replies=[answer()]) is None
    assert not journal.sure
    assert "another supervisor" in str(await registry.look())
    assert registry.taken_over
    # What is heard from then on is for whoever has the agent next, as it is after a burial.
    assert await journal.add(AGENT, inbound("hello"), key="k2", received_at=1.0, claim=True) is None
    assert postgres.on_server("SELECT state, attempts FROM inbox", url=url) == [(0, 0)]
    assert postgres.on_server("SELECT count(*) FROM outbox", url=url) == [(0,)]
