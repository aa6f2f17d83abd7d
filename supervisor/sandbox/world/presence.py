"""Where the platform finds an agent: the Redis set of its sockets (docs/protocol.md#7-findings, 1).

A set is filled by the agent's connect and expires as a whole. Nothing that an agent may send renews it before stage
iii of v3, so v2 finds a connected agent for an hour: conversations begun later do not reach it, those that its socket
is in go on.
"""

import time
from collections.abc import Callable

from supervisor.sandbox.world.log import EventLog


class PresenceSets:
    """The sets ``presence:agent:{id}`` of socket ids.

    Args:
        expire_seconds: Life of a set from the last connect on; 3600 on the platform.
        clock: Seconds that only grow.
    """

    def __init__(
        self, log: EventLog, *, expire_seconds: float = 3600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.expire_seconds = expire_seconds
        self._log = log
        self._clock = clock
        self._sets: dict[str, set[str]] = {}
        self._ends: dict[str, float] = {}

    def add(self, agent_id: str, sid: str) -> None:
        """A socket connected: it joins the set, and the whole set lives anew."""
        self._living(agent_id).add(sid)
        self._renew(agent_id)

    def replace(self, agent_id: str, sid: str) -> None:
        """v3, stage iii: a socket connected or sent a heartbeat, and is the only one in the set from now on."""
        self._sets[agent_id] = {sid}
        self._renew(agent_id)

    def remove(self, agent_id: str, sid: str) -> None:
        """A socket closed."""
        sids = self._living(agent_id)
        sids.discard(sid)
        if not sids:
            self._drop(agent_id)

    def sockets_of(self, agent_id: str) -> frozenset[str]:
        """The socket ids under which an agent is found now; empty for one that was forgotten."""
        return frozenset(self._sets[agent_id]) if self._ends.get(agent_id, 0.0) > self._clock() else frozenset()

    def forget(self, *agent_ids: str) -> None:
        """Forget these agents at once; without any, all: a Redis that lost its data. Open sockets stay."""
        for agent_id in agent_ids or tuple(self._sets):
            self._drop(agent_id)
            self._log.add("forgotten", agent_id)

    def _living(self, agent_id: str) -> set[str]:
        if not self.sockets_of(agent_id):
            self._sets[agent_id] = set()
        return self._sets[agent_id]

    def _renew(self, agent_id: str) -> None:
        self._ends[agent_id] = self._clock() + self.expire_seconds

    def _drop(self, agent_id: str) -> None:
        self._sets.pop(agent_id, None)
        self._ends.pop(agent_id, None)
