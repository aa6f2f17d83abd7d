"""What is written to the journal outside of batches, where several processes share it: each for its own agents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

from supervisor.core.records import JournaledMessage, Reply
from supervisor.store.postgres.placing import FORGET
from supervisor.store.sql import SqlChanges, changes, lives
from supervisor.store.sql.sessions import Connection, Sessions, scalar

#: Whoever has had agents whose rows are gone clears up after them; those that nobody ever had are left.
_NOBODYS: Final = (
    "SELECT agent_id FROM agent_keys WHERE NOT EXISTS (SELECT 1 FROM agents WHERE id = agent_keys.agent_id) "
    "AND NOT EXISTS (SELECT 1 FROM leases WHERE agent_id = agent_keys.agent_id) "
    "AND (EXISTS (SELECT 1 FROM inbox_open WHERE agent_key = agent_keys.key AND state < 3) "
    "OR EXISTS (SELECT 1 FROM outbox_open WHERE agent_key = agent_keys.key))"
)
_ANOTHERS: Final = "SELECT EXISTS (SELECT 1 FROM leases WHERE agent_id = :agent_id AND owner <> :replica)"
_IS_FIRST: Final = "SELECT min(id) = :replica FROM replicas"
_TOUCH: Final = "INSERT INTO agent_changes (agent_id) VALUES (:agent_id)"
_TELL: Final = "SELECT pg_notify('aiwm_agents', '')"


class PostgresChanges(SqlChanges):
    """As :class:`SqlChanges`; what is another process's is left to it.

    Args:
        replica: of this process; None: it runs no agents.
    """

    def __init__(self, sessions: Sessions, replica: int | None) -> None:
        super().__init__(sessions)
        self._replica = replica

    async def rescue(self, agent_id: str | None) -> int:
        # What the owner before left is given back before an agent has another one.
        return 0 if agent_id is None and self._replica is not None else await super().rescue(agent_id)

    async def cancel(self, agent_id: str | None, now: float) -> int:
        return await self._sessions.alter(partial(_cancel, agent_id=agent_id, replica=self._replica, now=now))

    async def replay(self, rows: Sequence[JournaledMessage]) -> list[bool]:
        done = await super().replay(rows)
        await self._tell({row.agent_id for row, won in zip(rows, done, strict=True) if won})
        return done

    async def replay_replies(self, replies: Sequence[Reply]) -> list[bool]:
        done = await super().replay_replies(replies)
        await self._tell({reply.agent_id for reply, won in zip(replies, done, strict=True) if won})
        return done

    async def prune(self, before: float) -> AsyncGenerator[int, None]:
        if self._replica is not None and not await self._sessions.read(self._is_first):
            return
        async with aclosing(super().prune(before)) as slices:
            async for deleted in slices:
                yield deleted

    def _is_first(self, connection: Connection) -> bool:
        return bool(scalar(connection, _IS_FIRST, {"replica": self._replica}))

    async def _tell(self, agents: set[str]) -> None:
        """Have the owners of some agents look at once."""
        if agents:
            await self._sessions.alter(partial(_touch, agents=sorted(agents)))


def _touch(connection: Connection, agents: Sequence[str]) -> None:
    for agent_id in agents:
        connection.execute(_TOUCH, {"agent_id": agent_id})
    connection.execute(_TELL)


def _cancel(connection: Connection, agent_id: str | None, replica: int | None, now: float) -> int:
    if agent_id is not None:
        if scalar(connection, _ANOTHERS, {"agent_id": agent_id, "replica": replica}):
            # It has gone to another process, which answers what waits.
            return 0
        cancelled = changes.cancel(connection, agent_id, now)
        connection.execute(FORGET, {"agent_id": agent_id})
        return cancelled
    lives.forget(connection, None)
    left = connection.execute(_NOBODYS).fetchall()
    return sum(changes.cancel(connection, nobodys, now) for (nobodys,) in left)
