"""Whether the platform finds an agent for new conversations, which being connected does not prove."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from supervisor.core.errors import PlatformError
from supervisor.fleet.agent import Agent
from supervisor.fleet.dialer import Dialer
from supervisor.fleet.heartbeat import Heartbeat
from supervisor.fleet.renewal import Renewal
from supervisor.fleet.shared import Shared
from supervisor.platform.connection import Connection
from supervisor.platform.hosts.checks import HostChecks

#: Among so many of an agent's latest conversations the checks go round: one that is refused must not be all there is.
CONVERSATIONS = 8


class Findability:
    """One agent's part in the checks of its host; renews its socket by age where there is nothing to check with.

    Where the platform answers heartbeats they are sent, and at the newest each begins the socket's age anew.

    Args:
        on_token: told a fresh token that came with a heartbeat's answer.

    Attributes:
        renewal: when the socket is to be replaced.
    """

    def __init__(
        self, agent: Agent, dialer: Dialer, shared: Shared, on_token: Callable[[str], Awaitable[None]]
    ) -> None:
        self._agent = agent
        self._agent_id = agent.record.id
        self._dialer = dialer
        self._checks = shared.checks
        self._timeout = shared.settings.handshake_seconds
        self._connection: Connection | None = None
        self._entered: HostChecks | None = None
        self._beside_another = False
        self._others = 0
        self._number = itertools.count()
        self.renewal = Renewal(shared.settings.socket_max_age, shared.clock, uniform=shared.uniform)
        self.heartbeat = Heartbeat(agent, shared, self.renewal, on_token=on_token)

    @property
    def lost(self) -> bool:
        """Whether the agent is connected and, as far as is known, not found."""
        return self._connection is not None and self.renewal.unfindable

    def opened(self, connection: Connection, *, beside_another: bool = False) -> None:
        """The agent uses a new connection from now on.

        Args:
            beside_another: the one before is open still: a presence could be either's.
        """
        self._connection = connection
        self._beside_another = beside_another
        self.renewal.opened(connection)
        self.heartbeat.opened(connection)
        host = self._checks.of(self._dialer.host)
        takes_turns = _can_be_asked(connection)
        if self._entered is not None and (self._entered is not host or not takes_turns):
            self._entered.leave(self._agent_id)
            self._entered = None
        if takes_turns:
            self._entered = host
            host.enter(self._agent_id, self)

    def another(self) -> None:
        """Another connection is being made: from now on a presence could be either's."""
        self._beside_another = True
        self._others += 1

    def alone(self, connection: Connection) -> None:
        """The other connection is closed, of which all were told as if the agent were offline.

        A join of an own conversation shows whether the platform finds the agent.
        """
        if connection is self._connection:
            self._beside_another = False
            self.heartbeat.alone(connection)
            if self._entered is not None:
                self._entered.soon(self._agent_id)

    def closed(self) -> None:
        """The agent has no connection."""
        self._connection = None
        self.renewal.closed()
        if self._entered is not None:
            self._entered.leave(self._agent_id)
            self._entered = None

    @property
    def can_be_checked(self) -> bool:
        """Whether there is a conversation to ask with, on the agent's only socket."""
        connection = self._connection
        if connection is None or not _can_be_asked(connection) or self._beside_another or self.renewal.due:
            return False
        return bool(self._joined())

    async def check(self) -> bool | None:
        """Join a conversation once more; whether the platform finds the agent, None where that did not become clear."""
        connection, joined, others = self._connection, self._joined(), self._others
        if connection is None or not joined:
            return None
        found = await is_found(connection, joined[next(self._number) % len(joined)], self._timeout)
        # A new socket that is on its way causes the same presence, and so did one that failed meanwhile.
        unclear = connection is not self._connection or others != self._others or self.renewal.due
        return None if unclear else found

    def forgotten(self, since: float) -> None:
        """The platform has forgotten an agent that connected before ``since`` (monotonic seconds)."""
        self.renewal.forgotten(since)

    def _joined(self) -> list[str]:
        """The latest conversations that the connection is in, as far as is known."""
        connection = self._connection
        if connection is None or not connection.connected:
            return []
        latest = itertools.islice(reversed(self._agent.pipeline.inbox.conversations), CONVERSATIONS)
        return [one for one in latest if connection.member_since(one) is not None]


def _can_be_asked(connection: Connection) -> bool:
    """Whether a join tells something about it: where the platform forgets agents, and knows joins."""
    return connection.fades and not connection.at_agents_gateway


async def is_found(connection: Connection, conversation_id: str, timeout: float) -> bool | None:
    """Whether the platform finds the agent for new conversations (docs/protocol.md#7-findings, 1).

    A join of an own conversation is acknowledged either way; the own presence follows it only where it does.

    Args:
        conversation_id: one that the socket is in.
        timeout: seconds to wait for the acknowledgement, and again for the presence.

    Returns:
        None where the join failed, or is never acknowledged: that says nothing.
    """
    before = connection.presences
    try:
        if not await connection.join(conversation_id, timeout):
            return None
        async with asyncio.timeout(timeout):
            while connection.presences == before:
                connection.presence_came.clear()
                await connection.presence_came.wait()
    except TimeoutError:
        return False if connection.connected else None
    except PlatformError:
        return None
    return True
