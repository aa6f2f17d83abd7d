"""Gives agents that nobody has to the replicas: each replica tries now and then, one at a time does.

There is no leader to go stale: the lock that makes it one at a time is gone with the transaction. What an agent's last
owner had begun and not ended is given back in the same transaction, before the next one knows that it has the agent.
"""

# ruff: noqa: S608 - the texts are put together from constants of ours; every value is bound

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.records import CRASHED
from supervisor.core.states import MessageState
from supervisor.store.dialect import StorageError
from supervisor.store.postgres.beats import pause_of
from supervisor.store.postgres.joining import read_info
from supervisor.store.postgres.planning import Load, give, move
from supervisor.store.sql import changes, columns
from supervisor.store.sql.sessions import Connection, Sessions, scalar
from supervisor.telemetry.logs import get_logger

#: The lock that whoever plans has, for as long as its transaction.
_PLANNING: Final = 0x61_69_77_70
#: So few agents are given away at once.
_FEW: Final = 5
#: Of what may be connected within so many seconds moves are on their way at once.
_MOVES_SECONDS: Final = 4.0
#: A move that takes longer is called off.
_LONGEST_SECONDS: Final = 60.0
#: So long an agent whose platform allows it one socket stays where it is, unless its owner ends.
_REST_SECONDS: Final = 3600.0
#: Agents that are gone and that are cleared up at once.
_CLEARED: Final = 100

_TRY: Final = f"SELECT pg_try_advisory_xact_lock({_PLANNING})"
_WAIT: Final = f"SELECT true FROM pg_advisory_xact_lock({_PLANNING})"
# A replica that is buried, or leaves, waits until it has what it is given: so nothing is left to one that is gone.
# To one that has not moved of late nothing is given, by the database's clock alone: it may be dead.
_REPLICAS: Final = (
    "SELECT id, said, draining FROM replicas WHERE beat_at > clock_timestamp() - make_interval(secs => :lately) "
    "ORDER BY id FOR KEY SHARE"
)
_LOADS: Final = "SELECT coalesce(next, owner), count(*) FROM leases WHERE coalesce(next, owner) IS NOT NULL GROUP BY 1"
_ORPHANS: Final = (
    "SELECT leases.agent_id FROM leases JOIN agents ON agents.id = leases.agent_id WHERE leases.owner IS NULL "
    "ORDER BY leases.agent_id LIMIT :most"
)
_GONE: Final = (
    "SELECT agent_id FROM leases WHERE owner IS NULL AND NOT EXISTS (SELECT 1 FROM agents WHERE id = leases.agent_id) "
    f"LIMIT {_CLEARED}"
)
_MOVING: Final = "SELECT count(*) FROM leases WHERE next IS NOT NULL"
_MOVE: Final = (
    "UPDATE leases SET next = :target, next_at = clock_timestamp(), ready = false WHERE agent_id IN (SELECT agent_id "
    "FROM leases WHERE owner = :origin AND next IS NULL AND (refused_at IS NULL OR refused_at < clock_timestamp() - "
    "make_interval(secs => :rest) OR (SELECT draining FROM replicas WHERE id = :origin)) "
    "ORDER BY agent_id LIMIT :number FOR UPDATE SKIP LOCKED)"
)
# Whoever is to have them cannot, or is to have none any more.
_CALL_OFF: Final = (
    "UPDATE leases SET next = NULL, next_at = NULL, ready = false "
    "WHERE next IN (SELECT id FROM replicas WHERE draining) "
    "OR (NOT ready AND next_at < clock_timestamp() - make_interval(secs => :longest)) "
    "OR (refused_at > next_at AND owner NOT IN (SELECT id FROM replicas WHERE draining))"
)
_WAITING: Final = "SELECT count(*) FROM (SELECT 1 FROM leases WHERE owner IS NULL LIMIT :most) AS waiting"
_GIVE: Final = (
    "UPDATE leases SET owner = :replica, epoch = epoch + 1, since = clock_timestamp(), handed = false "
    "WHERE agent_id = ANY(CAST(:agents AS text[])) AND owner IS NULL"
)
_RESCUE: Final = (
    f"UPDATE inbox_open SET state = {columns.MESSAGE_CODES[MessageState.AVAILABLE]}, error = '{CRASHED}' "
    "WHERE agent_key IN (SELECT key FROM agent_keys WHERE agent_id = ANY(CAST(:agents AS text[]))) "
    f"AND state = {columns.MESSAGE_CODES[MessageState.RUNNING]}"
)
FORGET: Final = (
    "DELETE FROM leases WHERE agent_id = :agent_id AND NOT EXISTS (SELECT 1 FROM agents WHERE id = leases.agent_id)"
)


class Placement:
    """Plans for all replicas, whenever nobody else does.

    Args:
        lease_seconds: of this replica, which plans as often as it says that it lives.
    """

    def __init__(self, sessions: Sessions, clock: Clock, lease_seconds: float) -> None:
        self._sessions = sessions
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._log = get_logger("supervisor.registry")

    async def run(self) -> None:
        """Plan until cancelled."""
        while True:
            try:
                await self.plan()
            except StorageError:
                # Whoever writes says why; the others may plan, and this one the next time.
                pass
            except RegistryError as error:
                self._log.error("placement_failed", reason=str(error))
            await self._clock.sleep(pause_of(self._lease_seconds))

    async def plan(self) -> None:
        """Give every replica of what nobody has as much as it can connect until the next time, and even out.

        Raises:
            RegistryError: the database cannot be asked.
        """
        await self._plan(_TRY)

    async def plan_few(self) -> None:
        """As :meth:`plan`, where so few wait that nobody need wait for the next time.

        Raises:
            RegistryError: the database cannot be asked.
        """
        if 0 < await self._sessions.read(partial(_waiting, most=_FEW + 1)) <= _FEW:
            await self._plan(_WAIT)

    async def _plan(self, lock: str) -> None:
        await self._sessions.alter(partial(_plan, lock=lock, lease_seconds=self._lease_seconds, now=self._clock.now()))


def _waiting(connection: Connection, most: int) -> int:
    return int(scalar(connection, _WAITING, {"most": most}))


def _plan(connection: Connection, lock: str, lease_seconds: float, now: float) -> None:
    if not scalar(connection, lock):
        return
    for (agent_id,) in connection.execute(_GONE).fetchall():
        changes.cancel(connection, agent_id, now)
        connection.execute(FORGET, {"agent_id": agent_id})
    found = connection.execute(_REPLICAS, {"lately": lease_seconds / 2}).fetchall()
    infos = {number: (read_info(said), draining) for number, said, draining in found}
    running = {number: info for number, (info, draining) in infos.items() if not info.alone and not draining}
    if not running:
        return
    connection.execute(_CALL_OFF, {"longest": _LONGEST_SECONDS})
    counted = dict(map(tuple, connection.execute(_LOADS).fetchall()))
    loads = [
        Load(number, info.capacity, counted.get(number, 0), draining)
        for number, (info, draining) in infos.items()
        if not info.alone
    ]
    # The platform bears so many connects a second, whoever makes them.
    pace = min(info.pace for info in running.values())
    if not _give(connection, loads, max(1, round(pace * pause_of(lease_seconds) / len(running)))):
        one_version = len({info.version for info in running.values()}) == 1 and not any(one.draining for one in loads)
        most = min((info.moves for info in running.values() if info.moves is not None), default=None)
        _move(connection, loads, round(pace * _MOVES_SECONDS) if most is None else most, even_out=one_version)


def _give(connection: Connection, loads: Sequence[Load], most: int) -> bool:
    """Give agents that nobody has to whoever may have some; whether there were any."""
    takers = [one for one in loads if not one.draining]
    orphans = [row[0] for row in connection.execute(_ORPHANS, {"most": most * len(takers)}).fetchall()]
    for replica, agents in give(orphans, takers, most).items():
        connection.execute(_GIVE, {"replica": replica, "agents": agents})
        connection.execute(_RESCUE, {"agents": agents})
    return bool(orphans)


def _move(connection: Connection, loads: Sequence[Load], most: int, *, even_out: bool) -> None:
    """Have agents connected where they are to be next."""
    most -= scalar(connection, _MOVING)
    for origin, target, number in move(loads, most, even_out=even_out):
        connection.execute(_MOVE, {"origin": origin, "target": target, "number": number, "rest": _REST_SECONDS})
