"""Sends one agent's heartbeats over its newest socket, where the platform acknowledges them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

from supervisor.core.errors import AckTimeoutError, ConnectionLostError, PlatformError
from supervisor.fleet.agent import Agent
from supervisor.fleet.renewal import Renewal
from supervisor.fleet.shared import Shared
from supervisor.platform.connection import Connection, is_found_by_heartbeat
from supervisor.platform.questions import HEARTBEAT

#: From one heartbeat to the next, drawn between these parts of ``HEARTBEAT_SECONDS``; the platform expects one every 30
#: to 60 s (docs/protocol.md#8-third-generation, 3).
BEAT_PARTS: Final = (2 / 3, 4 / 3)
#: Where heartbeats were never acknowledged one connection in so many tries again: the platform may have been rebuilt.
TRY_AGAIN: Final = 20


class Heartbeat:
    """One agent's heartbeats.

    The platform finds an agent at the socket that sent the last one. So the newest socket beats, at once, and no other.

    Args:
        renewal: told when the platform was reminded of the agent.
        on_token: told a fresh token that came with an answer.

    Attributes:
        answered_at: when the platform answered last, and did not refuse the agent (monotonic seconds).
    """

    def __init__(
        self, agent: Agent, shared: Shared, renewal: Renewal, *, on_token: Callable[[str], Awaitable[None]]
    ) -> None:
        self._agent = agent
        self._renewal = renewal
        self._on_token = on_token
        self._clock = shared.clock
        self._uniform = shared.uniform
        self._seconds = shared.settings.heartbeat_seconds
        self._ack_seconds = shared.settings.ack_seconds
        self._connection: Connection | None = None
        self.answered_at = -math.inf

    def opened(self, connection: Connection) -> None:
        """Beat over ``connection`` from now on, while its platform answers."""
        self._connection = connection
        answered, try_anyway = False, self._uniform(0, TRY_AGAIN) < 1

        async def beat() -> float | None:
            nonlocal answered
            said = await self._say(connection)
            answered = said or answered
            return None if said is None else self._pause()

        def turn() -> float | Awaitable[float | None] | None:
            nonlocal try_anyway
            if connection is not self._connection or not connection.connected:
                return None
            # One that was answered on this socket is answered again: an ill platform is silent for a while. Elsewhere
            # it is enough to look whether another agent was answered.
            if answered or try_anyway or connection.facts.acks(HEARTBEAT) is not False:
                try_anyway = False
                return beat()
            return self._pause()

        connection.chores.repeat(self._clock, turn, 0.0, "heartbeat")

    def _pause(self) -> float:
        return self._seconds * self._uniform(*BEAT_PARTS)

    def alone(self, connection: Connection) -> None:
        """Another socket of the agent is closed: where it was the last to be heard, the agent is not found any more."""
        if connection is self._connection and connection.connected and is_found_by_heartbeat(connection):
            connection.start_task(self._once(connection), "heartbeat")

    async def _once(self, connection: Connection) -> None:
        await self._say(connection)

    async def _say(self, connection: Connection) -> bool | None:
        """Send one heartbeat; whether it was answered, None where it was the last one of this socket."""
        try:
            return await self._beat(connection)
        except ConnectionLostError:
            return None
        except PlatformError as error:
            if connection is self._connection:
                self._agent.on_refused(error)
            return None

    async def _beat(self, connection: Connection) -> bool:
        """Send one heartbeat; whether it was answered.

        Raises:
            ConnectionLostError: the connection is gone.
            PlatformError: the platform refuses the agent.
        """
        sent_at = self._clock.monotonic()
        try:
            answer = await connection.questions.beat(self._ack_seconds)
        except AckTimeoutError:
            connection.facts.unanswered(HEARTBEAT)
            return False
        except ConnectionLostError:
            raise
        except PlatformError as error:
            if error.refusal is not None:
                raise
            self._agent.log.debug("heartbeat_failed", reason=error.reason)
            return True
        if connection is not self._connection:
            # Late: the newest one hears for itself how the agent stands, and may have a newer token.
            return True
        self.answered_at = self._clock.monotonic()
        if is_found_by_heartbeat(connection):
            self._renewal.reminded(connection, sent_at)
        if answer.token is not None:
            await self._on_token(answer.token)
        return True
