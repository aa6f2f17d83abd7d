"""The replicas that share a registry in PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.store import LockInfo, Registry
from tests.support import postgres
from tests.support.journaling import AGENT
from tests.support.postgres_way import way_to


async def test_a_replica_can_be_drained_by_anybody(url: str) -> None:
    holder = await Registry.open(url, lock=LockInfo("http://[::1]:1"))
    beside = await Registry.open(url)
    try:
        [one] = await beside.replicas.list()
        await beside.replicas.drain(one.id)
        [one] = await holder.replicas.list()
        assert one.draining
    finally:
        await beside.close()
        await holder.close()


async def test_what_another_version_says_of_itself_is_read_as_far_as_it_can_be(url: str) -> None:
    said = '{"address":"http://later:1","pid":7,"host":"later","version":"99","from_the_future":true}'
    postgres.on_server("INSERT INTO replicas (id, said) VALUES (nextval('replica_id'), $1)", said, url=url)
    registry = await Registry.open(url)
    [one] = await registry.replicas.list()
    assert (one.address, one.version, one.me) == ("http://later:1", "99", False)
    await registry.close()


async def test_who_is_buried_while_it_looks_does_not_take_its_agents_for_removed(url: str) -> None:
    async with way_to(url) as way:
        registry = await Registry.open(way.url, lock=LockInfo("http://[::1]:1"))
        try:
            await registry.add_agent(AgentRecord(AGENT, "a-handler-of-its-own", "env:A"))
            assert [row["id"] for row in (await registry.replicas.share()).own] == [AGENT]
            way.holding = b"a-handler-of-its-own"
            look = asyncio.create_task(registry.replicas.share())
            async with asyncio.timeout(10):
                while not way.held:
                    await asyncio.sleep(0.01)
            for taken in (
                "DELETE FROM replicas",
                "DELETE FROM fences WHERE replica > 0",
                "UPDATE leases SET owner = NULL",
            ):
                postgres.on_server(taken, url=url)
            way.holding = b""
            with pytest.raises(RegistryError, match="another supervisor"):
                await look
        finally:
            await registry.close()


async def test_a_token_is_kept_by_whoever_has_the_agent_or_is_to_have_it_and_goes_with_its_row(url: str) -> None:
    registry = await Registry.open(url, lock=LockInfo("http://[::1]:1"))
    try:
        replicas = registry.replicas
        await replicas.keep_token(AGENT, b"of an agent that is not there", 0.0)
        assert await replicas.token(AGENT) is None
        await registry.add_agent(AgentRecord(AGENT, "echo", "env:A"))
        assert (await replicas.share()).own
        await replicas.keep_token(AGENT, b"first", 0.0)
        await replicas.keep_token(AGENT, b"second", 3600.0)
        kept = await replicas.token(AGENT)
        assert kept is not None
        assert kept[0] == b"second"
        assert 3600 <= kept[1] < 3700
        postgres.on_server("UPDATE leases SET owner = 999", url=url)
        await replicas.keep_token(AGENT, b"of one that has it no more", 0.0)
        assert (await replicas.token(AGENT) or (b"",))[0] == b"second"
        await replicas.keep_token(AGENT, None, 0.0)
        assert await replicas.token(AGENT) is None
        postgres.on_server("UPDATE leases SET next = $1", replicas.my_id, url=url)
        await replicas.keep_token(AGENT, b"of one that is to have it", 0.0)
        assert await replicas.token(AGENT) is not None
        await registry.remove_agent(AGENT)
        assert await replicas.token(AGENT) is None
    finally:
        await registry.close()
