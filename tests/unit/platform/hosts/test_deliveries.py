"""What waits for a host goes out soon after the host takes sends again, and no faster than the host bears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from supervisor.platform.hosts.deliveries import OTHERS_TAKEN, PROBE_SECONDS, WAKE_RATE, WAKE_SECONDS, Deliveries
from tests.support.clock import ManualClock

HOST, OTHER = "one.example", "two.example"


class Waiting:
    """Replies that wait for a host, and in which order they were woken, with the time."""

    def __init__(self, deliveries: Deliveries, clock: ManualClock) -> None:
        self.deliveries = deliveries
        self.clock = clock
        self.woken: list[tuple[str, float]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def fail(self, *names: str, host: str = HOST, seconds: float = 600.0) -> None:
        for name in names:
            self.deliveries.failed(host, name, None)
            self.tasks.append(asyncio.create_task(self._wait(name, host, seconds)))
            await asyncio.sleep(0)

    async def _wait(self, name: str, host: str, seconds: float) -> None:
        await self.deliveries.wait(host, seconds)
        self.woken.append((name, self.clock.monotonic()))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.woken]


@pytest.fixture
async def waiting(clock: ManualClock) -> AsyncIterator[Waiting]:
    made = Waiting(Deliveries(clock), clock)
    yield made
    await made.deliveries.close()
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)


async def test_one_acknowledgement_wakes_all_that_wait_for_that_host(waiting: Waiting, clock: ManualClock) -> None:
    await waiting.fail("a", "b", "c")
    await waiting.fail("elsewhere", host=OTHER)
    await clock.advance(WAKE_SECONDS)
    waiting.deliveries.acked(HOST)
    await clock.advance(3 / WAKE_RATE)
    assert waiting.names == ["a", "b", "c"]
    assert waiting.deliveries.waiting(HOST) == 0
    assert waiting.deliveries.waiting(OTHER) == 1


async def test_they_are_woken_one_after_the_other(waiting: Waiting, clock: ManualClock) -> None:
    names = [f"c{number}" for number in range(200)]
    await waiting.fail(*names)
    await clock.advance(WAKE_SECONDS)
    began = clock.monotonic()
    waiting.deliveries.acked(HOST)
    await clock.advance(1.0)
    assert WAKE_RATE - 1 <= len(waiting.woken) <= WAKE_RATE + 1
    await clock.advance(10.0)
    assert waiting.names == names
    assert waiting.woken[-1][1] - began == pytest.approx(len(names) / WAKE_RATE, abs=0.1)


async def test_what_failed_a_moment_ago_is_left_alone_for_a_moment(waiting: Waiting, clock: ManualClock) -> None:
    await waiting.fail("a")
    waiting.deliveries.acked(HOST)
    await clock.advance(WAKE_SECONDS * 0.9)
    assert waiting.names == []
    await clock.advance(WAKE_SECONDS * 0.2)
    assert waiting.names == ["a"]


async def test_a_host_that_fails_again_is_left_alone(waiting: Waiting, clock: ManualClock) -> None:
    await waiting.fail(*(f"c{number}" for number in range(100)))
    await clock.advance(WAKE_SECONDS)
    waiting.deliveries.acked(HOST)
    await clock.advance(0.5)
    woken = len(waiting.woken)
    assert woken < 50
    await waiting.fail("again")
    await clock.advance(PROBE_SECONDS[0] - 0.1)
    assert len(waiting.woken) <= woken + 1


async def test_while_a_host_takes_nothing_they_try_it_in_turn(waiting: Waiting, clock: ManualClock) -> None:
    await waiting.fail("a", "b")
    await clock.advance(PROBE_SECONDS[0])
    assert waiting.names == ["a"]
    await waiting.fail("a")
    await clock.advance(PROBE_SECONDS[1])
    assert waiting.names == ["a", "b"]
    await waiting.fail("b")
    for seconds in (*PROBE_SECONDS[2:], *PROBE_SECONDS[-1:] * 3):
        before = len(waiting.woken)
        await clock.advance(seconds)
        assert len(waiting.woken) == before + 1
        await waiting.fail(waiting.names[-1])


async def test_nobody_waits_longer_than_asked(waiting: Waiting, clock: ManualClock) -> None:
    await waiting.fail("a", seconds=2.0)
    await clock.advance(2.0)
    assert waiting.woken == [("a", 2.0)]


async def test_whose_trouble_it_is(clock: ManualClock) -> None:
    """A failure is a reply's own when its host has taken several others since any of those failed."""
    deliveries = Deliveries(clock)
    assert not deliveries.failed(HOST, "a", None), "nothing is known at first"
    first = deliveries.acks(HOST)
    for _ in range(OTHERS_TAKEN - 1):
        deliveries.acked(HOST)
        assert not deliveries.failed(HOST, "a", first)
    deliveries.acked(HOST)
    assert not deliveries.failed(HOST, "b", None)
    assert not deliveries.failed(HOST, "a", first), "another one failed as well"
    for _ in range(OTHERS_TAKEN):
        deliveries.acked(HOST)
    assert deliveries.failed(HOST, "a", first)
    assert not deliveries.failed(OTHER, "a", deliveries.acks(OTHER))


async def test_every_acknowledgement_is_told(clock: ManualClock) -> None:
    told: list[str] = []
    deliveries = Deliveries(clock, told.append)
    deliveries.acked(HOST)
    deliveries.acked(OTHER)
    assert told == [HOST, OTHER]
