"""How the journal commits: in batches, waiting while the database refuses, whatever becomes of those who wait."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord, NewReply
from supervisor.core.states import MessageState
from supervisor.protocol import OutboundMessage
from supervisor.store import Journal, Registry
from supervisor.store.committer import JournalLimits
from tests.support.journaling import AGENT, add, answer
from tests.support.stores import Opener, Store


async def until_unhealthy(journal: Journal) -> str:
    """Wait until the journal knows that it cannot write; why."""
    async with asyncio.timeout(30):
        while journal.healthy:
            await asyncio.sleep(0.01)
    assert journal.problem is not None
    assert "\n" not in journal.problem
    return journal.problem


async def test_while_the_database_refuses_everything_waits_and_is_written_later(journal: Journal, store: Store) -> None:
    errors: list[str] = []
    journal.hooks.on_error = errors.append
    before = await add(journal, "before", claim=True)
    with store.stalled():
        adding = [asyncio.create_task(add(journal, f"k{i}")) for i in range(100)]
        settling = asyncio.create_task(journal.settle(before, MessageState.DONE, replies=[answer()]))
        problem = await until_unhealthy(journal)
        assert errors[0] == problem
        # What is committed can be read meanwhile, and nothing half written is to be seen.
        assert [row.key for row in await journal.messages()] == ["before"]
        assert journal.waiting == 101
        assert not any(task.done() for task in (*adding, settling))
    rows = await asyncio.gather(*adding)
    assert await settling is not None
    assert (journal.healthy, journal.waiting) == (True, 0)
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert len(await journal.messages(limit=1000)) == 101


async def test_past_the_bound_new_messages_are_refused_and_settlements_are_not(opened: Opener, store: Store) -> None:
    journal = (await opened(limits=JournalLimits(waiting=50))).journal
    row = await add(journal, "before", claim=True)
    with store.stalled():
        adding = [asyncio.create_task(add(journal, f"k{i}")) for i in range(50)]
        problem = await until_unhealthy(journal)
        with pytest.raises(RegistryError, match=r"journal is full") as caught:
            await add(journal, "one too many")
        assert problem in str(caught.value)
        settling = asyncio.create_task(journal.settle(row, MessageState.DONE, replies=[answer()]))
        await asyncio.sleep(0)
    await asyncio.gather(*adding)
    assert await settling is not None
    await add(journal, "again")


async def test_what_waits_is_bounded_in_bytes_too(opened: Opener, store: Store) -> None:
    journal = (await opened(limits=JournalLimits(waiting_bytes=100_000))).journal
    row = await add(journal, "before", claim=True)
    with store.stalled():
        adding = [asyncio.create_task(add(journal, f"k{i}", content="x" * 20_000)) for i in range(5)]
        await until_unhealthy(journal)
        assert 100_000 < journal.waiting_bytes < 110_000
        with pytest.raises(RegistryError, match=r"journal is full: 5 operations \(10\d,\d\d\d bytes\)"):
            await add(journal, "one too many", content="small")
        # What was taken in is answered and settled all the same; its bytes count.
        huge = NewReply(0, OutboundMessage(role="assistant", content="y" * 50_000, conversation_id="c1"))
        settling = asyncio.create_task(journal.settle(row, MessageState.DONE, replies=[huge], error="z" * 1000))
        await asyncio.sleep(0)
        assert journal.waiting_bytes > 151_000
    await asyncio.gather(*adding)
    assert await settling is not None
    assert journal.waiting_bytes == 0
    await add(journal, "again")
    assert journal.waiting_bytes == 0


async def test_closing_while_the_database_refuses_ends_and_fails_who_waits(registry: Registry, store: Store) -> None:
    with store.stalled():
        adding = [asyncio.create_task(add(registry.journal, f"k{i}")) for i in range(50)]
        problem = await until_unhealthy(registry.journal)
        await registry.close(0.1)
        outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert all(isinstance(outcome, RegistryError) and problem in str(outcome) for outcome in outcomes)
    assert registry.journal.waiting_bytes == 0
    with pytest.raises(RegistryError, match="closed"):
        await add(registry.journal, "late")


async def test_a_cancelled_caller_undoes_nothing_and_its_row_is_right(journal: Journal) -> None:
    row = await add(journal, "before", claim=True)
    tasks = [asyncio.create_task(add(journal, f"k{i}")) for i in range(20)]
    settling = asyncio.create_task(journal.settle(row, MessageState.DONE, replies=[answer()]))
    await asyncio.sleep(0)
    for task in [*tasks[::2], settling]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, settling, return_exceptions=True)
    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 11
    await journal.flush()
    assert row.state is MessageState.DONE
    assert len(await journal.messages()) == 21
    assert len(await journal.unsent(AGENT)) == 1


async def test_a_cancelled_command_is_done_or_not_done_but_never_half(registry: Registry) -> None:
    for round_number in range(20):
        records = [AgentRecord(id=f"a{round_number}-{i}", handler="echo", secret="env:AGENT_A") for i in range(20)]
        task = asyncio.create_task(registry.apply(add=records))
        await asyncio.sleep(0.0005 * (round_number % 4))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    agents = await registry.agents()
    assert len(agents) % 20 == 0


async def test_flushing_waits_for_what_was_asked_before_and_not_for_what_comes_after(journal: Journal) -> None:
    stop = asyncio.Event()

    async def keep_writing(lane: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await add(journal, f"{lane}-{number}")

    lanes = [asyncio.create_task(keep_writing(lane)) for lane in range(20)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        await journal.flush()
        await journal.maintenance.prune(0.0)
        await journal.maintenance.rescue()
    stop.set()
    await asyncio.gather(*lanes)


async def test_a_batch_is_bounded(opened: Opener) -> None:
    journal = (await opened(limits=JournalLimits(batch=200))).journal
    sizes: list[int] = []
    journal.hooks.on_commit = lambda seconds, operations: sizes.append(operations)
    await asyncio.gather(*[add(journal, f"k{i}") for i in range(210)])
    assert sizes == [200, 10]


async def test_a_batch_is_bounded_in_bytes_and_holds_one_operation_at_least(opened: Opener) -> None:
    journal = (await opened(limits=JournalLimits(batch_bytes=10_000))).journal
    sizes: list[int] = []
    contents = ["x" * 50_000, *["y" * 4_000] * 5, "z" * 50_000, "small"]
    journal.hooks.on_commit = lambda seconds, operations: sizes.append(operations)
    rows = await asyncio.gather(*[add(journal, f"k{i}", content=content) for i, content in enumerate(contents)])
    assert sizes == [1, 2, 2, 1, 1, 1]
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert journal.waiting_bytes == 0
