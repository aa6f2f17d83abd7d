"""Fetches an agent's works by REST where its socket brings none: only while the row asks for works."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.beats import HeartbeatClient
from supervisor.platform.connection import Connection
from supervisor.platform.heartbeats import Pulse
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.questions import HEARTBEAT


class WorkFetcher:
    """One agent's heartbeats by REST.

    Args:
        pulse: what they say, and what becomes of that which they bring.
        access: where to ask and with what; called for each question, since both change.
        seconds: how often, at most; drawn from the last third, so that a fleet does not ask at once.
        on_refused: told that the platform refuses the agent: it is suspended, or gone.
        log: the agent's logger.
    """

    def __init__(
        self,
        client: HeartbeatClient,
        pulse: Pulse,
        access: Callable[[], Access],
        clock: Clock,
        *,
        seconds: float,
        on_refused: Callable[[PlatformError], None],
        log: Any,
    ) -> None:
        self._client = client
        self._pulse = pulse
        self._access = access
        self._clock = clock
        self._seconds = seconds
        self._on_refused = on_refused
        self._log = log
        self._failing = ""

    async def run(self, connection: Connection, in_use: Callable[[], bool]) -> None:
        """Go on while the connection is there.

        Args:
            in_use: whether it is still the one in use; another one has heartbeats of its own.
        """
        while in_use():
            await self._clock.sleep(self._seconds * random.uniform(2 / 3, 1.0))  # noqa: S311
            # Where the socket's heartbeats are acknowledged they bring the works.
            by_socket = connection.facts.acks(HEARTBEAT) is True
            if in_use() and not by_socket and self._pulse.wanted_by_rest:
                await self._beat(connection.agent_id)

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
