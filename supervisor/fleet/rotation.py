"""Replaces the connection of an agent that is online, without a moment in which it cannot be reached."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import Any

from supervisor.core.errors import ConnectError
from supervisor.core.tasks import TaskSet
from supervisor.fleet.agent import Agent
from supervisor.fleet.dialer import Dialer
from supervisor.fleet.findability import Findability
from supervisor.platform.connection import Connection
from supervisor.platform.connector import Grants
from supervisor.platform.hosts.facts import ONE_SOCKET_SECONDS, SocketFacts
from supervisor.platform.transport import KICKED

#: So often in a row a second socket is refused, or puts out the first, before the platform counts as one of one socket.
REFUSED_ROTATIONS = 2
#: How long the first socket is kept for conversations that the second one cannot join.
JOIN_SECONDS = 300.0
#: A first socket that the platform ends so soon after it let the second one in was put out by it.
PUT_OUT_SECONDS = 1.0
#: Whoever comes online so soon after it made room was kept out by its own first socket.
ROOM_SECONDS = 10.0
#: How long a moment in which nothing is under way is waited for, before the only socket is closed.
CALM_SECONDS = 3.0
_LOOK_SECONDS = 0.02


class SecondSocketRefusedError(Exception):
    """The platform allows an agent one socket: the first is closed, so that the next attempt has the place."""


class Rotation:
    """One agent's way from one connection to the next: make before break, where the platform allows it.

    The second socket is used as soon as it is proven, or as it is when the first goes before that.

    Args:
        ack_seconds: how long the platform's acknowledgements may take.
        findability: told of each new connection, and when its predecessor is gone.
    """

    def __init__(self, agent: Agent, dialer: Dialer, ack_seconds: float, findability: Findability) -> None:
        self._findability = findability
        self.renewal = findability.renewal
        self.heartbeat = findability.heartbeat
        self._agent = agent
        self._dialer = dialer
        self._clock = dialer.clock
        self._ack_seconds = ack_seconds
        self._opening = False
        self._taken_over = False
        self._second: Connection | None = None
        self._second_at = self._ended_at = self._room_at = -math.inf
        self._refused = self._put_out = 0
        self._needs_room = False
        self._retiring = TaskSet()

    @property
    def opening(self) -> bool:
        """Whether a second connection is being opened: it may outlive the first."""
        return self._opening

    @property
    def taken_over(self) -> bool:
        """Whether the second connection is in use although it is not proven yet: the first is gone."""
        return self._taken_over

    async def run(self, old: Connection, grants: Grants) -> Connection:
        """Open a new connection and let the agent use it; the old one closes once the new one has joined everywhere.

        Args:
            grants: gives a valid token.

        Raises:
            SecondSocketRefusedError: the platform allows one socket an agent; the old one is closed.
            PlatformError: the new one could not be opened.
        """
        if self._needs_room or self._is_one_socket(old.facts) or not self._dialer.room.take_second():
            await self._make_room(old)
        try:
            new = await self._open_second(old, grants)
        except BaseException:
            self._dialer.room.leave_second()
            self._findability.alone(old)
            raise
        old.closed.add_done_callback(lambda _: self._dialer.room.leave_second())
        self._refused = 0
        self._notice_put_out(old, new)
        if self._agent.connection is not new:
            self._agent.use(new)
            self._findability.opened(new, beside_another=True)
        self._retiring.spawn(self._hand_over(old, new), f"retire {self._agent.record.id}")
        return new

    async def _open_second(self, old: Connection, grants: Grants) -> Connection:
        self._opening = True
        self._findability.another()
        self._second_at = self._ended_at = -math.inf
        old.closed.add_done_callback(self._first_gone)
        try:
            return await self._dialer.open(grants, partial(self._offered, old))
        except ConnectError as error:
            if not (error.refused and old.connected):
                raise
            await self._refusal(old, error)
            # Not the agent's fault, since its first socket works: as a passing failure it is tried again.
            raise ConnectError(error.reason, refused=True) from error
        finally:
            old.closed.remove_done_callback(self._first_gone)
            self._opening = self._taken_over = False
            self._second = None

    def _offered(self, first: Connection, second: Connection) -> None:
        """A second socket is open, and waits for what proves it."""
        self._second, self._second_at = second, self._clock.monotonic()
        if first.closed.done():
            self._take_over(second)

    def _first_gone(self, _closed: asyncio.Future[str]) -> None:
        self._ended_at = self._clock.monotonic()
        if self._second is not None and self._second.connected:
            self._take_over(self._second)

    def _notice_put_out(self, old: Connection, new: Connection) -> None:
        """The new socket is proven: notice whether it put out the old one; the end of a token is none of that."""
        kicked = old.closed.done() and old.closed.result() == KICKED and not old.grant.expired(self._clock, within=1)
        if not kicked or abs(self._ended_at - self._second_at) > PUT_OUT_SECONDS:
            self._put_out = 0
            return
        self._put_out += 1
        if self._put_out >= self._enough(new.facts):
            self._learn_one_socket(new, "a second socket puts out the first")

    def _take_over(self, second: Connection) -> None:
        """The first socket is gone: whatever is proven of the second one, it is all that the agent has."""
        self._taken_over = True
        self._agent.use(second)
        self._findability.opened(second)

    async def _refusal(self, old: Connection, error: ConnectError) -> None:
        """Fall back to break before make where a second socket is refused again and again beside one that works."""
        self._refused += 1
        if self._refused >= self._enough(old.facts):
            self._needs_room = True
            self._agent.log.info("second_socket_refused", reason=error.reason, remedy="renewing by break before make")
            await self._make_room(old)

    async def _make_room(self, old: Connection) -> None:
        """Close the first socket, at a calm moment, once it has ended what it was at.

        Raises:
            SecondSocketRefusedError: always; the agent has no connection now.
        """
        await self._calm(old)
        self._agent.use(None)
        await self._retire(old)
        self._room_at = self._clock.monotonic()
        raise SecondSocketRefusedError

    async def _calm(self, old: Connection) -> None:
        """Wait for a moment in which nothing is under way; not for long, and not until the token ends."""
        until = self._clock.monotonic() + min(CALM_SECONDS, old.grant.seconds_left(self._clock) / 2)
        while not self._agent.pipeline.idle and old.connected and self._clock.monotonic() < until:
            await self._clock.sleep(_LOOK_SECONDS)

    def came_online(self, connection: Connection) -> None:
        """The agent is online with its only socket: whether making room for it was of any use is known now."""
        if self._needs_room and self._clock.monotonic() - self._room_at < ROOM_SECONDS:
            self._learn_one_socket(connection, "a second socket is refused")
        elif self._room_at > -math.inf:
            # An ill platform refuses first sockets as well.
            self._needs_room = False
            self._refused = 0
        self._room_at = -math.inf

    def _is_one_socket(self, facts: SocketFacts) -> bool:
        return self._clock.monotonic() < facts.one_socket_until

    @staticmethod
    def _enough(facts: SocketFacts) -> int:
        """How many rotations have to fail alike; once does where the platform was known for it before."""
        return REFUSED_ROTATIONS if facts.one_socket_until == -math.inf else 1

    def _learn_one_socket(self, connection: Connection, reason: str) -> None:
        """From now on all agents of the host make room first, until that is forgotten and tried again."""
        self._needs_room = False
        self._refused = self._put_out = 0
        if not self._is_one_socket(connection.facts):
            connection.facts.one_socket_until = self._clock.monotonic() + ONE_SOCKET_SECONDS
            self._agent.log.info("one_socket_platform", reason=reason, remedy="renewing by break before make")

    async def _hand_over(self, old: Connection, new: Connection) -> None:
        """Close the first socket once the second one is in every conversation; until then both are listened to."""
        joined = new.joined.waiter()
        over: list[asyncio.Future[Any]] = [joined, old.closed, new.closed]
        try:
            await asyncio.wait(over, timeout=JOIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await old.close()
            raise
        finally:
            joined.cancel()
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
