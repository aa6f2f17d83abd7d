"""An agent that goes to another process: all that was said to it before that one was there is read first."""

from __future__ import annotations

import asyncio

from supervisor.fleet.agent import Agent
from supervisor.fleet.desired import Desired
from supervisor.platform.connection import Connection


class Going:
    """One agent's way to another process.

    Args:
        ack_seconds: how long the platform's acknowledgements may take.
    """

    def __init__(self, agent: Agent, desired: Desired, ack_seconds: float) -> None:
        self._agent = agent
        self._desired = desired
        self._ack_seconds = ack_seconds
        self._ready: float | None = None
        self._has_read = False

    def begin(self, grace_seconds: float, ready: float | None) -> None:
        """Another process is to have the agent: drain for so long at most, then end.

        Args:
            ready: since when it is to be there, where it is connected; None: it is not, and something may be said
                before it is that nobody hears.
        """
        self._ready = ready
        self._desired.stop(grace_seconds)

    async def read(self, connection: Connection) -> None:
        """Take in what the agent's sockets have, before it drains; nothing is done where nobody relies on it."""
        if self._ready is None:
            return
        reads = [one.read_all(self._ack_seconds) for one in self._agent.sockets(connection)]
        self._has_read = all(await asyncio.gather(*reads))

    @property
    def heard_all_for(self) -> float | None:
        """Of one that has gone, where all that was said before the other process was there is written: ``ready``."""
        pipeline = self._agent.pipeline
        return self._ready if self._has_read and pipeline.roster.complete and not pipeline.inbox.left else None
