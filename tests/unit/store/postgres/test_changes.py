"""Changes of agents by raw SQL are noticed, each once, however late their transaction commits."""

from __future__ import annotations

import asyncio
import time

import pytest

from supervisor.store import LockInfo, Registry
from tests.support import postgres

ADD = "INSERT INTO agents (id, handler, secret) VALUES ($1, 'echo', 'env:AGENT_A')"


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO agents (id, handler, secret) VALUES ('b', 'echo', 'env:B')",
        "UPDATE agents SET paused = 1",
        "DELETE FROM agents",
        "TRUNCATE agents",
    ],
)
async def test_whatever_raw_sql_does_is_noticed_once(registry: Registry, url: str, change: str) -> None:
    postgres.on_server(ADD, "a", url=url)
    assert await registry.changed()
    assert not await registry.changed()
    postgres.on_server(change, url=url)
    assert await registry.changed()
    assert not await registry.changed()


async def test_a_change_that_is_committed_late_is_found_behind_others(registry: Registry, url: str) -> None:
    late = ADD.replace("$1", "'late'")
    with postgres.holding(late, url) as commit:
        postgres.on_server(ADD, "quick", url=url)
        assert await registry.changed()
        assert not await registry.changed(), "one that was seen is no news, although a transaction is open"
        commit()
        assert await registry.changed()
    assert [agent.id for agent in await registry.agents()] == ["late", "quick"]
    assert not await registry.changed()


async def test_whoever_runs_the_registry_is_woken_at_once(url: str) -> None:
    registry = await Registry.open(url, lock=LockInfo())
    # The first beat listens.
    async with asyncio.timeout(10):
        while not postgres.on_server("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%replicas%beat%'"):
            await asyncio.sleep(0.01)
    began = time.monotonic()
    waiting = asyncio.create_task(registry.wait_for_change(30.0))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(postgres.on_server, ADD, "a", url=url)
    await waiting
    assert time.monotonic() - began < 10
    assert await registry.changed()
    await registry.close()


async def test_who_holds_nothing_waits_out_his_time(registry: Registry) -> None:
    began = time.monotonic()
    await registry.wait_for_change(0.05)
    assert time.monotonic() - began >= 0.05
