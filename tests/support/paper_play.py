"""Runs a test on a whole supervisor over a paper platform in virtual time: for what takes hours or a broken disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from supervisor.core.states import AgentState
from supervisor.fleet import Runner, Shared
from tests.support.paper_fleet import PaperFleet, make_template
from tests.support.paper_platform import HOME, PaperPlatform
from tests.support.virtual import VirtualLoop, run

AGENT = f"{1:024x}"
ECHO = "async def on_message(message, ctx):\n    return f'Echo: {message.content}'\n"
#: Longer than any wait between two attempts to connect with the settings of :func:`play`.
BACK_SECONDS = 120.0


class Play:
    """What such a test has at hand.

    Attributes:
        log: every line that was logged so far.
    """

    def __init__(self, fleet: PaperFleet, log: list[Any]) -> None:
        self.fleet = fleet
        self.loop = fleet.loop
        self.platform = fleet.platform
        self.log = log

    async def add(self, agent_id: str = AGENT, handler: str = "echo", **fields: Any) -> str:
        """Add an agent's row."""
        record = self.fleet.record(agent_id, handler=handler, **fields)
        assert await self.loop.complete(self.fleet.change(add=[record]))
        return agent_id

    async def change(self, agent_id: str = AGENT, handler: str = "echo", **fields: Any) -> None:
        """Replace an agent's row."""
        record = self.fleet.record(agent_id, handler=handler, **fields)
        assert await self.loop.complete(self.fleet.change(change=[record]))

    async def remove(self, agent_id: str = AGENT) -> None:
        """Remove an agent's row."""
        assert await self.loop.complete(self.fleet.change(remove=[agent_id]))

    def say(self, text: str, *, agent_id: str = AGENT, conversation: str = HOME, **fields: Any) -> bool:
        """A person says something; whether a connection brought it to the agent."""
        said = {"conversationId": conversation, "role": "user", "content": text, **fields}
        return self.platform.say(agent_id, said)

    @property
    def shared(self) -> Shared:
        """What the agents of the supervisor share; to build agents of a test's own with."""
        return self.fleet.service.shared

    def runner(self, agent_id: str = AGENT) -> Runner:
        """What runs an agent."""
        return self.fleet.service.fleet.runner(agent_id)

    def state(self, agent_id: str = AGENT) -> AgentState:
        """The agent's state."""
        return self.runner(agent_id).status().state

    @property
    def answers(self) -> list[str]:
        """What the platform has of the agents, in order."""
        return [one.content for one in self.platform.stored]

    def logged(self, *events: str) -> list[Any]:
        """The lines of some events, in order."""
        return [line for line in self.log if line["event"] in events]


def play(
    folder: Path,
    script: Callable[[Play], Awaitable[None]],
    *,
    handlers: Mapping[str, str] | None = None,
    **given: Any,
) -> None:
    """Run ``script`` on a supervisor with an empty registry; it is stopped afterwards and has to leave nothing.

    Args:
        handlers: further modules of the agents' folder, beside ``echo``.
        given: settings of the deployment.
    """

    async def main(loop: VirtualLoop) -> None:
        template = await loop.complete(make_template(folder))
        settings = {"drain_seconds": 5, "ack_seconds": 5, **given}
        fleet = PaperFleet(loop, PaperPlatform(), template, folder, **settings)
        for name, source in {"echo": ECHO, **(handlers or {})}.items():
            (fleet.agents_dir / f"{name}.py").write_text(source)
        await loop.complete(fleet.begin())
        with structlog.testing.capture_logs() as log:
            try:
                await script(Play(fleet, log))
            finally:
                await loop.complete(fleet.stop(5))
            await loop.advance(60)
        fleet.check_nothing_left()

    run(main)
