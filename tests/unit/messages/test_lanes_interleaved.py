"""Whatever happens in whatever order: each message runs once, in the order of its lane, within all limits."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.messages.dispatcher import Dispatcher
from tests.support.clock import ManualClock
from tests.support.lanes import Desk, row


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 5, 20, 10**6]))
def test_in_any_interleaving_each_message_runs_once_in_its_lanes_order(
    seed: int, limit: int, concurrency: int, memory_bytes: int
) -> None:
    asyncio.run(_interleave(random.Random(seed), limit, concurrency, memory_bytes))


async def _interleave(chance: random.Random, limit: int, concurrency: int, memory_bytes: int) -> None:
    clock = ManualClock()
    dispatcher = Dispatcher(limit, memory_bytes=memory_bytes)
    desks = [Desk(dispatcher, clock, concurrency=concurrency) for _ in range(2)]
    lane_of: dict[tuple[int, int], str] = {}
    numbers = [0, 0]
    for _ in range(60):
        which = chance.randrange(2)
        desk = desks[which]
        match chance.randrange(6):
            case 0 | 1:
                numbers[which] += 1
                number, lane = numbers[which], f"c{chance.randrange(3)}"
                lane_of[which, number] = lane
                if desk.lanes.reserve(lane):
                    desk.journal[number] = row(number, lane)
                    desk.lanes.run_reserved(desk.journal[number])
                else:
                    desk.put(row(number, lane))
            case 2:
                lane = f"c{chance.randrange(3)}"
                if desk.lanes.reserve(lane):
                    desk.lanes.cancel_reserved(lane)
            case 3 if desk.running:
                number = chance.choice(list(desk.running))
                if not desk.running[number].done():
                    desk.finish(number, chance.choice([None, None, clock.now() + chance.random()]))
            case 4:
                (desk.lanes.pause if chance.random() < 0.3 else desk.lanes.resume)()
            case _:
                await clock.advance(chance.random())
        assert dispatcher.running <= limit
        assert all(len(one.running) <= concurrency for one in desks)
        await clock.settle(chance.randrange(4))
    for desk in desks:
        desk.lanes.resume()
    for _ in range(100):
        await clock.advance(1)
        for desk in desks:
            await desk.run_all()
    assert dispatcher.running == 0
    for which, desk in enumerate(desks):
        assert not desk.journal
        by_lane = defaultdict(list)
        for number in desk.started:
            by_lane[lane_of[which, number]].append(number)
        for order in by_lane.values():
            # A retried message appears again, but never after a later one of its lane.
            assert order == sorted(order)
        await desk.lanes.close()
    assert dispatcher.memory.free_bytes == memory_bytes
