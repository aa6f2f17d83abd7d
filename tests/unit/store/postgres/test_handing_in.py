"""What a process has heard that was taken for dead is written all the same, once, for whoever has the agent now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord, UsageRecord
from supervisor.core.states import MessageState
from supervisor.store import LockInfo, Registry
from tests.support import postgres
from tests.support.journaling import AGENT, add, answer, inbound, settle


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Registry]:
    registry = await Registry.open(url, lock=LockInfo("http://[::1]:1"))
    try:
        yield registry
    finally:
        await registry.close()


def bury(url: str, registry: Registry) -> None:
    """As another process does for which this one has stood still."""
    number = registry.replicas.my_id
    postgres.on_server("DELETE FROM fences WHERE replica = $1", number, url=url)
    postgres.on_server("DELETE FROM replicas WHERE id = $1", number, url=url)
    postgres.on_server("UPDATE leases SET owner = NULL", url=url)


async def test_what_was_heard_comes_to_the_next_owner_as_new_and_what_it_has_itself_does_not(url: str) -> None:
    async with running(url) as first:
        await first.add_agent(AgentRecord(AGENT, "echo", "env:A"))
        async with running(url) as second:
            bury(url, first)
            async with asyncio.timeout(10):
                while not (await second.replicas.share()).own:
                    await asyncio.sleep(0.01)
            known = await add(second.journal, "k1", claim=True)
            while await second.changed():
                await asyncio.sleep(0.01)
            heard = [
                first.journal.add(AGENT, inbound(key), key=key, received_at=200.0, claim=True) for key in ("k1", "k2")
            ]
            assert await asyncio.gather(*heard) == [None, None], "they are not this one's to answer"
            async with asyncio.timeout(10):
                while not await second.changed():
                    await asyncio.sleep(0.01)
            [new] = await second.journal.replayed()
            assert (new.key, new.state, new.attempts, new.replay) == ("k2", MessageState.AVAILABLE, 0, 0)
            assert await second.journal.claim(new)
            assert await second.journal.replayed() == [], "it is begun once"
            found = await second.journal.load(known.id)
            assert found is not None
            assert found.state is MessageState.RUNNING, "what runs there was left alone"


async def test_whoever_lives_hands_in_for_others_what_it_heard(url: str) -> None:
    async with running(url) as owner:
        await owner.add_agent(AgentRecord(AGENT, "echo", "env:A"))
        assert (await owner.replicas.share()).own
        await add(owner.journal, "k1")
        while await owner.changed():
            await asyncio.sleep(0.01)
        async with running(url) as other:
            handing = [
                other.journal.hand_in(AGENT, inbound(key), key=key, received_at=200.0) for key in ("k1", "k2", "k2")
            ]
            assert await asyncio.gather(*handing, add(other.journal, "k3", agent="another")) is not None
        async with asyncio.timeout(10):
            while not await owner.changed():
                await asyncio.sleep(0.01)
        assert [(row.key, row.state) for row in await owner.journal.replayed()] == [("k2", MessageState.AVAILABLE)]


async def test_nothing_else_of_it_is_written(url: str) -> None:
    async with running(url) as registry:
        await registry.add_agent(AgentRecord(AGENT, "echo", "env:A"))
        row = await add(registry.journal, "k1")
        [reply] = await settle(registry.journal, await add(registry.journal, "k2", claim=True), answer())
        before = postgres.on_server("SELECT * FROM inbox", url=url), postgres.on_server("SELECT * FROM outbox", url=url)
        bury(url, registry)
        assert not await registry.journal.claim(row)
        assert not await registry.journal.mark_sent(reply)
        with pytest.raises(RegistryError, match="another supervisor"):
            await registry.journal.lives.record_registered({AGENT: 5.0})
        registry.journal.usage.add(UsageRecord(AGENT, "large", "2026-01-31", requests=1))
        registry.journal.usage.write()
        await asyncio.sleep(0.1)
        assert postgres.on_server("SELECT count(*) FROM usage", url=url) == [(0,)]
        after = postgres.on_server("SELECT * FROM inbox", url=url), postgres.on_server("SELECT * FROM outbox", url=url)
        assert after == before
