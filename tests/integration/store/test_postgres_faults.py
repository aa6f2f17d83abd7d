"""A registry whose server stops, fails over, or is taken over by another supervisor: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.core.states import MessageState
from supervisor.store import Journal, LockInfo, Registry
from tests.support import postgres
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.postgres_servers import Server, new_server
from tests.support.stack import stack


@pytest.fixture
def primary() -> Iterator[Server]:
    # The one of the tests makes what a server needs to be run by root.
    postgres.server_url()
    with new_server() as server:
        server.make()
        server.start()
        yield server


async def keep_answering(journal: Journal, stop: asyncio.Event, lane: int) -> int:
    """Messages that come and are answered one after the other; how many."""
    number = 0
    while not stop.is_set():
        row = await add(journal, f"{lane}-{number}", claim=True, conversation=f"c{lane}")
        await settle(journal, row, answer(conversation=f"c{lane}"))
        number += 1
    return number


async def until(journal: Journal, *, healthy: bool) -> None:
    async with asyncio.timeout(30):
        while journal.healthy is not healthy:
            await asyncio.sleep(0.01)


def once_each(url: str) -> list[tuple[int, ...]]:
    """Messages, those that are done, replies, and messages with a reply."""
    return postgres.on_server(
        "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM inbox WHERE state = 4), "
        "(SELECT count(*) FROM outbox), (SELECT count(DISTINCT inbox_id) FROM outbox)",
        url=url,
    )


async def test_a_server_that_dies_under_load_and_comes_back_has_everything_once(primary: Server) -> None:
    registry = await Registry.open(primary.url, upgrade=True, lock=LockInfo())
    journal, stop = registry.journal, asyncio.Event()
    lanes = [asyncio.create_task(keep_answering(journal, stop, lane)) for lane in range(10)]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(primary.stop)
    await until(journal, healthy=False)
    await asyncio.to_thread(primary.start)
    await until(journal, healthy=True)
    assert await registry.look() is None
    await asyncio.sleep(0.3)
    stop.set()
    answered = sum(await asyncio.gather(*lanes))
    await registry.close()
    assert once_each(primary.url) == [(answered,) * 4]


async def test_after_a_failover_the_next_host_is_used(primary: Server) -> None:
    with new_server() as standby:
        await asyncio.to_thread(standby.copy_of, primary)
        await asyncio.to_thread(standby.start)
        url = f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/postgres"
        registry = await Registry.open(url, upgrade=True, lock=LockInfo())
        journal, stop = registry.journal, asyncio.Event()
        lanes = [asyncio.create_task(keep_answering(journal, stop, lane)) for lane in range(5)]
        await asyncio.sleep(0.3)
        # A stop in good order hands everything over first.
        await asyncio.to_thread(primary.stop, "fast")
        await until(journal, healthy=False)
        await asyncio.to_thread(standby.promote)
        await until(journal, healthy=True)
        stop.set()
        answered = sum(await asyncio.gather(*lanes))
        assert await registry.look() is None
        assert len(await journal.unsent(AGENT)) == answered
        await registry.close()
        assert once_each(standby.url) == [(answered,) * 4]


async def test_a_supervisor_whose_registry_was_taken_over_ends(tmp_path: Path) -> None:
    with postgres.new_database() as url:
        async with stack(tmp_path, registry_url=url) as fleet:
            identity = await fleet.add()
            await fleet.online()
            await fleet.ask(identity, "hello")
            # As another supervisor does that has seen nothing of this one for a lease.
            postgres.on_server("DELETE FROM fences WHERE replica > 0", url=url)
            postgres.on_server("DELETE FROM replicas", url=url)
            async with asyncio.timeout(10):
                reason = await fleet.service.side_tasks.failed
            assert "taken over by another supervisor" in reason
            assert fleet.service.registry.taken_over
            states = {row.state for row in await fleet.service.registry.journal.messages()}
            assert states == {MessageState.DONE}
