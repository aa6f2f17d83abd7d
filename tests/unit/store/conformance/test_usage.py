"""What agents used: sums that grow with the journal's commits."""

from __future__ import annotations

import asyncio

from supervisor.core.records import AgentRecord, UsageRecord
from supervisor.store import Registry
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.stores import Opener, Store

DAY = "2027-01-15"


def used(agent: str = AGENT, model: str = "m", day: str = DAY, *, tokens: int = 10) -> UsageRecord:
    return UsageRecord(agent, model, day, 1, tokens, 2 * tokens, tokens // 2, 0.25 * tokens, tokens % 2, tokens, 1)


async def test_what_was_used_adds_up_by_agent_model_and_day(registry: Registry) -> None:
    for record in (used(), used(tokens=5), used(model="n"), used("other"), used(day="2027-01-16")):
        registry.journal.usage.add(record)
        await registry.journal.flush()
    assert await registry.usage() == [
        UsageRecord(AGENT, "m", DAY, 2, 15, 30, 7, 3.75, 1, 15, 2),
        used(model="n"),
        used("other"),
        used(day="2027-01-16"),
    ]
    assert await registry.usage("other") == [used("other")]
    assert await registry.usage(since_day="2027-01-16") == [used(day="2027-01-16")]
    assert await registry.usage("nobody") == []


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


async def test_a_removed_agent_and_erased_messages_leave_their_usage(registry: Registry) -> None:
    await registry.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_A"))
    registry.journal.usage.add(used())
    await add(registry.journal, "k1")
    await registry.remove_agent(AGENT)
    await registry.journal.maintenance.cancel_removed()
    await registry.journal.maintenance.purge(AGENT)
    await registry.journal.maintenance.prune(before=1e12)
    assert await registry.usage(AGENT) == [used()]


async def test_old_days_are_pruned(registry: Registry) -> None:
    for day in ("2025-12-10", "2025-12-11", "2025-12-12", DAY):
        registry.journal.usage.add(used(day=day))
    await registry.journal.flush()
    assert await registry.journal.maintenance.prune_usage("2025-12-12") == 2
    assert await registry.journal.maintenance.prune_usage("2025-12-12") == 0
    assert [record.day for record in await registry.usage()] == ["2025-12-12", DAY]


async def test_what_cannot_be_written_before_the_end_is_said(registry: Registry, store: Store) -> None:
    lost: list[str] = []
    registry.journal.hooks.on_usage_lost = lost.append
    with store.stalled():
        registry.journal.usage.add(used())
        await registry.journal.close(timeout=0.1)
        await asyncio.sleep(0)
    assert len(lost) == 1
    assert "closed before this was written" in lost[0]


async def test_a_database_that_refuses_delays_it_and_loses_nothing(registry: Registry, store: Store) -> None:
    with store.stalled():
        registry.journal.usage.add(used())
        flushed = asyncio.create_task(registry.journal.flush())
        while registry.journal.healthy:
            await asyncio.sleep(0.01)
        registry.journal.usage.add(used())
    await flushed
    await registry.journal.flush()
    assert [record.input_tokens for record in await registry.usage()] == [20]


async def test_it_goes_with_the_commit_that_settles_its_message(registry: Registry) -> None:
    commits: list[int] = []
    registry.journal.hooks.on_commit = lambda _seconds, operations: commits.append(operations)
    row = await add(registry.journal, "k1", claim=True)
    for _ in range(100):
        registry.journal.usage.add(used())
    assert await registry.usage() == [], "nothing is written for its own sake"
    await settle(registry.journal, row, answer())
    assert [record.input_tokens for record in await registry.usage()] == [1000]
    assert commits == [1, 2], "one transaction for the message, one for its settling and what it used"


async def test_where_no_message_comes_it_is_written_when_asked(registry: Registry) -> None:
    registry.journal.usage.add(used())
    registry.journal.usage.write()
    registry.journal.usage.write()
    await registry.journal.flush()
    assert [record.input_tokens for record in await registry.usage()] == [10]


async def test_closing_writes_it(registry: Registry, opened: Opener) -> None:
    registry.journal.usage.add(used())
    await registry.close()
    again = await opened()
    assert [record.input_tokens for record in await again.usage()] == [10]
    registry.journal.usage.add(used())
    registry.journal.usage.write()
    assert [record.input_tokens for record in await again.usage()] == [10], "too late, and no harm done"
