"""Somebody else's commit is noticed at once, and the writer's own are not taken for one, however many they are."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.records import AgentRecord
from supervisor.store import Registry

#: Far beyond what a notice takes: who waits so long was not woken.
LONG_SECONDS = 30.0
POLL_SECONDS = 0.2


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True)
    await opened.add_agent(AgentRecord(id="a1", handler="echo", secret="env:AGENT_A"))
    assert await opened.changed()
    yield opened
    await opened.close()


async def noticed(registry: Registry, within: float) -> int:
    """Wait as the fleet does until a change is noticed; how often it was asked for."""
    for looks in range(1, 1000):
        await registry.wait_for_change(within)
        if await registry.changed():
            return looks
    raise AssertionError("no change was noticed")


async def test_a_commit_of_somebody_else_is_noticed_at_once(registry: Registry, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "supervisor.db")) as sql:
        for number in range(5):
            sql.execute("UPDATE agents SET name = ?", (str(number),))
            noticing = asyncio.create_task(noticed(registry, LONG_SECONDS))
            await asyncio.sleep(0.02)
            assert not noticing.done()
            sql.commit()
            assert await asyncio.wait_for(noticing, LONG_SECONDS / 2) <= 4


async def test_a_commit_that_is_slow_after_its_first_write_is_noticed_all_the_same(
    registry: Registry, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "supervisor.db", isolation_level=None)) as sql:
        # With no room in the cache pages go to the log before the commit does.
        sql.execute("PRAGMA cache_size = 1")
        sql.execute("BEGIN IMMEDIATE")
        noticing = asyncio.create_task(noticed(registry, LONG_SECONDS))
        await asyncio.sleep(0.02)
        rows = [(f"b{number}", f'{{"instruction_extra": "{"x" * 4000}"}}') for number in range(50)]
        sql.executemany("INSERT INTO agents (id, handler, secret, settings) VALUES (?, 'echo', 'env:AGENT_A', ?)", rows)
        await asyncio.sleep(0.1)
        assert not noticing.done()
        sql.execute("COMMIT")
        assert await asyncio.wait_for(noticing, LONG_SECONDS / 2) > 1


async def test_own_commits_are_looked_at_a_few_times_and_not_each(registry: Registry) -> None:
    ends = time.monotonic() + 2 * POLL_SECONDS
    commits = looks = 0

    async def commit() -> None:
        nonlocal commits
        while time.monotonic() < ends:
            await registry.journal.record_conversation("a1", f"c{commits}", at=1.0)
            commits += 1

    committing = asyncio.create_task(commit())
    while time.monotonic() < ends:
        await registry.wait_for_change(POLL_SECONDS)
        looks += 1
        assert not await registry.changed()
    await committing
    assert commits > 3 * looks
    assert looks <= 14


async def test_nothing_written_is_waited_out(registry: Registry) -> None:
    await registry.wait_for_change(POLL_SECONDS)
    await registry.changed()
    began = time.monotonic()
    await registry.wait_for_change(POLL_SECONDS)
    assert time.monotonic() - began >= POLL_SECONDS * 0.9
