"""R37: a platform that forgets its agents while people begin conversations at every moment; run with ``-m soak``."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.reliability import Case
from tests.support.stack import Stack
from tests.support.traces import add_fleet, watched_stack

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]
AGENTS = 201
FORGET_SECONDS = 20.0
#: Conversations begun a second, and messages in each.
BEGUN, MESSAGES = 8.0, 3
#: How long people wait for their answers before they leave; they are answered all the same.
PATIENCE_SECONDS = 60.0
#: From one restart to the next, of the platform and of the supervisor in turn; and how long the platform is away.
RESTART_SECONDS, DOWN_SECONDS = 45.0, 2.0


@dataclass
class People:
    """Each begins a conversation with an agent, says some things in it, and wants an answer to each, in order."""

    fleet: Stack
    agents: list[str]
    said: dict[str, list[str]] = field(default_factory=dict)
    #: Conversations that began while the platform did not find the agent.
    unfound: int = 0

    async def come(self, seconds: float) -> None:
        """Let people come for so many seconds."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                if time.monotonic() >= until:
                    break
                group.create_task(self._talk(number))
                await asyncio.sleep(random.expovariate(BEGUN))

    async def _talk(self, number: int) -> None:
        user = await self.fleet.sandbox.user()
        agent = random.choice(self.agents)
        self.unfound += not self.fleet.sandbox.presence.sockets_of(agent)
        conversation = await user.open(agent)
        texts = self.said.setdefault(conversation, [])
        for part in range(MESSAGES):
            texts.append(f"{number}.{part}")
            await user.say(conversation, texts[-1])
            await asyncio.sleep(random.uniform(0.2, 4.0))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not set(texts) <= set(self.answered(conversation)):
                    await asyncio.sleep(0.5)
        # Thousands who stayed would each hear of every agent that comes and goes.
        await user.leave()

    def answered(self, conversation: str) -> list[str]:
        """What was answered there, in order."""
        messages = self.fleet.sandbox.messages(conversation)
        return [message.content.removeprefix("Echo: ") for message in messages if message.sender_kind == "agent"]

    @property
    def all_answered(self) -> bool:
        """Whether nothing is open."""
        return all(set(texts) <= set(self.answered(one)) for one, texts in self.said.items())

    def out_of_order(self) -> int:
        """Conversations in which the first answers to the messages came in another order than the messages."""
        found = 0
        for one, texts in self.said.items():
            firsts = [text for text in dict.fromkeys(self.answered(one)) if text in texts]
            found += firsts != sorted(firsts, key=texts.index)
        return found


async def restart(fleet: Stack) -> None:
    """Restart the platform and the supervisor in turn, until cancelled."""
    for number in itertools.count():
        await asyncio.sleep(RESTART_SECONDS)
        if number % 2 == 0:
            await fleet.sandbox.restart(DOWN_SECONDS)
        else:
            await fleet.restart(grace_seconds=5)


@pytest.mark.parametrize(("seconds", "restarts"), [(60, False), (600, True)], ids=["a minute", "ten minutes, restarts"])
async def test_r37_people_begin_conversations_while_the_platform_forgets(
    tmp_path: Path,
    case: Callable[[str], Case],
    capsys: pytest.CaptureFixture[str],
    seconds: int,
    restarts: bool,
) -> None:
    figures = case(f"R37 {AGENTS} agents, {seconds} s")
    settings = {"profile": "v2", "forget_after_seconds": FORGET_SECONDS}
    # As in a real deployment, measured by how long the platform remembers: how often conversations are looked for, and
    # how much may be asked in that time.
    given: dict[str, Any] = {"socket_max_age": 0.75 * FORGET_SECONDS, "connect_rate": 50}
    given |= {"conversations_seconds": 20, "api_rate": 1000}
    async with watched_stack(tmp_path, sandbox_settings=settings, **given) as fleet:
        people = People(fleet, await add_fleet(fleet, AGENTS))
        restarting = asyncio.create_task(restart(fleet)) if restarts else None
        await people.come(seconds)
        if restarting is not None:
            restarting.cancel()
            await asyncio.wait([restarting])
            assert restarting.cancelled(), restarting.exception()
        until = time.monotonic() + 120
        while not people.all_answered and time.monotonic() < until:
            await asyncio.sleep(0.5)
        for conversation, texts in people.said.items():
            figures.answers(texts, people.answered(conversation))
        kinds = Counter(event.kind for event in fleet.sandbox.events)
        renewed = len(fleet.sandbox.connects) - AGENTS
    disordered = people.out_of_order()
    with capsys.disabled():
        print(
            f"\nasked {figures.messages}, answered {figures.messages - figures.lost}, lost {figures.lost}, "
            f"doubled {figures.doubled}, out of order {disordered}; "
            f"{len(people.said)} conversations, {people.unfound} of them begun with an agent that was not found; "
            f"{renewed} further connects, {kinds['join']} joins"
        )
    assert renewed >= AGENTS * (seconds / FORGET_SECONDS - 1), "the platform would have forgotten them"
    assert (figures.lost, disordered) == (0, 0)
