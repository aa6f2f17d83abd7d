"""Reading and altering over connections that break."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.store import Registry
from supervisor.store.dialect.face import READING
from supervisor.store.postgres import Postgres
from tests.support import postgres
from tests.support.journaling import add
from tests.support.postgres_way import way_to


async def test_what_breaks_before_it_is_committed_is_tried_again(registry: Registry, url: str) -> None:
    await registry.agents()
    for number in range(3):
        name = postgres.name_of(url)
        postgres.on_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await registry.add_agent(AgentRecord(f"a{number}", "echo", "env:AGENT_A"))
    assert [agent.id for agent in await registry.agents()] == ["a0", "a1", "a2"]


async def test_through_a_pooler_everything_is_read_and_changed(url: str) -> None:
    async with way_to(url) as way:
        way.pooling = True
        registry = await Registry.open(way.url)
        await registry.add_agent(AgentRecord("a", "echo", "env:AGENT_A"))
        assert await asyncio.gather(*[registry.agents() for _ in range(20)]) == [await registry.agents()] * 20
        await registry.close()


async def test_whoever_reads_cannot_write(url: str) -> None:
    database = await Postgres(patience_seconds=0.0).open(url, clock=SystemClock())
    with pytest.raises(RegistryError, match="set to read only"):
        await database.sessions.read(lambda connection: connection.execute("DELETE FROM agents"))
    await database.close()
    reading = await Registry.open(url, access=READING)
    for change in (reading.add_agent(AgentRecord("a", "echo", "env:AGENT_A")), add(reading.journal, "k1")):
        with pytest.raises(RegistryError, match="opened to be read"):
            await change
    assert await reading.agents() == []
    await reading.close()


async def test_what_the_server_refuses_is_one_line_without_a_value(registry: Registry) -> None:
    with pytest.raises(RegistryError) as caught:
        await registry.add_agent(AgentRecord("a", "echo", "env:AGENT_A", name="hunter2\x00"))
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
