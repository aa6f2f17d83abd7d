"""A burst leaves the event loop to others in between, and several bursts share what one may take."""

from __future__ import annotations

import asyncio
import time

from supervisor.core.turns import Turns

SLICE = 0.01


def work(seconds: float) -> None:
    """Hold the thread for so long."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def longest_round(*bursts: asyncio.Task[None]) -> float:
    """The most seconds of this thread's work in one round of the loop while the bursts last."""
    longest = 0.0
    while not all(burst.done() for burst in bursts):
        began = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - began)
    return longest


async def burst(turns: Turns, items: int, seconds: float = 0.001) -> None:
    async for _ in turns.each(range(items)):
        work(seconds)


async def test_a_burst_holds_the_loop_for_a_slice_and_no_longer() -> None:
    task = asyncio.create_task(burst(Turns(SLICE), 100))
    # One item is begun before the slice is over.
    assert 0.5 * SLICE < await longest_round(task) < 2.5 * SLICE


async def test_twenty_bursts_share_the_slice_of_one() -> None:
    turns = Turns(SLICE)
    tasks = [asyncio.create_task(burst(turns, 20)) for _ in range(20)]
    # The first round begins an item of each before any has been heard of.
    assert await longest_round(*tasks) < 20 * 0.001 + 2.5 * SLICE


async def test_bursts_take_turns() -> None:
    turns, done = Turns(0.002), []

    async def named(name: str) -> None:
        async for _ in turns.each(range(10)):
            work(0.001)
            done.append(name)

    await asyncio.gather(*(named(name) for name in "abc"))
    firsts = [done.index(name) for name in "abc"]
    lasts = [len(done) - 1 - done[::-1].index(name) for name in "abc"]
    assert max(firsts) < min(lasts), "each of them gets on before any is through"


async def test_what_is_short_is_not_held_up() -> None:
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    before = rounds
    async for _ in Turns(10.0).each(range(1000)):
        pass
    assert rounds == before
    counting.cancel()


async def test_who_is_cancelled_while_waiting_holds_up_nobody() -> None:
    turns = Turns(0.0)
    first, second = (asyncio.create_task(burst(turns, 3, 0.0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(5):
        await second
    assert first.cancelled()


async def test_what_was_done_before_in_a_round_counts() -> None:
    turns, others = Turns(SLICE), list[str]()
    await turns.give_way()
    work(2 * SLICE)
    asyncio.get_running_loop().call_soon(others.append, "had a turn")
    await turns.give_way()
    assert others


async def test_rounds_are_followed_only_while_there_are_bursts() -> None:
    async for _ in Turns().each(range(10)):
        pass
    await asyncio.sleep(0.01)
    began = time.thread_time()
    await asyncio.sleep(0.1)
    assert time.thread_time() - began < 0.05, "a loop that has nothing to do sleeps"
