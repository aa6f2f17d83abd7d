"""R32: the wall clock is set an hour, a day or a month forward or back, while all runs or between two starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.states import AgentState
from supervisor.sandbox import SandboxUser
from supervisor.sandbox.world.faults import Connect
from tests.support.observing import handlers_folder
from tests.support.reliability import Case
from tests.support.stack import Stack, agent_id, stack

HANDLERS = {
    "brittle": '''
"""Fails twice at what begins with "again", in whichever process; echoes all else."""
from pathlib import Path

failed = Path(__file__).parent.parent / "failed"

async def on_message(message, ctx):
    if message.content.startswith("again"):
        failures = int(failed.read_text()) if failed.exists() else 0
        failed.write_text(str(failures + 1))
        if failures < 2:
            raise RuntimeError("not now")
    return f"Echo: {message.content}"
'''
}
JUMPS = {
    f"{'+' if sign > 0 else '-'}1 {name}": sign * seconds
    for name, seconds in (("hour", 3600.0), ("day", 86_400.0), ("month", 30 * 86_400.0))
    for sign in (1, -1)
}
#: Retries of messages, a second retry of a reply, a renewal: what all that waits here takes without any jump, and room.
NORMAL_SECONDS = 40.0
#: How long tokens live.
TOKEN_SECONDS = 5.0
BRITTLE, REFUSED, AWAY, NEW = range(1, 5)


class WallClock(SystemClock):
    """The machine's clock, set by a test."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_seconds


class People:
    """One person for each agent, who speaks in one conversation."""

    def __init__(self, fleet: Stack, user: SandboxUser) -> None:
        self.fleet = fleet
        self.user = user
        self.conversations: dict[int, str] = {}
        self.said: dict[int, list[str]] = {}

    async def say(self, number: int, text: str) -> None:
        if number not in self.conversations:
            self.conversations[number] = await self.user.open(agent_id(number))
        self.said.setdefault(number, []).append(text)
        await self.user.say(self.conversations[number], text)

    def answers(self, number: int) -> list[str]:
        said = [message.content for message in self.fleet.sandbox.messages(self.conversations[number])]
        return [text.removeprefix("Echo: ") for text in said if text.startswith("Echo: ")]

    async def are_answered(self, timeout: float = NORMAL_SECONDS) -> None:
        await self.fleet.until(lambda: all(set(self.said[one]) <= set(self.answers(one)) for one in self.said), timeout)


async def begin(fleet: Stack) -> People:
    """Everything waits for something: a message and a reply for another attempt, an agent for the platform."""
    people = People(fleet, await fleet.sandbox.user())
    for number in (BRITTLE, REFUSED, AWAY):
        await fleet.add(number, "brittle")
    await fleet.online(3, NORMAL_SECONDS)
    for number in (BRITTLE, REFUSED, AWAY):
        await people.say(number, "first")
    await people.are_answered()
    faults = fleet.sandbox.faults
    await go_away(people, "missed")
    faults.refuse_sends("Database is down", agents=[agent_id(REFUSED)], times=1)
    await people.say(REFUSED, "refused once")
    await people.say(BRITTLE, "again")
    await fleet.until(lambda: faults.struck["refuse_sends"] and (fleet.folder / "failed").exists(), NORMAL_SECONDS)
    return people


async def go_away(people: People, text: str) -> None:
    """The platform will not have an agent for a while, and something is said to it."""
    fleet, agent = people.fleet, agent_id(AWAY)
    fleet.sandbox.faults.connect("kick", agents=[agent])
    fleet.sandbox.cut(agent)
    await fleet.state(agent, AgentState.BACKOFF, timeout=NORMAL_SECONDS)
    await people.say(AWAY, text)


async def finish(people: People, figures: Case) -> None:
    """Everybody is answered as if nothing had been, and somebody new comes online."""
    fleet = people.fleet
    fleet.sandbox.faults.clear(Connect)
    began = time.monotonic()
    try:
        await people.are_answered()
        if agent_id(NEW) not in fleet.sandbox.agents:
            await fleet.add(NEW, "brittle")
        # The next outage, by the clock as it is now.
        await go_away(people, "missed again")
        fleet.sandbox.faults.clear(Connect)
        for number in (BRITTLE, REFUSED):
            await people.say(number, "last")
        await fleet.state(agent_id(NEW), AgentState.ONLINE, timeout=NORMAL_SECONDS)
        await people.say(NEW, "hello")
        await people.are_answered()
        # Tokens are renewed in their time, neither never nor all the time.
        requests = len(fleet.sandbox.token_requests)
        await fleet.sandbox.wait_until(lambda: len(fleet.sandbox.token_requests) > requests, NORMAL_SECONDS)
        assert requests < 30
    finally:
        figures.recovered(time.monotonic() - began)
        for number, said in people.said.items():
            figures.answers(said, people.answers(number))
    for number, said in people.said.items():
        assert people.answers(number) == said


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize(
    ("when", "profile"), [("while it runs", "v2"), ("between two starts", "v1"), ("between two starts", "v2")]
)
async def test_r32_the_wall_clock_is_set(
    tmp_path: Path, case: Callable[[str], Case], when: str, jump: str, profile: str
) -> None:
    figures = case(f"R32 {jump}, {when}, {profile}")
    figures.faults = 1
    clock = WallClock()
    folder = handlers_folder(tmp_path, HANDLERS)
    platform = {"profile": profile, "expires_in_seconds": TOKEN_SECONDS}
    async with stack(tmp_path, sandbox_settings=platform, agents_dir=folder, parts={"clock": clock}) as fleet:
        people = await begin(fleet)
        if when == "while it runs":
            clock.ahead_seconds = JUMPS[jump]
        else:
            await fleet.service.stop(grace_seconds=1)
            await people.say(BRITTLE, "while nothing runs")
            clock.ahead_seconds = JUMPS[jump]
            await fleet.restart()
        await finish(people, figures)
