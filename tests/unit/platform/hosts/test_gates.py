"""The bounds of a host: places before passes, one host apart from the other, and less while the event loop lags."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.platform.hosts.gates import LAG_LIMIT_SECONDS, Gates
from supervisor.platform.hosts.pool import PoolClosedError
from tests.support.clock import ManualClock


async def test_attempts_that_waited_for_a_place_start_no_faster_than_the_rate(clock: ManualClock) -> None:
    """A platform that hung lets go of all places at once; those who waited must not all start then."""
    gates = Gates(connect_rate=10, auth_rate=10, connect_concurrency=20, auth_concurrency=10, clock=clock)
    gate = gates.of("platform.example")
    hung = asyncio.Event()
    started: list[float] = []

    async def attempt() -> None:
        started.append(clock.monotonic())
        await hung.wait()

    waiting = [asyncio.create_task(gate.connect(attempt, timeout=3600)) for _ in range(80)]
    await clock.advance(60)
    assert len(started) == 20, "more attempts at once than there are places"
    hung.set()
    await clock.advance(60)
    await asyncio.gather(*waiting)
    assert len(started) == 80
    for first in range(len(started)):
        for last in range(first, len(started)):
            assert last - first + 1 <= 2 + (started[last] - started[first]) * 10 + 1e-3
    await gates.close()


async def test_the_trouble_of_one_host_does_not_hold_up_another(clock: ManualClock) -> None:
    gates = Gates(connect_rate=1, auth_rate=1, connect_concurrency=1, auth_concurrency=10, clock=clock)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def come() -> str:
        return "in"

    hanging = asyncio.create_task(gates.of("ill.example").connect(hang, timeout=3600))
    await clock.settle()
    assert await gates.of("well.example").connect(come, timeout=5) == "in"
    assert gates.of("ill.example") is gates.of("ill.example")
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    await gates.close()


async def test_an_attempt_that_takes_too_long_ends_and_frees_its_place(clock: ManualClock) -> None:
    gate = Gates(connect_rate=100, auth_rate=1, connect_concurrency=1, auth_concurrency=10, clock=clock).of(
        "platform.example"
    )

    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await gate.connect(hang, timeout=0.01)
    assert gate.connect_pool.active == 0


def lagging_gates(clock: ManualClock) -> Gates:
    return Gates(connect_rate=50, auth_rate=20, connect_concurrency=100, auth_concurrency=10, clock=clock)


def test_connects_slow_down_while_the_loop_lags_and_recover_when_it_is_well(clock: ManualClock) -> None:
    gates = lagging_gates(clock)
    known = gates.of("one.example").connect_rate
    full, full_of_tokens = known.rate, gates.of("one.example").token_rate.rate
    gates.adapt(LAG_LIMIT_SECONDS)
    assert known.rate == full, "so much is still well"
    for share in (1 / 2, 1 / 4, 1 / 8, 1 / 10, 1 / 10):
        gates.adapt(LAG_LIMIT_SECONDS + 0.01)
        assert known.rate == pytest.approx(full * share)
    assert gates.of("met.later").connect_rate.rate == pytest.approx(full / 10)
    assert gates.of("one.example").token_rate.rate == full_of_tokens, "token requests cost the loop little"
    looks = 0
    while known.rate < full:
        before = known.rate
        gates.adapt(0.0)
        looks += 1
        assert before < known.rate <= 1.25 * before
    assert looks < 20
    assert (known.rate, gates.of("met.later").connect_rate.rate) == (full, full)


async def test_a_fleet_that_connects_slows_down_with_the_loop(clock: ManualClock) -> None:
    gates = lagging_gates(clock)
    gate = gates.of("platform.example")
    started: list[float] = []

    async def attempt() -> None:
        started.append(clock.monotonic())

    waiting = [asyncio.create_task(gate.connect(attempt, timeout=5)) for _ in range(300)]
    await clock.advance(1)
    before = len(started)
    assert before > 40
    for _ in range(4):
        gates.adapt(1.0)
    await clock.advance(10)
    assert len(started) - before == pytest.approx(10 * gate.connect_rate.rate, abs=2)
    assert gate.connect_rate.rate <= 5
    for _ in range(20):
        gates.adapt(0.0)
    await clock.advance(6)
    await asyncio.gather(*waiting)
    assert len(started) == 300, "nobody gave up for a rate that fell while it waited"
    await gates.close()


async def test_token_requests_have_places_and_a_rate_of_their_own(clock: ManualClock) -> None:
    gate = Gates(connect_rate=1, auth_rate=10, connect_concurrency=1, auth_concurrency=2, clock=clock).of("host")
    started: list[float] = []
    running = most = 0

    async def request() -> None:
        nonlocal running, most
        started.append(clock.monotonic())
        running += 1
        most = max(most, running)
        await clock.sleep(0.5)
        running -= 1

    waiting = [asyncio.create_task(gate.request_token(request, timeout=5)) for _ in range(30)]
    await clock.advance(20)
    await asyncio.gather(*waiting)
    assert most == 2
    for second in range(20):
        assert sum(second <= at < second + 1 for at in started) <= 10


async def test_nothing_passes_a_gate_that_is_closed(clock: ManualClock) -> None:
    gates = Gates(connect_rate=1, auth_rate=1, connect_concurrency=1, auth_concurrency=1, clock=clock)
    gate = gates.of("host")
    await gates.close()

    async def come() -> None:
        raise AssertionError

    for pass_through in (gate.connect, gate.request_token):
        with pytest.raises(PoolClosedError):
            await pass_through(come, timeout=5)


async def test_several_processes_together_keep_to_the_rates_of_one(clock: ManualClock) -> None:
    given = {"connect_rate": 40, "auth_rate": 20, "connect_concurrency": 500, "auth_concurrency": 500}
    every = [Gates(**given, api_rate=40, clock=clock) for _ in range(4)]
    before = [gates.of("host") for gates in every]
    for gates in every:
        gates.share_with(4)
    started: list[float] = []

    async def attempt() -> None:
        started.append(clock.monotonic())

    for where in ("host", "met.later"):
        hosts = [gates.of(where) for gates in every]
        waiting = [asyncio.create_task(one.connect(attempt, timeout=5)) for one in hosts for _ in range(50)]
        began = clock.monotonic()
        await clock.advance(8)
        await asyncio.gather(*waiting)
        for second in range(1, 4):
            assert sum(began + second <= at < began + second + 1 for at in started) <= 40 + 4
        assert clock.monotonic() - began >= 4
        started.clear()
    assert [one.token_rate.rate for one in before] == [5.0] * 4
    assert before[0].api.interval("conversations", 0.1) == 0.1
    for gates in every:
        gates.share_with(1)
    alone = Gates(**given, clock=clock).of("host")
    assert before[0].connect_rate.rate == alone.connect_rate.rate, "whoever is left has all of it"
    for gates in every:
        await gates.close()
