"""The replicas that share a registry in PostgreSQL."""

# ruff: noqa: S608 - the texts are put together from constants of ours; every value is bound

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from supervisor.core.errors import ReplicaError
from supervisor.core.replicas import Replica
from supervisor.store.dialect.replicas import Burden, Share, replica_of
from supervisor.store.postgres.burden import weigh
from supervisor.store.postgres.errors import FencedError
from supervisor.store.postgres.holding import Hold
from supervisor.store.postgres.joining import read_info
from supervisor.store.postgres.placing import Placement
from supervisor.store.sql.agent_rows import find_rows_where
from supervisor.store.sql.sessions import Connection, Sessions, scalar

#: How long a replica that drains waits for an agent to be connected elsewhere.
_LONGEST_SECONDS: Final = 20.0
_OWNERS: Final = "SELECT agent_id, owner FROM leases WHERE owner IS NOT NULL"
_OWNERS_OF: Final = f"{_OWNERS} AND agent_id = ANY(CAST(:agent_ids AS text[]))"
_UNHEARD: Final = (
    "SELECT id, owner FROM agents LEFT JOIN leases ON agent_id = id "
    "WHERE owner IS NULL OR owner <> ALL(CAST(:answered AS bigint[]))"
)
_LIST: Final = (
    "SELECT id, said, CAST(extract(epoch FROM clock_timestamp() - beat_at) AS double precision), draining, "
    "(SELECT count(*) FROM leases WHERE owner = replicas.id) FROM replicas ORDER BY id"
)
_SINCE: Final = "CAST(extract(epoch FROM next_at) AS double precision)"
_SHARE: Final = (
    "SELECT agent_id, owner = :replica, handed AND heard_all, epoch > 1 AND NOT handed, next IS NOT NULL AND (ready OR "
    "((refused_at > next_at OR next_at < clock_timestamp() - make_interval(secs => :longest)) "
    f"AND (SELECT draining FROM replicas WHERE id = :replica))), CASE WHEN ready THEN {_SINCE} END "
    "FROM leases WHERE owner = :replica UNION ALL "
    "SELECT agent_id, false, false, false, false, NULL FROM leases WHERE next = :replica"
)
_MINE: Final = "WHERE agents.id IN (SELECT agent_id FROM leases WHERE owner = :replica OR next = :replica)"
_LIVES: Final = "SELECT 1 FROM replicas WHERE id = :replica"
_READY: Final = "UPDATE leases SET ready = true WHERE agent_id = :agent_id AND next = :replica AND NOT ready"
_REFUSED: Final = "UPDATE leases SET refused_at = clock_timestamp() WHERE agent_id = :agent_id AND next = :replica"
_HAND_OVER: Final = (
    "UPDATE leases SET owner = CASE WHEN EXISTS (SELECT 1 FROM agents WHERE id = agent_id) THEN next END, "
    "epoch = epoch + 1, next = NULL, next_at = NULL, ready = false, "
    f"handed = next IS NOT NULL, heard_all = coalesce({_SINCE} = CAST(:since AS double precision), false), "
    "since = clock_timestamp() "
    "WHERE agent_id = :agent_id AND owner = :replica"
)
#: By the database's clock: those of two machines may be hours apart.
_KEPT: Final = (
    "SELECT sealed, CAST(extract(epoch FROM clock_timestamp() - asked_at) AS double precision) FROM agent_tokens "
    "WHERE agent_id = :agent_id"
)
_KEEP: Final = (
    "INSERT INTO agent_tokens (agent_id, sealed, asked_at) SELECT agent_id, CAST(:sealed AS bytea), "
    "clock_timestamp() - make_interval(secs => :age) FROM leases "
    "WHERE agent_id = :agent_id AND :replica IN (owner, next) "
    "ON CONFLICT (agent_id) DO UPDATE SET sealed = excluded.sealed, asked_at = excluded.asked_at"
)
_FORGET: Final = "DELETE FROM agent_tokens WHERE agent_id = :agent_id"
_DRAIN: Final = "UPDATE replicas SET draining = true WHERE id = :id"


class Replicas:
    """What :class:`~supervisor.store.dialect.replicas.ReplicaTable` describes.

    Args:
        where: how the registry is named to people.
        placement: gives agents away, where this process runs any.
        hold: by which it runs them.
    """

    shared: Final = True

    def __init__(self, where: str, sessions: Sessions, hold: Hold | None, placement: Placement | None) -> None:
        self._where = where
        self._sessions = sessions
        self._hold = hold
        self.my_id = None if hold is None else hold.number
        self._placement = placement

    @property
    def living(self) -> int:
        return 1 if self._hold is None else self._hold.living

    @property
    def takers(self) -> int:
        return 0 if self._hold is None else self._hold.takers

    @property
    def draining(self) -> bool:
        return self._hold is not None and self._hold.draining

    @property
    def buried(self) -> int:
        return 0 if self._hold is None else self._hold.buried

    @property
    def heard_down(self) -> Mapping[int, frozenset[str]]:
        return {} if self._hold is None else self._hold.heard_down

    def tell_down(self, hosts: frozenset[str]) -> None:
        if self._hold is not None:
            self._hold.down = hosts

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

    async def owners(self, agent_ids: Sequence[str] | None = None) -> Mapping[str, int]:
        if agent_ids is None:
            return await self._sessions.read(lambda connection: _pairs(connection, _OWNERS, {}))
        asked = {"agent_ids": list(agent_ids)}
        return await self._sessions.read(lambda connection: _pairs(connection, _OWNERS_OF, asked))

    async def unheard(self, answered: Sequence[int]) -> Mapping[str, int | None]:
        return await self._sessions.read(lambda connection: _pairs(connection, _UNHEARD, {"answered": list(answered)}))

    async def share(self) -> Share:
        if self._placement is not None:
            # Whoever has added an agent wants to see it run.
            await self._placement.plan_few()
        return await self._sessions.read(self._share)

    def _share(self, connection: Connection) -> Share:
        values = {"replica": self.my_id}
        # Agents before leases: of one that comes in between the row is not known yet, and it waits for the next look.
        rows = {str(row["id"]): row for row in find_rows_where(connection, _MINE, values)}
        found = connection.execute(_SHARE, {**values, "longest": _LONGEST_SECONDS}).fetchall()
        if self.my_id is not None and scalar(connection, _LIVES, values) is None:
            # Asked last, for a burial may come between: what was taken from it was not removed.
            raise FencedError(self._where)
        own = {agent_id for agent_id, mine, *_ in found if mine}
        return Share(
            [row for agent_id, row in rows.items() if agent_id in own],
            [row for agent_id, row in rows.items() if agent_id not in own],
            frozenset(agent_id for agent_id, *_, going, _ in found if going),
            frozenset(agent_id for agent_id, _, handed, *_ in found if handed),
            frozenset(agent_id for agent_id, _, _, left, *_ in found if left),
            {agent_id: since for agent_id, *_, going, since in found if going and since is not None},
        )

    async def ready(self, agent_id: str) -> None:
        await self._move(_READY, agent_id)

    async def refused(self, agent_id: str) -> None:
        await self._move(_REFUSED, agent_id)

    async def hand_over(self, agent_id: str, *, heard_all_for: float | None) -> None:
        await self._move(_HAND_OVER, agent_id, since=heard_all_for)

    async def _move(self, statement: str, agent_id: str, **more: float | None) -> None:
        values = {"agent_id": agent_id, "replica": self.my_id, **more}
        await self._sessions.alter(lambda connection: connection.execute(statement, values).rowcount)

    async def token(self, agent_id: str) -> tuple[bytes, float] | None:
        def find(connection: Connection) -> tuple[bytes, float] | None:
            found = connection.execute(_KEPT, {"agent_id": agent_id}).fetchone()
            return None if found is None else (bytes(found[0]), float(found[1]))

        return await self._sessions.read(find)

    async def keep_token(self, agent_id: str, sealed: bytes | None, age_seconds: float) -> None:
        values = {"agent_id": agent_id, "replica": self.my_id, "sealed": sealed, "age": age_seconds}
        statement = _FORGET if sealed is None else _KEEP
        await self._sessions.alter(lambda connection: connection.execute(statement, values).rowcount)

    async def burden(self) -> Burden:
        return await self._sessions.read(weigh)

    async def leave(self) -> None:
        await self._sessions.alter(lambda connection: connection.execute(_DRAIN, {"id": self.my_id}).rowcount)

    async def drain(self, replica_id: int) -> None:
        if not await self._sessions.alter(lambda connection: connection.execute(_DRAIN, {"id": replica_id}).rowcount):
            raise ReplicaError(f"There is no replica {replica_id}; see them all with: supervisor replicas")


def _pairs(connection: Connection, query: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(map(tuple, connection.execute(query, values).fetchall()))
