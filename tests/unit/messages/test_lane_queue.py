"""The order of an agent's messages, without anything that runs."""

from __future__ import annotations

import asyncio

from supervisor.messages.lane_queue import LaneQueue
from tests.support.lanes import row


def taken(queue: LaneQueue) -> list[int]:
    """What may start, in turn; each message is over at once."""
    numbers = []
    while queue.ready:
        lane, message = queue.take()
        numbers.append(message.id)
        queue.end(message.conversation_id, lane)
    return numbers


def test_lanes_take_turns_and_each_keeps_its_order() -> None:
    queue = LaneQueue()
    for number, lane in [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "b")]:
        queue.add(row(number, lane))
    assert taken(queue) == [1, 3, 2, 5, 4]


def test_a_message_with_an_old_number_comes_before_later_ones_of_its_lane() -> None:
    queue = LaneQueue()
    for number in (10, 20, 5, 15):
        queue.add(row(number))
    assert taken(queue) == [5, 10, 15, 20]


def test_a_busy_lane_is_not_ready() -> None:
    queue = LaneQueue()
    queue.add(row(1))
    queue.add(row(2))
    lane, _ = queue.take()
    assert not queue.ready
    assert not queue.is_idle("c")
    queue.end("c", lane)
    assert queue.ready


async def test_a_message_between_attempts_comes_before_all_others_of_its_lane() -> None:
    queue = LaneQueue()
    queue.add(row(10))
    lane, first = queue.take()
    async with asyncio.TaskGroup() as tasks:
        queue.postpone(lane, first, tasks.create_task(asyncio.sleep(0)))
    queue.add(row(5))
    assert not queue.ready
    queue.retry(lane)
    assert taken(queue) == [10, 5]


async def test_a_message_between_attempts_can_be_made_due_at_once() -> None:
    queue = LaneQueue()
    assert not queue.retry_now("c")
    queue.add(row(10))
    lane, first = queue.take()
    assert not queue.retry_now("c"), "it runs"
    first.not_before = 1e12
    timer = asyncio.create_task(asyncio.sleep(3600))
    queue.postpone(lane, first, timer)
    assert queue.retry_now("c")
    assert (await asyncio.wait([timer]))[0].pop().cancelled()
    assert not queue.retry_now("c"), "once is enough"
    assert queue.find("c") is lane
    assert (first.not_before, taken(queue)) == (0.0, [10])


def test_an_occupied_lane_lets_others_wait_and_is_gone_when_nothing_does() -> None:
    queue = LaneQueue()
    assert queue.is_idle("c")
    queue.occupy("c")
    assert not queue.is_idle("c")
    queue.add(row(1))
    assert not queue.ready
    queue.end("c", queue.occupied("c"))
    assert taken(queue) == [1]
    assert queue.find("c") is None


def test_the_oldest_is_the_head_of_a_lane() -> None:
    queue = LaneQueue()
    seen = [queue.oldest_at]
    queue.add(row(7, "a"))
    queue.add(row(3, "b"))
    seen.append(queue.oldest_at)
    for _ in range(2):
        queue.take()
        seen.append(queue.oldest_at)
    assert seen == [None, 103.0, 103.0, None], "what runs does not wait"
    queue.clear()
    assert queue.find("a") is None
