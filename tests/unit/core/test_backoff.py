"""Full jitter under a cap, and a rate that no window exceeds."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.core.backoff import Backoff, RateLimit
from tests.support.clock import ManualClock


@given(st.integers(1, 200), st.floats(0.01, 100), st.floats(0.01, 1000))
def test_each_delay_is_drawn_from_zero_to_a_bound_that_doubles_up_to_the_cap(
    failures: int, initial: float, cap: float
) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    backoff = Backoff(initial, cap, uniform=uniform)
    delays = [backoff.next_delay() for _ in range(failures)]
    assert drawn == [(0.0, min(cap, initial * 2.0**n)) for n in range(failures)]
    assert delays == [high for _, high in drawn]


def test_the_cap_comes_before_the_jitter() -> None:
    """A fleet that has failed for long is still spread over the whole interval."""
    backoff = Backoff(1.0, 60.0, uniform=lambda low, high: (low + high) / 2)
    assert [backoff.next_delay() for _ in range(100)][-1] == 30.0


def test_a_reset_starts_over() -> None:
    backoff = Backoff(1.0, 60.0, uniform=lambda _, high: high)
    assert [backoff.next_delay() for _ in range(4)] == [1, 2, 4, 8]
    backoff.reset()
    assert backoff.next_delay() == 1


@settings(deadline=None, max_examples=60)
@given(
    rate=st.floats(0.5, 200),
    burst=st.floats(0, 40),
    arrivals=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 10)), min_size=1, max_size=10),
    cancelled=st.sets(st.integers(0, 100)),
)
def test_no_window_holds_more_than_the_burst_and_the_rate(
    rate: float, burst: float, arrivals: list[tuple[float, int]], cancelled: set[int]
) -> None:
    asyncio.run(_crowd(rate, burst, arrivals, cancelled))


async def _crowd(rate: float, burst: float, arrivals: list[tuple[float, int]], cancelled: set[int]) -> None:
    clock = ManualClock()
    bucket = RateLimit(rate, burst, clock)
    passed: list[tuple[int, float]] = []
    waiting: list[asyncio.Task[None]] = []

    async def wait(number: int) -> None:
        await bucket.acquire()
        passed.append((number, clock.monotonic()))

    for pause, number in arrivals:
        await clock.advance(pause)
        waiting += [asyncio.create_task(wait(len(waiting) + n)) for n in range(number)]
        await clock.settle(2)
        for one in cancelled & set(range(len(waiting))):
            waiting[one].cancel()
    # Everybody who was not cancelled is through once the rate allows it.
    await clock.advance(len(waiting) / rate + 1)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(passed) == sum(not task.cancelled() for task in waiting)
    assert [number for number, _ in passed] == sorted(number for number, _ in passed), "not in order of arrival"
    times = [at for _, at in passed]
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= max(1.0, burst) + (times[last] - times[first]) * rate + 1e-3


@pytest.fixture
def bucket(clock: ManualClock) -> RateLimit:
    """One pass a second."""
    return RateLimit(1.0, 1.0, clock)


async def test_waiters_pass_in_order_of_arrival(bucket: RateLimit, clock: ManualClock) -> None:
    passed: list[tuple[int, float]] = []

    async def wait(number: int) -> None:
        await bucket.acquire()
        passed.append((number, clock.monotonic()))

    tasks = [asyncio.create_task(wait(number)) for number in range(4)]
    await clock.advance(3)
    assert passed == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("leaver", [0, 1], ids=["the one whose turn it is", "one behind it"])
async def test_a_waiter_that_is_cancelled_costs_the_others_nothing(
    bucket: RateLimit, clock: ManualClock, leaver: int
) -> None:
    await bucket.acquire()
    waiting = [asyncio.create_task(bucket.acquire()) for _ in range(3)]
    await clock.advance(0.5)
    waiting[leaver].cancel()
    await clock.advance(0.5)
    assert [task.done() for task in waiting].count(True) == 2, "the pass was lost, or the lock kept"
    await clock.advance(1)
    assert all(task.done() for task in waiting)
    assert waiting[leaver].cancelled()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_waiter_that_is_cancelled_as_it_gets_its_turn_leaves_the_pass(
    bucket: RateLimit, clock: ManualClock
) -> None:
    await bucket.acquire()
    first, second = (asyncio.create_task(bucket.acquire()) for _ in range(2))
    await clock.settle()
    # Its sleep is over, it has not run yet: cancelled in between.
    asyncio.get_running_loop().call_soon(first.cancel)
    await clock.advance(1)
    await asyncio.wait([first, second], timeout=0)
    if first.cancelled():
        assert second.done()
    else:
        await clock.advance(1)
        assert second.done()


async def test_an_idle_bucket_saves_no_more_than_its_burst(clock: ManualClock) -> None:
    bucket = RateLimit(10.0, 3.0, clock)
    await clock.advance(1000)
    tasks = [asyncio.create_task(bucket.acquire()) for _ in range(10)]
    await clock.settle()
    assert sum(task.done() for task in tasks) == 3
    await clock.advance(1)
    await asyncio.gather(*tasks)


async def test_a_rate_that_changes_counts_at_once(bucket: RateLimit, clock: ManualClock) -> None:
    await bucket.acquire()
    bucket.rate = 10.0
    task = asyncio.create_task(bucket.acquire())
    await clock.advance(0.1)
    assert task.done()
    await task


async def test_a_rounding_error_is_no_reason_to_wait(clock: ManualClock) -> None:
    """Time that is added up in thirds does not come out even."""
    await clock.advance(1e5 / 3)
    bucket = RateLimit(3.0, 1.0, clock)
    for _ in range(50):
        task = asyncio.create_task(bucket.acquire())
        await clock.advance(1 / 3 + 1e-9)
        assert task.done()
        await task
