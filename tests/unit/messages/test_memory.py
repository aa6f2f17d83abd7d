"""One bound in bytes for the messages of all agents."""

from __future__ import annotations

import asyncio

from tests.support.clock import ManualClock
from tests.support.lanes import desks, row

KILO = 1000


async def test_many_agents_with_many_large_messages_stay_within_the_bound_and_all_run_in_order(
    clock: ManualClock,
) -> None:
    agents, messages, size = 50, 40, 100 * KILO
    bound = 20 * 1000 * KILO
    dispatcher, fleet = desks(clock, agents, bound)
    most = 0
    for number in range(1, messages + 1):
        for one in fleet:
            one.put(row(number, size=size))
            most = max(most, dispatcher.memory.used_bytes)
    await clock.settle()
    assert sum(one.reads for one in fleet) <= agents, "those that wait for room do not keep reading"
    rounds = 0
    while any(one.running for one in fleet):
        for one in fleet:
            for done in one.running.values():
                if not done.done():
                    done.set_result(None)
        await clock.settle(6)
        most = max(most, dispatcher.memory.used_bytes)
        rounds += 1
    assert most <= bound + agents * size, "one message an agent may be in memory whatever the bound"
    assert all(one.started == list(range(1, messages + 1)) for one in fleet)
    assert dispatcher.memory.used_bytes == 0
    assert rounds < 20 * messages
    reads = sum(one.reads for one in fleet)
    assert reads <= agents * messages + 2 * agents, f"{reads} reads of the journal"


async def test_one_message_of_an_agent_may_be_in_memory_whatever_the_others_have(clock: ManualClock) -> None:
    dispatcher, (modest, *greedy) = desks(clock, 6, 10 * KILO)
    for number in range(1, 30):
        for one in greedy:
            one.put(row(number, size=KILO))
    await clock.settle()
    assert dispatcher.memory.used_bytes == 10 * KILO
    modest.put(row(1, size=KILO))
    await clock.settle()
    assert list(modest.running) == [1], "the others' messages do not keep it from starting"
    modest.put(row(2, size=KILO))
    await clock.settle()
    modest.finish(1)
    await clock.settle()
    assert list(modest.running) == [2], "read from the journal though there is no room"
    for one in (modest, *greedy):
        await one.run_all()
    assert all(one.started == list(range(1, 30)) for one in greedy)
    for one in (modest, *greedy):
        await one.lanes.close()
    assert dispatcher.memory.used_bytes == 0


async def test_one_agent_cannot_take_all_the_room(clock: ManualClock) -> None:
    """One agent is slow and has a thousand large messages: the other's stay in memory all the same."""
    bound = 100_000 * KILO
    dispatcher, (slow, other) = desks(clock, 2, bound)
    for number in range(1, 1000):
        slow.put(row(number, size=200 * KILO))
    await clock.settle()
    assert bound / 5 < dispatcher.memory.used_bytes <= bound / 4
    for number in range(1, 100):
        other.put(row(number, size=200 * KILO))
    await clock.settle()
    await other.run_all()
    assert other.started == list(range(1, 100))
    assert other.reads == 0
    await slow.run_all()
    assert slow.started == list(range(1, 1000))


async def test_a_message_larger_than_the_bound_runs(clock: ManualClock) -> None:
    _, (one,) = desks(clock, 1, KILO)
    for number in range(1, 4):
        one.put(row(number, size=5 * KILO))
    await clock.settle()
    await one.run_all()
    assert one.started == [1, 2, 3]


async def test_room_that_lanes_leave_when_they_close_is_offered_to_those_who_wait(clock: ManualClock) -> None:
    dispatcher, (waiter, *holders) = desks(clock, 5, 10_000 * KILO, concurrency=4)
    for holder in holders:
        holder.lanes.pause()
        for number in range(1, 26):
            holder.put(row(number, size=100 * KILO))
    for number in range(1, 5):
        waiter.put(row(number, f"c{number}", size=200 * KILO))
    await clock.settle()
    assert list(waiter.running) == [1]
    for holder in holders:
        await holder.lanes.close()
    await clock.settle()
    assert sorted(waiter.running) == [1, 2, 3, 4]
    await waiter.lanes.close()
    assert dispatcher.memory.used_bytes == 0


async def test_lanes_that_close_while_they_read_give_their_room_back(clock: ManualClock) -> None:
    dispatcher, (reader, other) = desks(clock, 2, 10 * KILO)

    async def never() -> None:
        await asyncio.Event().wait()

    reader.at_read = never
    reader.lanes.restore()
    await clock.settle()
    await reader.lanes.close()
    assert dispatcher.memory.free_bytes == 10 * KILO
    await other.lanes.close()
