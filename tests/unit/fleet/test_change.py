"""Waiting for a change beside other things."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.fleet.change import Change, Changed
from tests.support.clock import ManualClock


@pytest.fixture
def change(clock: ManualClock) -> Change:
    return Change(clock)


async def forever() -> None:
    await asyncio.Event().wait()


async def test_work_that_ends_first_is_returned(change: Change) -> None:
    async def work() -> int:
        return 7

    assert await change.unless(work()) == 7


async def test_work_that_fails_fails(change: Change) -> None:
    async def work() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await change.unless(work())


async def test_a_change_drops_the_work(change: Change) -> None:
    dropped = asyncio.Event()

    async def work() -> None:
        try:
            await forever()
        finally:
            dropped.set()

    waiting = asyncio.ensure_future(change.unless(work()))
    await asyncio.sleep(0)
    change.set()
    with pytest.raises(Changed):
        await waiting
    assert dropped.is_set()


async def test_a_change_that_was_looked_at_is_over(change: Change) -> None:
    change.set()
    await change.wait()
    change.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await change.wait()


async def test_the_first_of_several_events_ends_the_wait_and_none_is_cancelled(change: Change) -> None:
    slow = asyncio.ensure_future(forever())
    quick: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(change.or_first_of(slow, quick))
    await asyncio.sleep(0)
    assert not waiting.done()
    quick.set_result(None)
    await waiting
    assert not slow.done()
    slow.cancel()


async def test_a_wait_ends_with_its_time(change: Change, clock: ManualClock) -> None:
    slow = asyncio.ensure_future(forever())
    waiting = asyncio.ensure_future(change.or_first_of(slow, within=2))
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()
    slow.cancel()
