"""Whose turn it is within an agent: order in a lane, lanes side by side, retries in place, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from supervisor.core.records import JournaledMessage
from supervisor.messages.backlog import MEMORY_LIMIT
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.lanes import Lanes
from tests.support.clock import ManualClock
from tests.support.lanes import Desk, beginning, row


@pytest.fixture
async def desk(clock: ManualClock) -> AsyncIterator[Desk]:
    made = Desk(Dispatcher(100), clock)
    yield made
    await made.lanes.close()


async def test_a_lane_runs_one_message_at_a_time_in_order(desk: Desk, clock: ManualClock) -> None:
    desk.concurrency = 5
    for number in range(1, 6):
        desk.put(row(number))
    for number in range(1, 6):
        await clock.settle()
        assert list(desk.running) == [number]
        desk.finish(number)
    await clock.settle()
    assert desk.started == [1, 2, 3, 4, 5]


async def test_lanes_of_an_agent_run_together_up_to_its_concurrency(desk: Desk, clock: ManualClock) -> None:
    desk.concurrency = 2
    for number in range(1, 6):
        desk.put(row(number, f"c{number}"))
    await clock.settle()
    assert list(desk.running) == [1, 2]
    desk.finish(1)
    await clock.settle()
    assert list(desk.running) == [2, 3]


async def test_a_concurrency_that_is_raised_counts_when_lanes_are_resumed(desk: Desk, clock: ManualClock) -> None:
    for number in (1, 2, 3):
        desk.put(row(number, f"c{number}"))
    await clock.settle()
    desk.concurrency = 3
    desk.lanes.resume()
    await clock.settle()
    assert list(desk.running) == [1, 2, 3]


async def test_a_long_lane_does_not_starve_another_lane(desk: Desk, clock: ManualClock) -> None:
    for number in range(1, 51):
        desk.put(row(number, "long"))
    desk.put(row(51, "short"))
    await clock.settle()
    desk.finish(1)
    await clock.settle()
    assert list(desk.running) == [51]


async def test_a_retry_keeps_its_place_and_later_messages_wait(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(1))
    desk.put(row(2))
    desk.put(row(3, "other"))
    await clock.settle()
    desk.finish(1, again_at=clock.now() + 30)
    await clock.settle()
    assert list(desk.running) == [3]
    desk.finish(3)
    await clock.advance(29)
    assert not desk.running
    await clock.advance(1)
    assert list(desk.running) == [1]
    desk.finish(1)
    await clock.settle()
    assert desk.started == [1, 3, 1, 2]


async def test_a_retry_can_be_made_due_at_once(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(1))
    desk.put(row(2))
    await clock.settle()
    assert desk.lanes.between_attempts("c") is None
    desk.finish(1, again_at=clock.now() + 30)
    await clock.settle()
    waits = desk.lanes.between_attempts("c")
    assert waits is not None
    assert waits.id == 1
    desk.lanes.retry_now("c")
    await clock.settle()
    assert list(desk.running) == [1]
    assert desk.lanes.between_attempts("c") is None
    desk.lanes.retry_now("c")
    await desk.run_all()
    assert desk.started == [1, 1, 2]
    await clock.advance(60)
    assert desk.started == [1, 1, 2], "the timer of the attempt that came earlier is gone"


async def test_a_retry_that_is_due_and_has_no_place_yet_is_still_between_attempts(
    desk: Desk, clock: ManualClock
) -> None:
    desk.put(row(1))
    await clock.settle()
    desk.finish(1, again_at=clock.now() + 30)
    await clock.settle()
    desk.lanes.pause()
    await clock.advance(30)
    waits = desk.lanes.between_attempts("c")
    assert waits is not None
    assert waits.id == 1
    assert desk.lanes.oldest_at == 101.0


async def test_paused_lanes_start_nothing_and_go_on_when_they_are_resumed(clock: ManualClock) -> None:
    desk = Desk(Dispatcher(10), clock, paused=True)
    desk.put(row(1))
    await clock.settle()
    assert not desk.running
    desk.lanes.resume()
    desk.lanes.pause()
    desk.put(row(2, "other"))
    await clock.settle()
    assert list(desk.running) == [1]
    assert desk.lanes.oldest_at == 102.0
    await desk.lanes.close()


async def test_a_reserved_message_runs_at_once(desk: Desk, clock: ManualClock) -> None:
    assert desk.lanes.reserve("c")
    assert not desk.lanes.reserve("c"), "the lane is taken"
    assert not desk.lanes.reserve("other"), "the agent's one place is taken"
    desk.journal[1] = row(1)
    desk.lanes.run_reserved(desk.journal[1])
    desk.put(row(2))
    await clock.settle()
    assert list(desk.running) == [1]
    desk.finish(1)
    await clock.settle()
    assert list(desk.running) == [2]


async def test_a_replayed_message_comes_before_those_that_came_after_it(desk: Desk, clock: ManualClock) -> None:
    for number in (10, 20, 30, 31):
        desk.put(row(number))
    await clock.settle()
    for number in (25, 5, 40):
        desk.put(row(number))
    await clock.settle()
    await desk.run_all()
    assert desk.started == [10, 5, 20, 25, 30, 31, 40]


async def test_a_message_between_two_attempts_stays_before_one_that_is_replayed(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(10))
    desk.put(row(11))
    await clock.settle()
    desk.finish(10, again_at=clock.now() + 30)
    await clock.settle()
    desk.put(row(5))
    desk.put(row(6, "other"))
    await clock.settle()
    # The agent's one place is taken when the attempt is due: it waits, and is still the first.
    assert list(desk.running) == [6]
    await clock.advance(30)
    desk.put(row(4))
    assert not desk.lanes.reserve("c")
    desk.finish(6)
    await clock.settle()
    await desk.run_all()
    assert desk.started == [10, 6, 10, 4, 5, 11]


async def test_a_replayed_message_that_was_left_in_the_journal_comes_before_those_in_memory(
    desk: Desk, clock: ManualClock
) -> None:
    desk.put(row(5))
    await clock.settle()
    await desk.run_all()
    last = MEMORY_LIMIT + 100
    for number in range(10, last):
        desk.put(row(number))
    desk.put(row(5))
    await clock.settle()
    await desk.run_all()
    replayed = desk.started.index(5, 1)
    assert replayed < MEMORY_LIMIT
    del desk.started[replayed]
    assert desk.started == [5, *range(10, last)]


async def test_drain_waits_for_what_runs_and_starts_nothing(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(1))
    desk.put(row(2))
    await clock.settle()
    draining = asyncio.create_task(desk.lanes.drain(60))
    await clock.settle()
    assert not draining.done()
    desk.finish(1)
    assert await draining
    assert desk.started == [1]


async def test_drain_says_when_time_was_not_enough(desk: Desk, clock: ManualClock) -> None:
    desk.put(row(1))
    await clock.settle()
    assert not await desk.lanes.drain(0.01)


async def test_a_drain_does_not_wait_for_a_refill(desk: Desk, clock: ManualClock) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    desk.at_read = never
    desk.lanes.restore()
    await clock.settle()
    assert desk.reads == 1
    assert await desk.lanes.drain(0.01)


async def test_close_cancels_everything_and_restore_begins_anew(clock: ManualClock) -> None:
    dispatcher = Dispatcher(10)
    desk = Desk(dispatcher, clock, concurrency=2)
    desk.put(row(1, "retried"))
    desk.put(row(2, "running"))
    desk.put(row(3, "running"))
    await clock.settle()
    desk.finish(1, again_at=clock.now() + 5)
    await clock.settle()
    await desk.lanes.close()
    assert desk.cancelled == [2]
    assert (dispatcher.running, desk.lanes.running, desk.lanes.oldest_at) == (0, 0, None)
    await clock.advance(10)
    assert not desk.running, "a timer survived"
    desk.started.clear()
    desk.lanes.restore()
    desk.lanes.resume()
    await clock.settle()
    await desk.run_all()
    assert sorted(desk.started) == [1, 2, 3]
    assert not desk.journal


async def test_a_message_that_was_just_started_keeps_no_place_when_the_lanes_close(clock: ManualClock) -> None:
    dispatcher = Dispatcher(10)
    desk = Desk(dispatcher, clock)
    desk.put(row(1))
    await desk.lanes.close()
    assert desk.lanes.running == 0
    assert (dispatcher.running, desk.lanes.running) == (0, 0)


async def test_a_close_that_is_cancelled_leaves_nothing_running(clock: ManualClock) -> None:
    """A second signal cuts the drain short in whatever moment."""
    desk = Desk(Dispatcher(10), clock)
    desk.put(row(1))
    await clock.settle()
    closing = asyncio.create_task(desk.lanes.close())
    # Up to its own first wait, and one turn on: what runs has been told to end.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await clock.settle()
    assert desk.cancelled == [1]


async def test_close_leaves_no_refill_behind(clock: ManualClock) -> None:
    desk = Desk(Dispatcher(10), clock)
    for number in range(1, MEMORY_LIMIT + 10):
        desk.put(row(number))
    await clock.settle()
    await desk.lanes.close()
    await clock.settle()
    assert desk.reads == 0
    assert desk.lanes.oldest_at is None


async def test_a_work_that_raises_costs_neither_its_lane_nor_its_place(clock: ManualClock) -> None:
    dispatcher = Dispatcher(1)
    ran: list[int] = []

    async def work(message: JournaledMessage) -> float | None:
        ran.append(message.id)
        raise OSError("a defect")

    async def nothing(after_id: int, limit: int) -> list[JournaledMessage]:
        return []

    with structlog.testing.capture_logs() as log:
        lanes = Lanes(dispatcher, clock, concurrency=lambda: 1, begin=beginning(work), refill=nothing)
        lanes.resume()
        lanes.put(row(1))
        lanes.put(row(2))
        await clock.settle()
    assert ran == [1, 2]
    assert dispatcher.running == 0
    assert [entry["event"] for entry in log] == ["work_failed"] * 2
    await lanes.close()
