"""Sends one agent's heartbeats over its newest socket, where the platform acknowledges them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from supervisor.core.errors import AckTimeoutError, ConnectionLostError, PlatformError
from supervisor.fleet.agent import Agent
from supervisor.fleet.dialer import Dialer
from supervisor.platform.connection import PROOF_SECONDS, Connection
from supervisor.platform.endpoint import ROOT
from supervisor.platform.questions import HEARTBEAT

#: From one heartbeat to the next, drawn between the two (docs/protocol.md#8-third-generation, 3).
BEAT_SECONDS: Final = (30.0, 60.0)
#: Where heartbeats were never acknowledged one connection in so many tries again: the platform may have been rebuilt.
TRY_AGAIN: Final = 20


class Heartbeat:
    """One agent's heartbeats.

    The platform finds an agent at the socket that sent the last one. So the newest socket beats, at once, and no other.

    Args:
        on_token: told a fresh token that came with an answer.
        uniform: draws between two bounds.
    """

    def __init__(
        self,
        agent: Agent,
        dialer: Dialer,
        *,
        on_token: Callable[[str], Awaitable[None]],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._agent = agent
        self._dialer = dialer
        self._on_token = on_token
        self._uniform = uniform
        self._connection: Connection | None = None

    def opened(self, connection: Connection) -> None:
        """Beat over ``connection`` from now on, if its platform answers."""
        self._connection = connection
        acks = connection.facts.acks(HEARTBEAT)
        if acks is not False or self._uniform(0, TRY_AGAIN) < 1:
            connection.start_task(self._beat(connection), "heartbeat")

    async def _beat(self, connection: Connection) -> None:
        while connection is self._connection and connection.connected:
            try:
                answer = await connection.questions.beat(PROOF_SECONDS)
            except AckTimeoutError:
                connection.facts.unanswered(HEARTBEAT)
                if connection.facts.acks(HEARTBEAT) is not True:
                    return
            except ConnectionLostError:
                return
            except PlatformError as error:
                if error.refusal is not None:
                    self._agent.on_refused(error)
                    return
                self._agent.log.debug("heartbeat_failed", reason=error.reason)
            else:
                connection.reminded = connection.namespace == ROOT
                if answer.token is not None:
                    await self._on_token(answer.token)
            await self._dialer.clock.sleep(self._uniform(*BEAT_SECONDS))
