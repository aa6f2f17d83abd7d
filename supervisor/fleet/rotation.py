"""Replaces the connection of an agent that is online, without a moment in which it cannot be reached."""

from __future__ import annotations

import asyncio
from typing import Any

from supervisor.core.errors import ConnectError
from supervisor.core.tasks import TaskSet
from supervisor.fleet.agent import Agent
from supervisor.fleet.dialer import Dialer
from supervisor.fleet.findability import Findability
from supervisor.platform.connection import Connection
from supervisor.platform.connector import Grants

#: After so many refusals of a second socket in a row the first one is closed to make room.
REFUSED_ROTATIONS = 2
#: How long the first socket is kept for conversations that the second one cannot join.
JOIN_SECONDS = 300.0


class SecondSocketRefusedError(Exception):
    """The platform allows an agent one socket: the first is closed, so that the next attempt has the place."""


class Rotation:
    """One agent's way from one connection to the next: make before break, where the platform allows it.

    Args:
        ack_seconds: how long the platform's acknowledgements may take.
        findability: told of each new connection, and when its predecessor is gone.
    """

    def __init__(self, agent: Agent, dialer: Dialer, ack_seconds: float, findability: Findability) -> None:
        self._findability = findability
        self.renewal = findability.renewal
        self._agent = agent
        self._dialer = dialer
        self._ack_seconds = ack_seconds
        self._refused = 0
        self._one_socket_only = False
        self._opening = False
        self._retiring = TaskSet()

    @property
    def opening(self) -> bool:
        """Whether a second connection is being opened: it may outlive the first."""
        return self._opening

    async def run(self, old: Connection, grants: Grants) -> Connection:
        """Open a new connection and let the agent use it; the old one closes once the new one has joined everywhere.

        Args:
            grants: gives a valid token.

        Raises:
            SecondSocketRefusedError: the platform allows one socket an agent; the old one is closed.
            PlatformError: the new one could not be opened.
        """
        if self._one_socket_only:
            await self._make_room(old)
        self._opening = True
        try:
            new = await self._dialer.open(grants, lambda: None)
        except ConnectError as error:
            if not (error.refused and old.connected):
                raise
            await self._refusal(old, error)
            # Not the agent's fault, since its first socket works: as a passing failure it is tried again.
            raise ConnectError(error.reason, refused=True) from error
        finally:
            self._opening = False
        self._refused = 0
        self._agent.use(new)
        self._findability.opened(new, beside_another=True)
        self._retiring.spawn(self._hand_over(old, new), f"retire {self._agent.record.id}")
        return new

    async def _refusal(self, old: Connection, error: ConnectError) -> None:
        """Fall back to break before make where a second socket is refused again and again beside one that works."""
        self._refused += 1
        if self._refused >= REFUSED_ROTATIONS:
            self._one_socket_only = True
            self._agent.log.info("second_socket_refused", reason=error.reason, remedy="renewing by break before make")
            await self._make_room(old)

    async def _make_room(self, old: Connection) -> None:
        """Close the first socket once it has ended what it was at.

        Raises:
            SecondSocketRefusedError: always; the agent has no connection now.
        """
        self._agent.use(None)
        await self._retire(old)
        raise SecondSocketRefusedError

    async def _hand_over(self, old: Connection, new: Connection) -> None:
        """Close the first socket once the second one is in every conversation; until then both are listened to."""
        joined = asyncio.ensure_future(new.joined.wait())
        over: list[asyncio.Future[Any]] = [joined, old.closed, new.closed]
        try:
            await asyncio.wait(over, timeout=JOIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await old.close()
            raise
        finally:
            joined.cancel()
            await asyncio.gather(joined, return_exceptions=True)
        if not await self._retire(old) and new.connected:
            # The old one had died, nobody knows when: what was sent into it is in the history only.
            self._agent.pipeline.catch_up(new)
        self._findability.alone(new)

    async def _retire(self, old: Connection) -> bool:
        """Close a socket that has ended what it was at; whether all that was sent to it is certainly in."""
        try:
            # A send in flight is settled on the socket that carries it: repeated, it could be doubled. And what the
            # platform sent before the new socket was in a conversation is on the old one only.
            return await old.drain(self._ack_seconds)
        finally:
            await old.close()

    async def close(self) -> None:
        """Close the sockets that were on their way out."""
        await self._retiring.cancel()
