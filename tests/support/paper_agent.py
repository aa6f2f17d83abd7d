"""One agent that a test runs itself, part by part, over a paper platform: no runner decides anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from supervisor.core.states import AgentState
from supervisor.fleet.agent import Agent
from supervisor.fleet.configuration import Configuration
from supervisor.fleet.desired import Desired
from supervisor.fleet.dialer import Dialer
from supervisor.fleet.findability import Findability
from supervisor.fleet.rotation import Rotation
from supervisor.messages import AgentActions, Situation
from supervisor.platform.connection import Connection
from supervisor.telemetry.logs import get_logger
from tests.support.paper_play import AGENT, Play

ACK_SECONDS = 5.0
#: Writes down what happens to it.
DIARY = '''
"""Writes down what its agent lives through."""
from supervisor.handler import Handler

told = []


class Diary(Handler):
    async def on_start(self, ctx):
        told.append(("start", ctx.settings.get("mood")))

    async def on_reload(self, ctx):
        told.append("reload")

    async def on_stop(self, ctx):
        told.append("stop")

    async def on_typing(self, event, ctx):
        told.append("typing")

    async def on_message(self, message, ctx):
        return f"dear diary: {message.content}"
'''


class PaperAgent:
    """An agent's parts, put together as a runner does.

    Attributes:
        reloads: how often a command of a chat asked for a reload; answered with ``reload_fails``.
    """

    def __init__(self, play: Play, **fields: Any) -> None:
        shared = play.shared
        record = play.fleet.record(AGENT, **{"handler": "diary", **fields})
        self.reloads = 0
        self.reload_fails = ""
        self.situation = Situation("diary", AgentState.ONLINE, 0.0)
        self.desired = Desired(record, shared.clock)
        log = get_logger("supervisor.agent").bind(agent=AGENT)
        self.agent = Agent(record, shared, log, AgentActions(lambda: self.situation, self._reload))
        self.pipeline = self.agent.pipeline
        self.configuration = Configuration(self.agent, self.desired, shared)
        self.dialer = Dialer(self.agent, shared)
        self.findability = Findability(self.agent, self.dialer, shared, self.configuration.adopt)
        self.rotation = Rotation(self.agent, self.dialer, ACK_SECONDS, self.findability)

    async def _reload(self) -> str:
        self.reloads += 1
        return self.reload_fails

    async def configure(self) -> None:
        """Take over the row that is wanted, and start the handler with a token."""
        await self.configuration.take_over()
        await self.configuration.grant()

    async def connect(self) -> Connection:
        """Open a connection and use it."""
        connection = await self.dialer.open(self.configuration.grant, lambda _: None)
        self.agent.use(connection)
        return connection

    async def disconnect(self) -> None:
        """Close the connection that is in use."""
        connection = self.agent.connection
        self.agent.use(None)
        self.dialer.lost()
        if connection is not None:
            await connection.close()

    async def come_online(self) -> Connection:
        """All that a runner does until an agent is online."""
        await self.configuration.take_over()
        await self.pipeline.restore()
        await self.configuration.grant()
        return await self.connect()

    async def close(self) -> None:
        """End all of it."""
        await self.disconnect()
        await self.agent.close()
        await self.rotation.close()
        await self.configuration.close()


@asynccontextmanager
async def paper_agent(play: Play, **fields: Any) -> AsyncIterator[PaperAgent]:
    """An agent that is not configured yet; it is closed afterwards.

    Args:
        fields: of the row.
    """
    made = PaperAgent(play, **fields)
    try:
        yield made
    finally:
        await play.loop.complete(made.close())
