"""People who go on talking to every agent of a sandbox, whatever happens meanwhile, and what they had of it."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from supervisor.sandbox import Sandbox, SandboxUser
from tests.support.reliability import Case

#: How often it is looked whether an agent has a socket.
LOOK_SECONDS = 0.05
GREETING = "hello"


@dataclass
class Talk:
    """A person, who says something to one agent after the other.

    Args:
        pause_seconds: between two messages.

    Attributes:
        said: in each conversation, what was said; each text once.
        gaps: how long agents had no socket, in seconds.
    """

    sandbox: Sandbox
    user: SandboxUser
    agents: Sequence[str]
    pause_seconds: float
    conversations: dict[str, str] = field(default_factory=dict)
    said: dict[str, dict[str, float]] = field(default_factory=dict)
    gaps: list[float] = field(default_factory=list)
    _away: dict[str, float] = field(default_factory=dict)

    async def begin(self) -> None:
        """Greet each agent: until then no agent knows of its conversation."""
        for agent in self.agents:
            self.conversations[agent] = await self.user.open(agent)
            self.said[self.conversations[agent]] = {}
            await self._say(agent, GREETING)
        await self.sandbox.wait_until(lambda: not self.unanswered(), timeout=60)

    async def go_on(self) -> None:
        """Talk until cancelled."""
        chance = random.Random(0)
        for number in itertools.count():
            await self._say(chance.choice(self.agents), f"say {number}")
            await asyncio.sleep(self.pause_seconds)

    async def _say(self, agent: str, text: str) -> None:
        conversation = self.conversations[agent]
        self.said[conversation][text] = time.monotonic()
        await self.user.say(conversation, text)

    async def look(self) -> None:
        """Note until cancelled who has no socket."""
        while True:
            now = time.monotonic()
            for agent in self.agents:
                if not self.sandbox.is_online(agent):
                    self._away.setdefault(agent, now)
                elif (since := self._away.pop(agent, None)) is not None:
                    self.gaps.append(now - since)
            await asyncio.sleep(LOOK_SECONDS)

    def answers(self, conversation: str) -> list[str]:
        """What an agent has said, without the word before it."""
        messages = self.sandbox.messages(conversation)
        return [one.content.removeprefix("Echo: ") for one in messages if one.sender_kind == "agent"]

    def waits(self) -> Iterator[float]:
        """How long each message but the greeting waited for its first answer, in seconds of the platform's clock."""
        for conversation in self.said:
            asked: dict[str, datetime] = {}
            for message in self.sandbox.messages(conversation):
                at = datetime.fromisoformat(message.created_at)
                if message.sender_kind != "agent":
                    # All are greeted at once, before anything happens.
                    asked.update({message.content: at} if message.content != GREETING else {})
                elif (since := asked.pop(message.content.removeprefix("Echo: "), None)) is not None:
                    yield (at - since).total_seconds()

    def unanswered(self) -> list[str]:
        return [
            text for conversation, said in self.said.items() for text in said.keys() - set(self.answers(conversation))
        ]

    def judge(self, figures: Case) -> None:
        """Count what was lost, doubled or out of order; who heard everything late stays in order all the same."""
        for conversation, said in self.said.items():
            figures.answers(list(said), self.answers(conversation))


@asynccontextmanager
async def talking(sandbox: Sandbox, agents: Sequence[str], pause_seconds: float) -> AsyncIterator[Talk]:
    """Somebody talks until the end, then waits for the answers that are missing."""
    talk = Talk(sandbox, await sandbox.user(), agents, pause_seconds)
    await talk.begin()
    tasks = [asyncio.create_task(talk.go_on()), asyncio.create_task(talk.look())]
    try:
        yield talk
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
