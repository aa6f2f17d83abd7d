"""Turns at finding out whether the platform still finds an agent: spread and bounded, quick where one was forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable

import pytest

from supervisor.core.clock import Clock
from supervisor.platform.hosts.checks import ALL_FORGOTTEN, NEIGHBOURS, PRESENCES_PER_SECOND, HostChecks
from tests.support.virtual import VirtualClock, VirtualLoop, run

RATE = 5.0
INTERVAL = 60.0
#: How long a platform's silence takes to count.
PATIENCE = 15.0


class Platform:
    """Knows agents until it forgets them; a new socket makes it know one again.

    Attributes:
        asked: each check: when, and whose.
        renewed: who got a new socket.
        tells: whether the own presence follows a join at all.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.forgot: set[str] = set()
        self.asked: list[tuple[float, str]] = []
        self.renewed: list[str] = []
        self.tells = True
        self.refuses = False


class Member:
    """One agent with a conversation."""

    def __init__(self, agent_id: str, platform: Platform, checks: HostChecks) -> None:
        self.agent_id = agent_id
        self.platform = platform
        self.checks = checks
        self.can_be_checked = True
        self.useless = False
        self.connected_at = platform.clock.monotonic()
        checks.enter(agent_id, self)

    async def check(self) -> bool | None:
        self.platform.asked.append((self.platform.clock.monotonic(), self.agent_id))
        if self.platform.refuses:
            return None
        if self.platform.tells and not self.useless and self.agent_id not in self.platform.forgot:
            return True
        await self.platform.clock.sleep(PATIENCE)
        return False

    def forgotten(self, since: float) -> None:
        if self.connected_at < since:
            self.platform.renewed.append(self.agent_id)
            self.platform.forgot.discard(self.agent_id)
            self.connected_at = self.platform.clock.monotonic()
            self.checks.enter(self.agent_id, self)
            self.checks.soon(self.agent_id)


def checked(script: Callable[[VirtualLoop, Platform, HostChecks, list[Member]], Awaitable[None]], count: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        platform, checks = Platform(clock), HostChecks("host", clock, rate=RATE, interval_seconds=INTERVAL)
        members = [Member(f"a{number:04d}", platform, checks) for number in range(count)]
        await script(loop, platform, checks, members)
        await checks.close()
        assert loop.complaints == []

    run(main)


async def prove(loop: VirtualLoop, platform: Platform) -> None:
    """Let the first round begin, which shows that the platform tells."""
    while not platform.asked:
        await loop.advance(1)


@pytest.mark.parametrize("count", [3, 100, 600, 1000])
def test_all_take_turns_at_a_bounded_rate(count: int) -> None:
    async def turns(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        await loop.advance(INTERVAL + 2 * max(INTERVAL, count / RATE, count**2 / PRESENCES_PER_SECOND))
        rate = min(RATE, PRESENCES_PER_SECOND / count)
        times = [at for at, _ in platform.asked]
        assert all(later - earlier >= 1 / rate - 1e-6 for earlier, later in itertools.pairwise(times))
        firsts = [agent for _, agent in platform.asked[:count]]
        assert sorted(firsts) == sorted(one.agent_id for one in members), "each once before any twice"
        by_agent = [at for at, agent in platform.asked if agent == members[0].agent_id]
        assert by_agent[1] - by_agent[0] == pytest.approx(max(INTERVAL, count / rate), rel=0.02)

    checked(turns, count)


def test_one_that_was_forgotten_gets_a_new_socket_and_its_neighbours_are_asked_at_once() -> None:
    async def one(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        await loop.advance(INTERVAL + len(members) / RATE)
        platform.forgot = {members[7].agent_id}
        await loop.advance(INTERVAL)
        del platform.asked[:]
        await loop.advance(PATIENCE + 2)
        assert platform.renewed == [members[7].agent_id]
        assert len({agent for _, agent in platform.asked}) >= NEIGHBOURS
        await loop.advance(10 * INTERVAL)
        assert platform.renewed == [members[7].agent_id], "the others are well"

    checked(one, 40)


def test_a_platform_that_lost_all_it_knew_is_found_out_by_a_few_and_all_get_new_sockets() -> None:
    async def lost(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        await loop.advance(INTERVAL + len(members) / RATE)
        # One that has nothing to be asked with cannot notice, and is forgotten like the others.
        members[3].can_be_checked = False
        platform.forgot = {one.agent_id for one in members}
        lost_at = loop.time()
        while len(platform.renewed) < len(members):
            await loop.advance(1)
        # A turn each 0.2 s or so, and the patience twice: for the first one and for its neighbours.
        assert loop.time() - lost_at < INTERVAL + 2 * PATIENCE + 5
        assert sorted(platform.renewed) == [one.agent_id for one in members], "each once"
        await loop.advance(3 * INTERVAL)
        assert len(platform.renewed) == len(members)

    checked(lost, 200)


@pytest.mark.parametrize("count", [1, 2, ALL_FORGOTTEN])
def test_small_fleets_find_it_out_too(count: int) -> None:
    async def lost(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        # Before anything was proven. The last one has nothing to be asked with.
        members[-1].can_be_checked = False
        platform.forgot = {one.agent_id for one in members}
        await loop.advance(INTERVAL + 3 * PATIENCE + 5)
        assert sorted(platform.renewed) == [one.agent_id for one in members]
        platform.forgot = {one.agent_id for one in members}
        await loop.advance(INTERVAL + 3 * PATIENCE + 5)
        assert len(platform.renewed) == 2 * len(members)

    checked(lost, count + 1)


def test_a_platform_that_never_tells_costs_one_agent_a_few_new_sockets() -> None:
    async def silent(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        platform.tells = False
        await loop.advance(20 * INTERVAL)
        assert set(platform.renewed) == {members[0].agent_id}
        assert len(platform.renewed) <= 5, "it doubles"

    checked(silent, 10)


def test_one_whose_check_is_of_no_use_gets_new_sockets_ever_more_rarely() -> None:
    async def useless(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        await loop.advance(INTERVAL + 5)
        members[0].useless = True
        await loop.advance(50 * INTERVAL)
        assert set(platform.renewed) == {members[0].agent_id}
        assert len(platform.renewed) <= 6, "it doubles"

    checked(useless, 10)


def test_what_is_refused_says_nothing() -> None:
    async def ill(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        await loop.advance(INTERVAL + 5)
        platform.refuses = True
        platform.forgot = {members[0].agent_id}
        await loop.advance(5 * INTERVAL)
        assert platform.renewed == []
        platform.refuses = False
        await loop.advance(INTERVAL + PATIENCE)
        assert platform.renewed == [members[0].agent_id]

    checked(ill, 10)


def test_who_has_nothing_to_ask_with_takes_nobodys_turn() -> None:
    async def most(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        for one in members[:-1]:
            one.can_be_checked = False
        await loop.advance(INTERVAL + 1)
        assert [agent for _, agent in platform.asked] == [members[-1].agent_id]

    checked(most, 300)


def test_urgent_ones_go_first_and_within_the_rate() -> None:
    async def urgent(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        for one in reversed(members):
            checks.soon(one.agent_id)
        await loop.advance((len(members) - 0.5) / RATE)
        assert [agent for _, agent in platform.asked] == [one.agent_id for one in reversed(members)]

    checked(urgent, 20)


def test_who_is_gone_is_not_asked_and_nothing_runs_for_nobody() -> None:
    async def gone(loop: VirtualLoop, platform: Platform, checks: HostChecks, members: list[Member]) -> None:
        for one in members:
            checks.leave(one.agent_id)
        await loop.advance(5 * INTERVAL)
        assert platform.asked == []
        members[0].checks.enter(members[0].agent_id, members[0])
        await loop.advance(INTERVAL + 1)
        assert [agent for _, agent in platform.asked] == [members[0].agent_id]

    checked(gone, 3)
