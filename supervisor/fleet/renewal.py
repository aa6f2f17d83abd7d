"""When an agent's socket is to be replaced although it works: platforms forget agents that stay connected."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

from supervisor.core.clock import Clock
from supervisor.core.flags import Flag
from supervisor.platform.connection import Connection

#: A socket is renewed at an age drawn from the last fifth of what is allowed: a fleet that was started at once does not
#: connect at once again.
YOUNGEST = 0.8


class Renewal:
    """One agent's socket and its age.

    The second generation finds an agent for new conversations for an hour after its connect, whatever it does
    meanwhile (docs/protocol.md#7-findings, 1). So a socket is renewed before that, and at once where it turns out that
    the platform has forgotten the agent already.

    Args:
        max_age_seconds: the age that no socket exceeds on a platform that forgets (``SOCKET_MAX_AGE``).
        uniform: draws between two bounds; tests give their own.
    """

    def __init__(
        self, max_age_seconds: float, clock: Clock, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._max_age = max_age_seconds
        self._clock = clock
        self._uniform = uniform
        self._connection: Connection | None = None
        self._opened_at = self._due_at = self._old_at = math.inf
        self._forgotten = False
        self._woken = Flag()

    @property
    def due(self) -> bool:
        """Whether a new socket is due."""
        return self._forgotten or (self._fades and self._clock.monotonic() >= self._due_at)

    @property
    def unfindable(self) -> bool:
        """Whether the platform has forgotten the agent, as far as is known: it said so, or has had the time to."""
        return self._forgotten or (self._fades and self._clock.monotonic() >= self._old_at)

    @property
    def _fades(self) -> bool:
        return self._connection is not None and self._connection.fades

    def opened(self, connection: Connection) -> None:
        """The agent uses a new connection from now on."""
        self.closed()
        self._connection = connection
        self._begin(self._clock.monotonic())

    def reminded(self, connection: Connection, at: float) -> None:
        """The platform was reminded of the agent at ``at`` (monotonic seconds): the socket's time begins anew."""
        if connection is self._connection and at >= self._opened_at:
            self._begin(at)

    def _begin(self, at: float) -> None:
        self._opened_at = at
        self._old_at = at + self._max_age
        self._due_at = at + self._max_age * self._uniform(YOUNGEST, 1.0)

    def closed(self) -> None:
        """The agent has no connection."""
        self._connection = None
        self._opened_at = self._due_at = self._old_at = math.inf
        self._forgotten = False

    def forgotten(self, since: float) -> None:
        """The platform no longer finds agents that connected before ``since`` (monotonic seconds)."""
        if self._opened_at < since:
            self._forgotten = True
            self._woken.set()

    def seconds_to_due(self, seconds: float) -> float:
        """Seconds until a new socket is due, ``seconds`` at the most; none where it is due already."""
        if self.due:
            return 0.0
        to_age = self._due_at - self._clock.monotonic() if self._fades else seconds
        return max(0.0, min(seconds, to_age))

    def waiter(self) -> asyncio.Future[None]:
        """A future that is done once it is found that the platform has forgotten the agent.

        Whoever does not wait any more cancels it.
        """
        self._woken.clear()
        return self._woken.waiter()
