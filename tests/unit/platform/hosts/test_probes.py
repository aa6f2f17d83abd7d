"""A host that is down is tried by few of its agents at a time, in turn."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import structlog

from supervisor.platform.hosts.outages import FOLLOW_SECONDS, HOST_AGENTS, Outages
from supervisor.platform.hosts.probes import PROBE_SECONDS, PROBES
from tests.support.clock import ManualClock

HOST = "platform.example"
FLEET = 60


class Fleet:
    """Agents that try, fail after ``attempt_seconds``, back off for ``backoff_seconds`` and wait for their turn."""

    def __init__(self, outages: Outages, clock: ManualClock) -> None:
        self.outages = outages
        self.clock = clock
        self.up = False
        self.attempt_seconds = 0.0
        self.backoff_seconds = 5.0
        self.attempts: list[tuple[float, str]] = []
        self.under_way: set[str] = set()
        self.most = 0
        self.online: set[str] = set()
        self.never: set[str] = set()  # those that cannot connect whatever their host does
        self._woken: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        outages.on_back = self.follow

    def lose(self, *agents: str) -> None:
        """The agents lose their connections, and begin to find back."""
        for agent in agents:
            self.outages.failed(agent, HOST, "transport error")
            self._woken[agent] = asyncio.Event()
            self._tasks[agent] = asyncio.create_task(self._live(agent))

    def follow(self, host: str) -> None:
        for woken in self._woken.values():
            woken.set()

    def wake(self, agent: str) -> None:
        self._woken[agent].set()

    async def remove(self, agent: str) -> None:
        self._tasks[agent].cancel()
        await asyncio.gather(self._tasks[agent], return_exceptions=True)
        self.outages.forget(agent)

    async def _live(self, agent: str) -> None:
        while agent not in self.online:
            if not await self._woken_within(agent, self.clock.sleep(self.backoff_seconds)):
                await self._woken_within(agent, self.outages.turn(agent))
            await self._try(agent)

    async def _woken_within(self, agent: str, work: object) -> bool:
        """Wait as the runner does: a wake cuts it short. Whether there was one."""
        woken = self._woken[agent]
        waits = [asyncio.ensure_future(work), asyncio.ensure_future(woken.wait())]  # type: ignore[call-overload]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return woken.is_set()
        finally:
            woken.clear()
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _try(self, agent: str) -> None:
        self.attempts.append((self.clock.monotonic(), agent))
        self.under_way.add(agent)
        self.most = max(self.most, len(self.under_way))
        await self.clock.sleep(self.attempt_seconds)
        self.under_way.remove(agent)
        if self.up and agent not in self.never:
            self.online.add(agent)
            self.outages.recovered(agent, HOST)
        else:
            self.outages.failed(agent, HOST, "transport error")

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


@pytest.fixture
async def fleet(clock: ManualClock) -> AsyncIterator[Fleet]:
    with structlog.testing.capture_logs():
        outages = Outages(clock)
        for number in range(FLEET):
            outages.recovered(f"a{number}", HOST)
        made = Fleet(outages, clock)
        yield made
        await made.close()
        await outages.close()
        await clock.settle()
        assert clock.sleepers == 0


def everyone() -> list[str]:
    return [f"a{number}" for number in range(FLEET)]


async def test_while_a_host_is_down_no_more_than_the_probes_go_out(fleet: Fleet, clock: ManualClock) -> None:
    fleet.lose(*everyone())
    await clock.advance(FLEET * PROBE_SECONDS)
    times = [at for at, _ in fleet.attempts]
    assert len(times) <= FLEET
    assert all(later - earlier >= PROBE_SECONDS for earlier, later in itertools.pairwise(times))
    assert len(times) >= FLEET - 10, "and no fewer"
    tries = Counter(agent for _, agent in fleet.attempts)
    assert max(tries.values()) == 1, "not before all others had their turn"


async def test_no_more_than_three_try_at_once(fleet: Fleet, clock: ManualClock) -> None:
    fleet.attempt_seconds = 15.0
    fleet.lose(*everyone())
    await clock.advance(120)
    assert fleet.most == PROBES
    assert len(fleet.attempts) == pytest.approx(PROBES * 120 / 15, abs=PROBES)


async def test_agents_with_troubles_of_their_own_do_not_keep_the_turns(fleet: Fleet, clock: ManualClock) -> None:
    fleet.never = set(everyone()[: FLEET // 2])
    fleet.backoff_seconds = 0.5
    fleet.lose(*everyone())
    fleet.up = True
    await clock.advance(FLEET * PROBE_SECONDS)
    assert fleet.online == set(everyone()) - fleet.never


async def test_once_one_is_in_the_others_do_not_wait_any_longer(fleet: Fleet, clock: ManualClock) -> None:
    fleet.lose(*everyone())
    await clock.advance(60)
    fleet.up = True
    await clock.advance(2 * PROBE_SECONDS)
    assert fleet.online == set(everyone())
    assert fleet.outages.notices() == ()


async def test_a_host_that_goes_again_while_they_follow_is_probed_again(fleet: Fleet, clock: ManualClock) -> None:
    fleet.backoff_seconds = 0.1
    fleet.lose(*everyone())
    await clock.advance(10)
    [(_, first)] = fleet.attempts[-1:]
    # One gets in, and the host dies before the others do.
    fleet.outages.recovered(first, HOST)
    await clock.settle()
    await clock.advance(1)
    before = len(fleet.attempts)
    await clock.advance(60)
    assert len(fleet.attempts) - before <= 60 / PROBE_SECONDS + 1
    fleet.up = True
    await clock.advance(FOLLOW_SECONDS + 2 * PROBE_SECONDS)
    assert len(fleet.online) >= FLEET - 1


async def test_whoever_is_woken_tries_at_once_and_gives_its_place_in_the_queue_back(
    fleet: Fleet, clock: ManualClock
) -> None:
    fleet.lose(*everyone())
    await clock.advance(10)
    before = len(fleet.attempts)
    fleet.wake("a50")
    await clock.settle()
    assert fleet.attempts[before:] == [(clock.monotonic(), "a50")]
    await clock.advance(60)
    assert len(fleet.attempts) - before <= 62


async def test_a_probe_that_is_dropped_gives_its_place_to_the_next(fleet: Fleet, clock: ManualClock) -> None:
    fleet.attempt_seconds = 1e6
    fleet.lose(*everyone())
    await clock.advance(30)
    assert len(fleet.under_way) == PROBES
    for agent in list(fleet.under_way):
        await fleet.remove(agent)
    await clock.advance(PROBES * PROBE_SECONDS)
    assert len(fleet.attempts) == 2 * PROBES


@pytest.mark.parametrize("moment", range(6))
async def test_one_whose_turn_comes_while_it_is_cancelled_gives_it_back(
    fleet: Fleet, clock: ManualClock, moment: int
) -> None:
    outages = fleet.outages
    agents = everyone()
    for agent in agents:
        outages.failed(agent, HOST, "reset")
    for agent in agents[:PROBES]:
        waiting = asyncio.create_task(outages.turn(agent))
        await clock.settle(moment)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if not waiting.cancelled():
            outages.failed(agent, HOST, "reset")
        await clock.advance(PROBE_SECONDS)
    others = [asyncio.create_task(outages.turn(agent)) for agent in agents[PROBES : 2 * PROBES]]
    await clock.advance(PROBES * PROBE_SECONDS)
    assert all(task.done() for task in others)


async def test_nobody_waits_while_most_are_online(fleet: Fleet, clock: ManualClock) -> None:
    """Those that are not have reasons of their own: one that just lost its connection must not queue behind them."""
    fleet.never = set(everyone()[:20])
    fleet.backoff_seconds = 1.0
    fleet.lose(*fleet.never)
    await clock.advance(30)
    assert "down for 20 agents" in fleet.outages.notices()[0]
    assert "each tries again by itself" in fleet.outages.notices()[0]
    assert len(fleet.attempts) == pytest.approx(20 * 30, abs=20)
    fleet.up = True
    fleet.lose("a100")
    await clock.advance(1.0)
    assert "a100" in fleet.online


async def test_few_agents_do_not_wait_for_each_other(fleet: Fleet, clock: ManualClock) -> None:
    fleet.backoff_seconds = 0.1
    fleet.lose(*everyone()[: HOST_AGENTS - 1])
    await clock.advance(1)
    assert len(fleet.attempts) >= 9 * (HOST_AGENTS - 1)


async def test_the_notice_says_since_when_how_many_wait_and_why(fleet: Fleet, clock: ManualClock) -> None:
    fleet.attempt_seconds = 15.0
    fleet.lose(*everyone())
    await clock.advance(30)
    assert fleet.outages.notices() == (
        f"{HOST} is down for {FLEET} agents since 2027-01-15T08:00:00Z: transport error; "
        f"{FLEET - PROBES} wait while few probe it, and follow once one is in",
    )
