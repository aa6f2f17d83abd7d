"""What bounds the questions to a host's API: a rate, silence while it is ill, intervals that stretch."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.core.errors import PlatformError
from supervisor.platform.hosts.api import Answer
from supervisor.platform.hosts.api_gate import ILL_FAILURES, SHARE, ApiGate, Asker
from supervisor.platform.hosts.gates import Gates
from tests.support.clock import ManualClock

RATE = 20.0


class Host:
    """A host that answers as it is told, and when it was asked."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.asked: list[float] = []
        self.status = 200

    async def answer(self) -> Answer:
        self.asked.append(self.clock.monotonic())
        if not self.status:
            raise PlatformError("refuses connections")
        return Answer("platform.example", self.status, {}, b"{}", self.clock.now())


@pytest.fixture
def host(clock: ManualClock) -> Host:
    return Host(clock)


@pytest.fixture
def gate(clock: ManualClock) -> ApiGate:
    gates = Gates(connect_rate=1, auth_rate=1, connect_concurrency=1, auth_concurrency=1, clock=clock, api_rate=RATE)
    return gates.of("platform.example").api


async def ask(gate: ApiGate, host: Host, times: int = 1, *, seconds: float = 1.0) -> list[Answer | BaseException]:
    """Ask so often at once, and let time pass; the answers."""
    asking = [asyncio.create_task(gate.ask(host.answer)) for _ in range(times)]
    await host.clock.advance(seconds)
    return await asyncio.gather(*asking, return_exceptions=True)


async def test_no_second_has_more_questions_than_the_rate(gate: ApiGate, host: Host, clock: ManualClock) -> None:
    asking = [asyncio.create_task(gate.ask(host.answer)) for _ in range(100)]
    await clock.advance(10)
    await asyncio.gather(*asking)
    times = host.asked
    assert max(sum(at <= other < at + 1 for other in times) for at in times) <= RATE


async def test_what_somebody_waits_for_waits_for_no_turn(gate: ApiGate, host: Host, clock: ManualClock) -> None:
    waiting = [asyncio.create_task(gate.ask(host.answer)) for _ in range(100)]
    await clock.advance(0.01)
    before = len(host.asked)
    await gate.ask(host.answer, at_leisure=False)
    assert len(host.asked) == before + 1
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize("status", [0, 429, 500, 503])
async def test_an_ill_host_is_asked_one_question_at_a_time(
    gate: ApiGate, host: Host, clock: ManualClock, status: int
) -> None:
    host.status = status
    await ask(gate, host, ILL_FAILURES)
    assert gate.ill
    host.asked.clear()
    for _ in range(60):
        refused = await ask(gate, host, 5)
    assert 1 <= len(host.asked) < 40, "of the 1,200 that the rate allows in a minute"
    assert all(isinstance(one, PlatformError) and one.retry_after_seconds for one in refused[1:])
    assert "is not asked, it is ill" in str(refused[-1])
    host.status = 200
    await clock.advance(60)
    await ask(gate, host)
    assert [gate.ill] == [False]
    assert all(isinstance(one, Answer) for one in await ask(gate, host, 20))


async def test_a_refusal_of_one_question_is_no_illness(gate: ApiGate, host: Host) -> None:
    host.status = 403
    await ask(gate, host, 2 * ILL_FAILURES)
    assert not gate.ill


async def test_intervals_stretch_with_those_who_ask(gate: ApiGate) -> None:
    assert gate.interval("lists", 60.0) == 60.0
    many = [Asker("lists") for _ in range(1000)]
    for asker in many:
        asker.ask_at(gate)
        asker.ask_at(gate)
    assert gate.interval("lists", 60.0) == 1000 / (RATE * SHARE)
    assert gate.interval("other", 60.0) == 60.0
    for asker in many:
        asker.leave()
        asker.leave()
    assert gate.interval("lists", 60.0) == 60.0
