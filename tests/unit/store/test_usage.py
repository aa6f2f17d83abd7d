"""What agents used, in the registry: sums that grow with the journal's commits, and cost no commit of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from supervisor.core.days import days_before
from supervisor.core.records import AgentRecord, UsageRecord
from supervisor.service.housekeeping import Housekeeping
from supervisor.store import Registry
from supervisor.telemetry.metrics import Metrics
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT, add, answer, settle

if TYPE_CHECKING:
    from supervisor.fleet import Fleet

DAY = "2027-01-15"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.db"


@pytest.fixture
async def registry(path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True)
    yield opened
    await opened.close()


def used(agent: str = AGENT, model: str = "m", day: str = DAY, *, tokens: int = 10) -> UsageRecord:
    return UsageRecord(agent, model, day, 1, tokens, 2 * tokens, tokens // 2, 0.25 * tokens, tokens % 2)


def in_file(path: Path) -> list[tuple[str, int]]:
    """What another program finds committed: day and input tokens of each row."""
    with closing(sqlite3.connect(path)) as sql:
        return sql.execute("SELECT day, input_tokens FROM usage ORDER BY day, agent_key, model").fetchall()


async def test_what_was_used_adds_up_by_agent_model_and_day(registry: Registry) -> None:
    for record in (used(), used(tokens=5), used(model="n"), used("other"), used(day="2027-01-16")):
        registry.journal.usage.add(record)
        await registry.journal.flush()
    assert await registry.usage() == [
        UsageRecord(AGENT, "m", DAY, 2, 15, 30, 7, 3.75, 1),
        used(model="n"),
        used("other"),
        used(day="2027-01-16"),
    ]
    assert await registry.usage("other") == [used("other")]
    assert await registry.usage(since_day="2027-01-16") == [used(day="2027-01-16")]
    assert await registry.usage("nobody") == []


async def test_it_goes_with_the_commit_that_settles_its_message(registry: Registry, path: Path) -> None:
    commits: list[int] = []
    registry.journal.on_commit = lambda _seconds, operations: commits.append(operations)
    row = await add(registry.journal, "k1", claim=True)
    for _ in range(100):
        registry.journal.usage.add(used())
    assert in_file(path) == [], "nothing is written for its own sake"
    await settle(registry.journal, row, answer())
    assert in_file(path) == [(DAY, 1000)]
    assert commits == [1, 2], "one transaction for the message, one for its settling and what it used"


async def test_where_no_message_comes_it_is_written_when_asked(registry: Registry, path: Path) -> None:
    registry.journal.usage.add(used())
    registry.journal.usage.write()
    registry.journal.usage.write()
    await registry.journal.flush()
    assert in_file(path) == [(DAY, 10)]


async def test_closing_writes_it(registry: Registry, path: Path) -> None:
    registry.journal.usage.add(used())
    await registry.close()
    assert in_file(path) == [(DAY, 10)]
    registry.journal.usage.add(used())
    registry.journal.usage.write()
    assert in_file(path) == [(DAY, 10)], "too late, and no harm done"


async def test_threads_may_add_at_once(registry: Registry) -> None:
    def work() -> None:
        for _ in range(500):
            registry.journal.usage.add(used(tokens=1))

    async def write() -> None:
        for _ in range(50):
            await registry.journal.flush()

    await asyncio.gather(*[asyncio.to_thread(work) for _ in range(4)], write())
    await registry.journal.flush()
    [total] = await registry.usage()
    assert (total.requests, total.input_tokens) == (2000, 2000)


async def test_an_operation_that_loses_beside_it_counts_nothing_twice(registry: Registry) -> None:
    """The batch is rolled back and applied again, one operation at a time."""
    row = await add(registry.journal, "k1", claim=True)
    row.attempts = 7
    registry.journal.usage.add(used())
    assert not await registry.journal.release(row)
    assert [record.input_tokens for record in await registry.usage()] == [10]


async def test_a_locked_file_delays_it_and_loses_nothing(registry: Registry, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        registry.journal.usage.add(used())
        flushed = asyncio.create_task(registry.journal.flush())
        while registry.journal.healthy:
            await asyncio.sleep(0.01)
        registry.journal.usage.add(used())
        other.execute("COMMIT")
        await flushed
    await registry.journal.flush()
    assert in_file(path) == [(DAY, 20)]


async def test_what_cannot_be_written_before_the_end_is_said(registry: Registry, path: Path) -> None:
    lost: list[str] = []
    registry.journal.usage.on_lost = lost.append
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        registry.journal.usage.add(used())
        await registry.journal.close(timeout=0.1)
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
    assert len(lost) == 1
    assert "closed before this was written" in lost[0]


async def test_a_removed_agent_and_erased_messages_leave_their_usage(registry: Registry) -> None:
    await registry.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_A"))
    registry.journal.usage.add(used())
    await add(registry.journal, "k1")
    await registry.remove_agent(AGENT)
    await registry.journal.cancel_removed()
    await registry.journal.purge(AGENT)
    await registry.journal.prune(before=1e12)
    assert await registry.usage(AGENT) == [used()]


async def test_old_days_are_pruned(registry: Registry) -> None:
    for day in ("2025-12-10", "2025-12-11", "2025-12-12", DAY):
        registry.journal.usage.add(used(day=day))
    await registry.journal.flush()
    assert await registry.journal.prune_usage("2025-12-12") == 2
    assert await registry.journal.prune_usage("2025-12-12") == 0
    assert [record.day for record in await registry.usage()] == ["2025-12-12", DAY]


async def test_maintenance_keeps_400_days_and_writes_every_second(registry: Registry, path: Path) -> None:
    clock = ManualClock()
    upkeep = Housekeeping(registry.journal, cast("Fleet", None), Metrics(), clock, retention_seconds=60.0)
    kept, gone = days_before(clock.now(), 400), days_before(clock.now(), 401)
    for day in (kept, gone):
        registry.journal.usage.add(used(day=day))
    await registry.journal.flush()
    tasks = [asyncio.create_task(work()) for work in (upkeep.prune, upkeep.write_usage)]
    while len(in_file(path)) > 1:
        await asyncio.sleep(0.01)
    assert in_file(path) == [(kept, 10)]
    registry.journal.usage.add(used())
    while not clock.sleepers:
        await asyncio.sleep(0)
    await clock.advance(1.0)
    while len(in_file(path)) < 2:
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
