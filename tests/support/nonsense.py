"""One agent that a test sends nonsense to, and a person who talks to it meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.sandbox import SandboxUser
from supervisor.telemetry.metrics import Metrics
from tests.support.observing import captured_logs, dropped
from tests.support.reliability import Case
from tests.support.stack import Stack, stack


@dataclass
class Line:
    """One agent that is sent nonsense, and the person who talks to it meanwhile."""

    fleet: Stack
    id: str
    user: SandboxUser
    conversation: str
    first: str = ""
    said: list[str] = field(default_factory=list)
    expected: Counter[str] = field(default_factory=Counter)

    async def say(self) -> None:
        """Say something well formed."""
        self.said.append(f"valid {len(self.said)}")
        message = await self.user.say(self.conversation, self.said[-1])
        self.first = self.first or message

    def message(self, **fields: Any) -> dict[str, Any]:
        """A ``message:new`` that would be answered; None leaves a field as null, Ellipsis leaves it out."""
        made = {"conversationId": self.conversation, "role": "user", "content": "odd"} | fields
        return {name: value for name, value in made.items() if value is not ...}

    def bring(self, reason: str | None, **fields: Any) -> None:
        """Send a ``message:new`` that is to be counted under ``reason``."""
        assert self.fleet.sandbox.emit(self.id, "message:new", self.message(**fields)) == 1
        if reason:
            self.expected[reason] += 1

    def frame(self, frame: str | bytes) -> None:
        """Send a raw frame; ``{ns}`` stands for the namespace."""
        [session] = self.fleet.sandbox.sockets_of(self.id)
        raw = frame.replace("{ns}", session.namespace) if isinstance(frame, str) else frame
        assert self.fleet.sandbox.send_raw(self.id, raw) == 1

    async def answers(self) -> list[str]:
        """All answers, once each valid message has its own."""
        wanted = {f"Echo: {text}" for text in self.said}
        await self.fleet.sandbox.wait_until(lambda: wanted <= set(self.contents()), 60)
        await self.fleet.until(lambda: self.fleet.service.control.status(self.id).inbox.available == 0)
        return self.contents()

    def contents(self) -> list[str]:
        """What the agent has said so far."""
        stored = self.fleet.sandbox.messages(self.conversation)
        return [message.content for message in stored if message.sender_kind == "agent"]


@asynccontextmanager
async def line(folder: Path, counted: Case | None = None) -> AsyncIterator[Line]:
    """A line; at its end every valid message has its one answer, over the first connection, and nothing was raised."""
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    with captured_logs() as log:
        async with stack(folder) as fleet:
            identity = await fleet.add()
            await fleet.online()
            user = await fleet.sandbox.user()
            made = Line(fleet, identity, user, await user.open(identity))
            await made.say()
            yield made
            await made.say()
            answers = await made.answers()
            echoes = [answer for answer in answers if answer.startswith("Echo: valid ")]
            assert echoes == [f"Echo: {text}" for text in made.said], "lost, doubled or out of order"
            if counted is not None:
                counted.answers([f"Echo: {text}" for text in made.said], echoes)
                counted.faults += sum(made.expected.values())
            assert len(fleet.sandbox.connects) == 1, "the connection was dropped"
            assert_counted(made.expected, fleet.service.metrics)
    assert not [entry for entry in log if "exc_info" in entry]
    assert complaints == []


def assert_counted(expected: Counter[str], metrics: Metrics) -> None:
    """Each malformed thing is counted under its reason, and nothing else is."""
    found = dropped(metrics)
    found.pop("own_echo", None)
    if expected:
        assert found == dict(expected)
