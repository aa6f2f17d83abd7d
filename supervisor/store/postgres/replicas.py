"""The replicas that share a registry in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.core.replicas import Replica
from supervisor.store.dialect.replicas import replica_of
from supervisor.store.postgres.holding import read_info
from supervisor.store.sql.sessions import Connection, Sessions

_OWNERS: Final = "SELECT id, (SELECT max(id) FROM replicas) FROM agents WHERE EXISTS (SELECT 1 FROM replicas)"
_LIST: Final = (
    "SELECT id, said, CAST(extract(epoch FROM clock_timestamp() - beat_at) AS double precision), draining, "
    "CASE WHEN id = (SELECT max(id) FROM replicas) THEN (SELECT count(*) FROM agents) ELSE 0 END "
    "FROM replicas ORDER BY id"
)
_DRAIN: Final = "UPDATE replicas SET draining = true WHERE id = :id"


class Replicas:
    """What :class:`~supervisor.store.dialect.replicas.ReplicaTable` describes.

    Args:
        my_id: of this process.
    """

    shared: Final = True

    def __init__(self, sessions: Sessions, my_id: int | None) -> None:
        self._sessions = sessions
        self.my_id = my_id

    async def list(self) -> Sequence[Replica]:
        return await self._sessions.read(self._list)

    def _list(self, connection: Connection) -> Sequence[Replica]:
        return [
            replica_of(
                number,
                read_info(said),
                agents=agents,
                me=number == self.my_id,
                beat_age_seconds=max(0.0, age),
                draining=draining,
            )
            for number, said, age, draining, agents in connection.execute(_LIST).fetchall()
        ]

    async def owners(self) -> Mapping[str, int]:
        return await self._sessions.read(lambda connection: dict(map(tuple, connection.execute(_OWNERS).fetchall())))

    async def drain(self, replica_id: int) -> None:
        if not await self._sessions.alter(lambda connection: connection.execute(_DRAIN, {"id": replica_id}).rowcount):
            raise RegistryError(f"There is no replica {replica_id}; see them all with: supervisor replicas")
