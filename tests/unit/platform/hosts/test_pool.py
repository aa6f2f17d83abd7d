"""The bound on bursts: at most so many at once, and nothing left behind whatever happens to caller, job or pool."""

from __future__ import annotations

import asyncio
import random

import pytest

from supervisor.platform.hosts.pool import BoundedPool, PoolClosedError
from tests.support.gateway import eventually


class Work:
    """A job that runs until it is let go, and knows how often it ran and how it ended."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.running = 0
        self.most = 0
        self.started = 0
        self.cancelled = 0

    async def __call__(self) -> str:
        self.started += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return "done"


async def test_at_most_size_jobs_run_and_the_others_wait_their_turn() -> None:
    pool, work = BoundedPool(3, "test"), Work()
    callers = [asyncio.create_task(pool.run(work, timeout=10)) for _ in range(10)]
    await eventually(lambda: work.running == 3)
    assert (pool.active, pool.waiting) == (3, 7)
    work.gate.set()
    assert await asyncio.gather(*callers) == ["done"] * 10
    assert (work.most, work.started) == (3, 10)
    assert (pool.active, pool.waiting) == (0, 0)


async def test_callers_pass_in_order_of_arrival() -> None:
    pool = BoundedPool(1, "test")
    order: list[int] = []

    async def job(number: int) -> None:
        order.append(number)
        await asyncio.sleep(0)

    await asyncio.gather(*(pool.run(lambda n=n: job(n), timeout=5) for n in range(20)))  # type: ignore[misc]
    assert order == list(range(20))


async def test_an_exception_of_the_job_reaches_its_caller_and_frees_the_place() -> None:
    pool = BoundedPool(1, "test")

    async def fail() -> None:
        raise KeyError("reason")

    for _ in range(3):
        with pytest.raises(KeyError, match="reason"):
            await pool.run(fail, timeout=5)
    assert pool.active == 0


async def test_an_exception_in_making_the_awaitable_reaches_the_caller_too() -> None:
    pool = BoundedPool(1, "test")

    def broken() -> asyncio.Future[None]:
        raise LookupError

    with pytest.raises(LookupError):
        await pool.run(broken, timeout=5)
    assert await pool.run(lambda: asyncio.sleep(0, "next"), timeout=5) == "next"


async def test_the_time_out_cancels_the_job_and_does_not_count_the_wait_for_a_place() -> None:
    pool, work = BoundedPool(1, "test"), Work()
    first = asyncio.create_task(pool.run(work, timeout=0.3))
    await eventually(lambda: work.running == 1)
    second = asyncio.create_task(pool.run(lambda: asyncio.sleep(0.1, "second"), timeout=0.25))
    with pytest.raises(TimeoutError):
        await first
    assert (work.cancelled, work.running) == (1, 0)
    assert await second == "second"


async def test_cancelling_a_caller_ends_its_job_before_the_cancellation_goes_on() -> None:
    pool, work = BoundedPool(1, "test"), Work()
    caller = asyncio.create_task(pool.run(work, timeout=10))
    await eventually(lambda: work.running == 1)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (work.cancelled, work.running, pool.active) == (1, 0, 0)
    assert await pool.run(lambda: asyncio.sleep(0, "next"), timeout=1) == "next"


async def test_a_caller_cancelled_while_it_waits_never_starts_its_job() -> None:
    pool, work = BoundedPool(1, "test"), Work()
    holder = asyncio.create_task(pool.run(work, timeout=10))
    await eventually(lambda: work.running == 1)
    waiter = asyncio.create_task(pool.run(work, timeout=10))
    await eventually(lambda: pool.waiting == 1)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert pool.waiting == 0
    work.gate.set()
    assert await holder == "done"
    assert work.started == 1


async def test_a_caller_cancelled_before_anything_ran_leaves_a_pool_that_closes() -> None:
    """asyncio-pool's own cancel() right after spawn_n makes join() hang for ever."""
    pool, work = BoundedPool(1, "test"), Work()
    caller = asyncio.create_task(pool.run(work, timeout=10))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    async with asyncio.timeout(1):
        await pool.close(0.5)
    assert work.started == 0


async def test_a_job_that_takes_its_time_over_a_cancellation_keeps_its_place_until_it_is_over() -> None:
    pool = BoundedPool(1, "test")
    begun, unwinding, finish = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            unwinding.set()
            await asyncio.shield(finish.wait())

    caller = asyncio.create_task(pool.run(slow, timeout=10))
    await begun.wait()
    caller.cancel()
    await unwinding.wait()
    assert pool.active == 1
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert pool.active == 0


async def test_a_caller_cancelled_again_and_again_still_waits_for_its_job() -> None:
    pool = BoundedPool(1, "test")
    begun, finish = asyncio.Event(), asyncio.Event()
    told = 0

    async def stubborn() -> None:
        nonlocal told
        begun.set()
        while not finish.is_set():
            try:
                await finish.wait()
            except asyncio.CancelledError:
                told += 1

    caller = asyncio.create_task(pool.run(stubborn, timeout=10))
    await begun.wait()
    for times in range(1, 4):
        caller.cancel()
        await eventually(lambda times=times: told == times)  # type: ignore[misc]
        assert not caller.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert pool.active == 0


async def test_closing_lets_running_jobs_end_and_turns_the_waiting_away() -> None:
    pool, work = BoundedPool(1, "test"), Work()
    running = asyncio.create_task(pool.run(work, timeout=10))
    await eventually(lambda: work.running == 1)
    waiting = asyncio.create_task(pool.run(work, timeout=10))
    await eventually(lambda: pool.waiting == 1)
    closing = asyncio.create_task(pool.close(5))
    with pytest.raises(PoolClosedError):
        await waiting
    assert not closing.done()
    work.gate.set()
    assert await running == "done"
    await closing
    with pytest.raises(PoolClosedError):
        await pool.run(work, timeout=1)
    assert work.started == 1


async def test_closing_cancels_what_does_not_end_in_time() -> None:
    pool, work = BoundedPool(2, "test"), Work()
    callers = [asyncio.create_task(pool.run(work, timeout=60)) for _ in range(2)]
    await eventually(lambda: work.running == 2)
    async with asyncio.timeout(2):
        await pool.close(0.05)
    assert work.cancelled == 2
    for caller in callers:
        with pytest.raises(asyncio.CancelledError):
            await caller


async def test_closing_does_not_wait_for_ever_for_a_job_that_swallows_its_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = BoundedPool(1, "stubborn")
    begun, finish = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        begun.set()
        while not finish.is_set():
            try:
                await finish.wait()
            except asyncio.CancelledError:
                continue
        return "at last"

    caller = asyncio.create_task(pool.run(stubborn, timeout=60))
    await begun.wait()
    async with asyncio.timeout(5):
        await pool.close(0.05)
    assert "stubborn: 1 jobs do not end" in caplog.text
    finish.set()
    assert await caller == "at last"


async def test_a_pool_that_was_never_used_closes() -> None:
    await BoundedPool(1, "test").close(1)


async def test_random_cancellations_lose_no_place_and_leave_no_task() -> None:
    pool, randomness = BoundedPool(4, "test"), random.Random(7)
    before = asyncio.all_tasks()
    finished = 0

    async def job() -> None:
        for _ in range(randomness.randrange(4)):
            await asyncio.sleep(0)

    for _ in range(300):
        callers = [asyncio.create_task(pool.run(job, timeout=5)) for _ in range(randomness.randrange(1, 12))]
        for _ in range(randomness.randrange(10)):
            await asyncio.sleep(0)
        for caller in randomness.sample(callers, randomness.randrange(len(callers) + 1)):
            caller.cancel()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        finished += sum(outcome is None for outcome in outcomes)
    assert finished > 300
    work = Work()
    holders = [asyncio.create_task(pool.run(work, timeout=5)) for _ in range(4)]
    await eventually(lambda: work.running == 4)
    work.gate.set()
    await asyncio.gather(*holders)
    await pool.close(1)
    await eventually(lambda: asyncio.all_tasks() == before)
