"""Who waits for a flag is woken when it is set, whoever else has stopped waiting; a flag takes little room."""

from __future__ import annotations

import asyncio
import tracemalloc

from supervisor.core.flags import Flag


async def test_all_who_wait_are_woken_and_nobody_waits_for_one_that_is_set() -> None:
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    assert not flag.is_set()
    flag.set()
    await asyncio.gather(*waiting)
    await flag.wait()
    assert flag.is_set()
    assert flag.waiter().done()


async def test_one_that_is_cleared_is_waited_for_again() -> None:
    flag = Flag()
    flag.set()
    flag.clear()
    waiting = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    flag.set()
    flag.clear()
    await waiting
    assert not flag.is_set()


async def test_who_is_cancelled_keeps_nobody_from_being_woken() -> None:
    flag = Flag()
    first, second = asyncio.create_task(flag.wait()), asyncio.create_task(flag.wait())
    await asyncio.sleep(0)
    first.cancel()
    flag.set()
    await second
    await asyncio.wait([first])
    assert first.cancelled()


async def test_those_who_have_stopped_waiting_leave_nothing() -> None:
    flag = Flag()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            flag.waiter().cancel()
        assert tracemalloc.get_traced_memory()[0] - before < 2_000
    finally:
        tracemalloc.stop()


async def test_it_is_a_fraction_of_asyncios() -> None:
    def size_of(make: type[Flag] | type[asyncio.Event]) -> int:
        tracemalloc.start()
        made = [make() for _ in range(1000)]
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(made) == 1000
        return size // 1000

    assert size_of(Flag) * 4 < size_of(asyncio.Event)
