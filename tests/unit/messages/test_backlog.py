"""What does not fit into memory is read from the journal: in order, once, and nothing is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from supervisor.messages.backlog import MEMORY_LIMIT
from supervisor.messages.dispatcher import Dispatcher
from tests.support.clock import ManualClock
from tests.support.lanes import Desk, row


@pytest.fixture
async def desk(clock: ManualClock) -> AsyncIterator[Desk]:
    made = Desk(Dispatcher(100), clock)
    yield made
    await made.lanes.close()


async def test_what_does_not_fit_is_read_again_in_order_and_once(desk: Desk, clock: ManualClock) -> None:
    total = MEMORY_LIMIT * 2 + 123
    for number in range(1, total + 1):
        desk.put(row(number))
    await clock.settle()
    assert desk.reads == 0
    await desk.run_all()
    assert desk.started == list(range(1, total + 1))
    assert desk.most == 1


async def test_messages_that_come_while_a_refill_reads_are_neither_lost_nor_doubled(
    desk: Desk, clock: ManualClock
) -> None:
    numbers = iter(range(MEMORY_LIMIT + 200, MEMORY_LIMIT + 230))

    async def arrive() -> None:
        """One comes after the snapshot, and what runs goes on meanwhile."""
        if (number := next(numbers, None)) is not None:
            desk.put(row(number))
        for done in list(desk.running.values()):
            done.set_result(None)
        await clock.settle(5)

    for number in range(1, MEMORY_LIMIT + 101):
        desk.put(row(number))
    desk.at_read = arrive
    await clock.settle()
    await desk.run_all()
    assert desk.started == [*range(1, MEMORY_LIMIT + 101), *range(MEMORY_LIMIT + 200, MEMORY_LIMIT + 230)]
    assert not desk.journal


async def test_a_message_that_a_refill_read_before_it_was_put_runs_once(desk: Desk, clock: ManualClock) -> None:
    """Another thread may see a commit before the event loop does."""
    desk.journal[1] = row(1)
    desk.lanes.restore()
    await clock.settle()
    desk.lanes.put(row(1))
    await desk.run_all()
    assert desk.started == [1]


async def test_a_reserved_message_does_not_hide_those_left_in_the_journal(desk: Desk, clock: ManualClock) -> None:
    """It was reserved before memory was full, and its number is higher than those of messages that were left."""
    desk.concurrency = 2
    desk.put(row(1, "busy"))
    await clock.settle()
    assert desk.lanes.reserve("reserved")
    for number in range(2, MEMORY_LIMIT + 50):
        desk.put(row(number, "busy"))
    last = MEMORY_LIMIT + 50
    desk.journal[last] = row(last, "reserved")
    desk.lanes.run_reserved(desk.journal[last])
    await clock.settle()
    await desk.run_all()
    assert sorted(desk.started) == list(range(1, last + 1))


async def test_a_reserved_message_that_starts_while_a_refill_reads_hides_nothing(
    desk: Desk, clock: ManualClock
) -> None:
    last = MEMORY_LIMIT * 3
    desk.concurrency = 2
    desk.put(row(1, "busy"))
    await clock.settle()
    assert desk.lanes.reserve("reserved")
    for number in range(2, last):
        desk.put(row(number, "busy"))

    async def start() -> None:
        desk.at_read = None
        desk.journal[last] = row(last, "reserved")
        desk.lanes.run_reserved(desk.journal[last])

    desk.at_read = start
    await desk.run_all()
    assert sorted(desk.started) == list(range(1, last + 1))


async def test_an_old_message_that_is_replayed_into_a_full_memory_runs(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(5))
    await clock.settle()
    await desk.run_all()
    for number in range(10, MEMORY_LIMIT + 100):
        desk.put(row(number))
    desk.put(row(5))
    await clock.settle()

    async def go_on() -> None:
        """Messages that the refill reads again, because they are in memory, end before it is through."""
        for _ in range(5):
            for done in list(desk.running.values()):
                done.set_result(None)
            await clock.settle(5)

    desk.at_read = go_on
    await desk.run_all()
    assert sorted(desk.started) == [5, 5, *range(10, MEMORY_LIMIT + 100)]


async def test_a_retry_is_not_read_again_while_it_waits_in_memory(desk: Desk, clock: ManualClock) -> None:
    desk.concurrency = 2
    desk.put(row(1, "retried"))
    await clock.settle()
    desk.finish(1, again_at=clock.now() + 60)
    for number in range(2, MEMORY_LIMIT + 100):
        desk.put(row(number))
    desk.put(row(1, "replayed"))
    await clock.settle()
    await desk.run_all()
    assert desk.started == list(range(1, MEMORY_LIMIT + 100))
    await clock.advance(60)
    assert list(desk.running) == [1]


async def test_restore_takes_up_what_an_earlier_run_left(desk: Desk, clock: ManualClock) -> None:
    desk.journal = {number: row(number, f"c{number % 7}") for number in range(1, MEMORY_LIMIT + 1)}
    desk.concurrency = 3
    desk.lanes.restore()
    await clock.settle()
    await desk.run_all()
    assert sorted(desk.started) == list(range(1, MEMORY_LIMIT + 1))
    assert desk.most == 3


async def test_a_journal_that_cannot_be_read_is_asked_again(desk: Desk, clock: ManualClock) -> None:
    desk.journal[1] = row(1)
    desk.read_errors = [OSError("database is locked"), OSError("database is locked")]
    desk.lanes.restore()
    await clock.settle()
    assert not desk.running
    await clock.advance(5)
    assert list(desk.running) == [1]
