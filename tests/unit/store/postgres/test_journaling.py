"""What is written beside batches leaves alone what is another process's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from supervisor.core.records import AgentRecord
from supervisor.core.states import MessageState
from supervisor.store import LockInfo, Registry
from tests.support import postgres
from tests.support.journaling import AGENT, add


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Registry]:
    registry = await Registry.open(url, lock=LockInfo("http://[::1]:1"))
    try:
        yield registry
    finally:
        await registry.close()


async def test_a_start_takes_nothing_that_runs_elsewhere(url: str) -> None:
    async with running(url) as first:
        await first.add_agent(AgentRecord(AGENT, "echo", "env:A"))
        assert [row["id"] for row in (await first.replicas.share()).own] == [AGENT]
        begun = await add(first.journal, "k1", claim=True)
        async with running(url) as second:
            assert await second.journal.maintenance.take_over() == 0
            found = await second.journal.load(begun.id)
            assert found is not None
            assert found.state is MessageState.RUNNING


async def test_work_of_agents_that_nobody_ever_had_is_cancelled_at_a_start(url: str) -> None:
    async with running(url) as registry:
        await registry.add_agent(AgentRecord(AGENT, "echo", "env:A"))
        kept = await add(registry.journal, "k1")
        nobodys = await add(registry.journal, "k2", agent="gone")
        await registry.journal.maintenance.take_over()
        states = [(await registry.journal.load(one.id)) for one in (kept, nobodys)]
        assert [one and one.state for one in states] == [MessageState.AVAILABLE, MessageState.CANCELLED]


async def test_a_replay_by_anybody_is_noticed_by_whoever_runs_the_agent(url: str) -> None:
    async with running(url) as registry:
        await registry.add_agent(AgentRecord(AGENT, "echo", "env:A"))
        dead = await add(registry.journal, "k1", claim=True)
        await registry.journal.settle(dead, MessageState.DEAD, error="it broke")
        while await registry.changed():
            await asyncio.sleep(0.01)
        beside = await Registry.open(url)
        assert await beside.journal.dead_letters.replay(dead)
        await beside.close()
        async with asyncio.timeout(10):
            while not await registry.changed():
                await asyncio.sleep(0.01)
        assert [row.id for row in await registry.journal.replayed()] == [dead.id]


async def test_one_of_several_prunes(url: str) -> None:
    async with running(url) as first, running(url) as second:
        done = await add(first.journal, "k1", claim=True)
        await first.journal.settle(done, MessageState.DONE)
        later = (done.settled_at or 0.0) + 1
        assert await second.journal.maintenance.prune(later) == 0
        assert await first.journal.maintenance.prune(later) == 1
        assert postgres.on_server("SELECT count(*) FROM inbox", url=url) == [(0,)]


async def test_what_waits_for_an_agent_that_has_gone_to_another_process_is_not_cancelled(url: str) -> None:
    async with running(url) as first:
        await first.add_agent(AgentRecord(AGENT, "echo", "env:A"))
        assert [row["id"] for row in (await first.replicas.share()).own] == [AGENT]
        waiting = await add(first.journal, "k1")
        async with running(url) as second:
            assert await second.journal.maintenance.cancel_agent(AGENT) == 0
            found = await first.journal.load(waiting.id)
            assert found is not None
            assert found.state is MessageState.AVAILABLE
        assert await first.journal.maintenance.cancel_agent(AGENT) == 1
