"""R1, R3, R5, R6, R7: attempts to connect that break, come late, hang or are dropped, and a fleet on one host."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox import Sandbox
from supervisor.sandbox.world.faults import Delay
from tests.support.reliability import Case
from tests.support.stack import Stack
from tests.support.traces import Traces, add_fleet, open_sockets, watched_stack

#: What a limit gains on a machine that others use too, in seconds.
MARGIN_SECONDS = 15.0


async def one_answers(fleet: Stack, identity: str, figures: Case) -> None:
    """Ask an agent: it is not only called online."""
    answers = [reply.content for reply in await fleet.ask(identity, "still there?", timeout=MARGIN_SECONDS)]
    figures.answers(["Echo: still there?"], answers)


def connects(sandbox: Sandbox) -> Counter[str | None]:
    """How often each agent asked for its namespace."""
    return Counter(attempt.agent_id for attempt in sandbox.connects if attempt.outcome != "invalid namespace")


async def close_before_open(folder: Path, figures: Case, agents: int, down: float, **bounds: float) -> None:
    """Have a fleet online, close every WebSocket before OPEN for a while, and have it online again."""
    async with watched_stack(folder, **bounds) as fleet:
        identities = await add_fleet(fleet, agents)
        before = Traces.now()
        fleet.sandbox.faults.handshake("close")
        figures.faults = fleet.sandbox.cut()
        await fleet.until(lambda: not fleet.service.fleet.states().get(AgentState.ONLINE), 30)
        await asyncio.sleep(down)
        assert fleet.service.fleet.states().get(AgentState.ONLINE, 0) == 0
        assert fleet.sandbox.faults.struck["handshake"] >= 1, "nobody tries any more"
        assert all(status.reason for status in fleet.service.control.statuses() if status.state is AgentState.BACKOFF)
        fleet.sandbox.faults.clear()
        healed = time.monotonic()
        limit = agents / bounds["connect_rate"] + bounds["backoff_cap_seconds"]
        await fleet.online(agents, limit + MARGIN_SECONDS)
        figures.recovered(time.monotonic() - healed)
        await before.again()
        assert {len(fleet.sandbox.sockets_of(identity)) for identity in identities} == {1}
        await one_answers(fleet, identities[-1], figures)
    assert (figures.lost, figures.doubled) == (0, 0)


async def test_r1_sockets_that_close_before_open(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await close_before_open(tmp_path, case("R1"), 30, 2.0, connect_rate=50, backoff_cap_seconds=2.0)


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_r1_sockets_that_close_before_open_for_a_minute(tmp_path: Path, case: Callable[[str], Case]) -> None:
    bounds = {"connect_rate": 50.0, "backoff_initial_seconds": 1.0, "backoff_cap_seconds": 60.0}
    await close_before_open(tmp_path, case("R1 minute"), 300, 60.0, **bounds)


async def late(folder: Path, figures: Case, agents: int, delay: Delay, handshake_seconds: float) -> None:
    """Bring a fleet online, cut it off and bring it back, the platform being late all the time."""
    async with watched_stack(folder, handshake_seconds=handshake_seconds) as fleet:
        fleet.sandbox.faults.set(delay)
        figures.faults = 2
        limit = 2 * handshake_seconds + MARGIN_SECONDS
        identities = await add_fleet(fleet, agents, timeout=limit)
        assert set(identities) == set(connects(fleet.sandbox))
        assert max(connects(fleet.sandbox).values()) <= 2
        fleet.sandbox.connects.clear()
        fleet.sandbox.cut()
        cut = time.monotonic()
        await fleet.until(lambda: not fleet.service.fleet.states().get(AgentState.ONLINE))
        await fleet.online(agents, limit)
        figures.recovered(time.monotonic() - cut)
        assert set(identities) == set(connects(fleet.sandbox))
        assert max(connects(fleet.sandbox).values()) <= 2
        assert {len(fleet.sandbox.sockets_of(identity)) for identity in identities} == {1}
        await one_answers(fleet, identities[0], figures)
    assert (figures.lost, figures.doubled) == (0, 0)


LATE: dict[str, Callable[[float], Delay]] = {
    "ack": lambda seconds: Delay(connect_ack_seconds=seconds),
    "presence": lambda seconds: Delay(presence_seconds=seconds),
}


@pytest.mark.parametrize("what", LATE)
async def test_r3_a_platform_that_is_late(tmp_path: Path, case: Callable[[str], Case], what: str) -> None:
    # In proportion to 8 s of 15.
    await late(tmp_path, case(f"R3 {what}"), 40, LATE[what](2.4), 4.5)


@pytest.mark.soak
@pytest.mark.parametrize("what", LATE)
async def test_r3_a_platform_that_is_8_s_late(tmp_path: Path, case: Callable[[str], Case], what: str) -> None:
    await late(tmp_path, case(f"R3 8 s {what}"), 100, LATE[what](8.0), 15.0)


async def never_open(folder: Path, figures: Case, agents: int, attempts: int, **bounds: float) -> None:
    """Accept the WebSockets of a fleet and never send OPEN."""
    async with watched_stack(folder, **bounds) as fleet:
        identities = await add_fleet(fleet, agents)
        before = Traces.now()
        fleet.sandbox.faults.handshake("silent")
        fleet.sandbox.cut()
        limit = bounds["handshake_seconds"] + MARGIN_SECONDS
        for identity in identities:
            # The first backoff is for the loss, the next for the attempt.
            await fleet.state(identity, AgentState.CONNECTING, timeout=limit)
            reason = await fleet.state(identity, AgentState.BACKOFF, timeout=limit)
            assert "OPEN" in reason, reason
        struck = fleet.sandbox.faults.struck
        await fleet.until(lambda: struck["handshake"] >= attempts, attempts * limit)
        # While it lasts: what has ended holds nothing, so there are no more files than with all online.
        assert not open_sockets(fleet.sandbox)
        await fleet.until(lambda: Traces.now().files.total() <= before.files.total(), MARGIN_SECONDS)
        figures.faults = struck["handshake"]
        fleet.sandbox.faults.clear()
        healed = time.monotonic()
        await fleet.online(agents, bounds["backoff_cap_seconds"] + limit)
        figures.recovered(time.monotonic() - healed)
        await before.again()
        await one_answers(fleet, identities[0], figures)
    assert (figures.lost, figures.doubled) == (0, 0)


async def test_r5_an_open_that_never_comes(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await never_open(tmp_path, case("R5"), 3, 12, handshake_seconds=0.5, backoff_cap_seconds=0.4)


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_r5_an_open_that_never_comes_within_15_s(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await never_open(tmp_path, case("R5 15 s"), 4, 12, handshake_seconds=15, backoff_cap_seconds=1.0)


class Dropper:
    """Drops one agent's attempts to connect, at moments drawn from the whole length of an attempt."""

    def __init__(self, fleet: Stack, identity: str) -> None:
        self.fleet = fleet
        self.identity = identity
        self.random = random.Random(6)
        self.longest = 0.0
        self.dropped: Counter[AgentState] = Counter()

    async def measure(self) -> None:
        """Take the time of an attempt, the longest of some."""
        for _ in range(5):
            await self.pause()
            began = time.monotonic()
            await self.fleet.service.control.resume(self.identity)
            await self.fleet.online()
            self.longest = max(self.longest, time.monotonic() - began)

    async def pause(self) -> None:
        """Take the agent offline; whatever it was at leaves no socket behind."""
        await self.fleet.service.control.pause(self.identity)
        await self.fleet.state(self.identity, AgentState.PAUSED)
        await self.fleet.until(lambda: not open_sockets(self.fleet.sandbox), 2 + MARGIN_SECONDS)

    async def round(self) -> None:
        """Begin an attempt and drop it at a random moment; the next one is to succeed and to leave one socket."""
        await self.pause()
        resuming = asyncio.create_task(self.fleet.service.control.resume(self.identity))
        await asyncio.sleep(self.random.uniform(0, self.longest))
        self.dropped[self.fleet.service.control.status(self.identity).state] += 1
        if self.random.random() < 0.5:
            # Dropped for good, and begun again later.
            await resuming
            await self.pause()
            await self.fleet.service.control.resume(self.identity)
        else:
            # Dropped for another attempt, at once.
            self.fleet.service.fleet.runner(self.identity).retry_now()
            await resuming
        await self.fleet.online()
        await self.fleet.until(lambda: open_sockets(self.fleet.sandbox) == 1, 2 + MARGIN_SECONDS)
        assert len(self.fleet.sandbox.sockets_of(self.identity)) == 1


async def test_r6_attempts_dropped_at_200_random_moments(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R6")
    figures.rounds = figures.faults = 200
    async with watched_stack(tmp_path) as fleet:
        [identity] = await add_fleet(fleet, 1)
        # Each of its steps takes some time, so that each is hit.
        fleet.sandbox.faults.delay(rest_seconds=0.004, connect_ack_seconds=0.004, presence_seconds=0.004)
        dropper = Dropper(fleet, identity)
        await dropper.measure()
        before = Traces.now()
        for _ in range(figures.rounds):
            await dropper.round()
        print("dropped while", dict(dropper.dropped))
        assert {AgentState.AUTHENTICATING, AgentState.CONNECTING, AgentState.REGISTERING} <= set(dropper.dropped)
        await before.again()
        await one_answers(fleet, identity, figures)
    assert (figures.lost, figures.doubled) == (0, 0)


async def many_on_one_host(folder: Path, figures: Case, agents: int, **given: Any) -> None:
    """A fleet behind a load balancer that sets a cookie with each answer."""
    async with watched_stack(folder, **given) as fleet:
        fleet.sandbox.faults.cookies()
        identities = await add_fleet(fleet, agents, timeout=60 + agents / 5)
        assert fleet.service.fleet.states() == {AgentState.ONLINE: agents}
        assert all(fleet.sandbox.is_online(identity) for identity in identities)
        # By now each has a cookie that it, or worse another, could bring along.
        figures.faults = fleet.sandbox.cut()
        cut = time.monotonic()
        await fleet.until(lambda: not fleet.service.fleet.states().get(AgentState.ONLINE), 30)
        await fleet.online(agents, 60 + agents / 5)
        figures.recovered(time.monotonic() - cut)
        asked = [event for event in fleet.sandbox.events if event.kind in ("open", "token_request")]
        assert len(asked) >= 3 * agents
        assert fleet.sandbox.faults.struck["cookies"] >= 3 * agents
        assert {event.fields["cookie"] for event in asked} == {None}
        await one_answers(fleet, identities[-1], figures)
    assert (figures.lost, figures.doubled) == (0, 0)


async def test_r7_more_agents_on_one_host_than_any_pool_has_places(tmp_path: Path, case: Callable[[str], Case]) -> None:
    # aiohttp's own limit is 100.
    await many_on_one_host(tmp_path, case("R7"), 120)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_r7_500_agents_on_one_host(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await many_on_one_host(tmp_path, case("R7 500"), 500, connect_rate=50, auth_rate=20)
