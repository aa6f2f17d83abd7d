"""Fetches an agent's works by REST where its socket brings none: only while the row asks for works."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.beats import HeartbeatClient
from supervisor.platform.connection import Connection
from supervisor.platform.heartbeats import Pulse
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.hosts.api_gate import Asker
from supervisor.platform.questions import HEARTBEAT


@dataclass(frozen=True, slots=True)
class Pace:
    """How often somebody asks.

    Args:
        seconds: from one question to the next, at the most.
        uniform: draws between two bounds; tests give their own.
    """

    clock: Clock
    seconds: float
    uniform: Callable[[float, float], float] = random.uniform


class WorkFetcher:
    """One agent's heartbeats by REST, less often in a large fleet.

    Args:
        pulse: what they say, and what becomes of that which they bring.
        access: where to ask and with what; called for each question, since both change.
        pace: how often; drawn from the last third, so that a fleet does not ask at once.
        on_refused: told that the platform refuses the agent: it is suspended, or gone.
        log: the agent's logger.
    """

    def __init__(
        self,
        client: HeartbeatClient,
        pulse: Pulse,
        access: Callable[[], Access],
        pace: Pace,
        *,
        on_refused: Callable[[PlatformError], None],
        log: Any,
    ) -> None:
        self._client = client
        self._pulse = pulse
        self._access = access
        self._pace = pace
        self._on_refused = on_refused
        self._log = log
        self._failing = ""

    def follow(self, connection: Connection, in_use: Callable[[], bool]) -> None:
        """Go on while the connection is there.

        Args:
            in_use: whether it is still the one in use; another one has heartbeats of its own.
        """
        asker = Asker("heartbeat")

        def turn() -> float | Awaitable[float | None] | None:
            if not in_use():
                return None
            return self._round(connection, asker) if self._wanted(connection) else self._next(connection, asker)

        connection.chores.repeat(self._pace.clock, turn, self._next(connection, asker), "works", at_end=asker.leave)

    async def _round(self, connection: Connection, asker: Asker) -> float:
        await self._beat(connection.agent_id)
        return self._next(connection, asker)

    def _next(self, connection: Connection, asker: Asker) -> float:
        """Seconds until the next round; who does not ask in it does not make others ask less often."""
        gate = self._client.gate(self._access())
        asker.ask_at(gate if self._wanted(connection) else None)
        return gate.interval("heartbeat", self._pace.seconds) * self._pace.uniform(2 / 3, 1.0)

    def _wanted(self, connection: Connection) -> bool:
        """Whether works are to be fetched: where the socket's heartbeats are acknowledged those bring them."""
        return self._pulse.wanted_by_rest and connection.facts.acks(HEARTBEAT) is not True

    async def _beat(self, agent_id: str) -> None:
        try:
            answer = await self._client.beat(self._access(), agent_id, self._pulse.body())
        except PlatformError as error:
            if error.verdict is Verdict.REJECT:
                self._on_refused(error)
            if error.reason != self._failing:
                # Once for each reason: the next heartbeat is soon.
                self._failing = error.reason
                self._log.warning("works_not_fetched", reason=error.reason)
        else:
            self._failing = ""
            self._pulse.take(answer)
