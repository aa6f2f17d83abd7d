"""How a process comes to run a registry: beside those that already do, or alone, or not at all.

Whoever is in the way and does not move for a lease is buried; whoever moves is told of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import msgspec

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store.dialect import LockInfo
from supervisor.store.postgres.beats import Beat, BeatWatch, pause_of
from supervisor.telemetry.logs import get_logger

#: The form of the shared tables that this version works with.
FEATURES: Final = 0b1
#: The lock that one start at a time has, for as long as its transaction.
_STARTING: Final = 0x61_69_77_6D
#: Looks at whoever is in the way, within a pause between two beats.
_LOOKS: Final = 2
_STOOD: Final = "killed, frozen, cut off from the database or unable to write to it, or gone with its machine"
_log: Final = get_logger("supervisor.registry")

_MEMBERS: Final = "SELECT id, beat, draining, said, down FROM replicas ORDER BY id"
_REGISTER: Final = "INSERT INTO replicas (id, said) SELECT nextval('replica_id'), $1 RETURNING id"
_FENCE: Final = "INSERT INTO fences (replica) VALUES ($1)"
_FORGET: Final = "DELETE FROM graves WHERE told AND at < now() - interval '7 days'"
_SEIZE: Final = "SELECT beat_at, said FROM replicas WHERE id = $1 AND beat = $2 FOR UPDATE SKIP LOCKED"
_DIG: Final = (
    "INSERT INTO graves (replica, said, beat_at, told) VALUES ($1, $2, $3, true) ON CONFLICT (replica) DO NOTHING"
)
#: What a replica leaves that goes, or is buried. Whoever gives it agents just now is waited for, then its own commits.
LEAVE: Final = (
    "SELECT 1 FROM replicas WHERE id = $1 FOR UPDATE",
    "DELETE FROM fences WHERE replica = $1",
    "UPDATE leases SET owner = NULL, next = NULL, ready = false WHERE owner = $1",
    "UPDATE leases SET next = NULL, ready = false WHERE next = $1",
    "DELETE FROM replicas WHERE id = $1",
    "DELETE FROM journal_commits WHERE writer = $1",
)


@dataclass(frozen=True, slots=True)
class Member:
    """A replica that is registered: how far it has come, what it says of itself, and which hosts it finds down."""

    number: int
    beats: int
    draining: bool
    info: LockInfo
    down: frozenset[str] = frozenset()

    @property
    def beat(self) -> Beat:
        """How far it has come, for whoever watches it."""
        return Beat(self.number, self.beats, self.info.lease_seconds)


def read_info(said: str) -> LockInfo:
    """Who says to hold a registry; of what another version says, what this one knows."""
    try:
        return msgspec.json.decode(said, type=LockInfo)
    except msgspec.DecodeError:
        return LockInfo(host="a host that cannot be read", pid=0)


def encode_info(info: LockInfo) -> str:
    """What a replica says of itself, as the database has it."""
    return msgspec.json.encode(info).decode()


async def members(connection: asyncpg.Connection) -> list[Member]:
    """Every replica that is registered, in order of their numbers."""
    found = await connection.fetch(_MEMBERS)
    return [
        Member(number, beats, draining, read_info(said), frozenset(down))
        for number, beats, draining, said, down in found
    ]


async def join(connection: asyncpg.Connection, clock: Clock, where: str, info: LockInfo) -> int:
    """Register a new incarnation; its number, which is never given again.

    Raises:
        RegistryLockedError: somebody lives who wants to be alone, or beside whom this one cannot be.
        RegistryError: somebody lives who works otherwise.
    """
    while True:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _STARTING)
            others = await members(connection)
            in_the_way = [one for one in others if refusal(info, one.info, where) is not None]
            if not in_the_way:
                number: int = await connection.fetchval(_REGISTER, encode_info(info))
                await connection.execute(_FENCE, number)
                await connection.execute(_FORGET)
                _tell_versions(info, others)
                return number
        await _wait_and_bury(connection, clock, where, info, in_the_way)


def refusal(info: LockInfo, other: LockInfo, where: str) -> RegistryError | None:
    """Why one cannot run a registry beside another; None where it can."""
    if info.alone:
        return RegistryLockedError(
            f"Another supervisor runs on the registry {where}: {other}; "
            "stop it first, or set SUPERVISOR_REGISTRY_URL to another database"
        )
    if other.alone:
        return RegistryLockedError(
            f"A command has the registry {where} for itself just now: {other}; start again once it is done"
        )
    beside = f"The supervisor that runs on the registry {where} ({other}) has"
    if not info.features & other.features:
        return RegistryError(
            f"{beside} version {other.version or 'unknown'}, which writes the registry otherwise than this one "
            f"({info.version}); stop it first"
        )
    readable = info.first_key in other.keys and other.first_key in info.keys
    if info.first_key != other.first_key and not readable:
        return RegistryError(
            f"{beside} other SUPERVISOR_SECRET_KEYS: each would write what the other cannot read; give both the same "
            "keys, of which the first may differ"
        )
    if info.api_url != other.api_url:
        return RegistryError(f"{beside} SUPERVISOR_API_URL={other.api_url}, and not {info.api_url}; give both the same")
    return None


def _tell_versions(info: LockInfo, others: Iterable[Member]) -> None:
    if versions := {one.info.version for one in others} - {info.version}:
        _log.warning("replicas_of_other_versions", version=info.version, others=sorted(versions))


async def _wait_and_bury(
    connection: asyncpg.Connection, clock: Clock, where: str, info: LockInfo, in_the_way: list[Member]
) -> None:
    """Watch who is in the way until one moves, or goes, or none has moved for the length of a lease: then bury them.

    Raises:
        RegistryError: one moves.
    """
    seen = {one.number: one for one in in_the_way}
    watch = BeatWatch(info.lease_seconds)
    while True:
        now = [one for one in await members(connection) if one.number in seen]
        if len(now) < len(seen):
            return
        for one in now:
            if one.beats != seen[one.number].beats and (refused := refusal(info, one.info, where)) is not None:
                raise refused
        dead = watch.look(one.beat for one in now)
        if len(dead) == len(now):
            for beat in dead:
                await bury(connection, beat, info.lease_seconds)
            return
        await clock.sleep(pause_of(info.lease_seconds) / _LOOKS)


async def bury(connection: asyncpg.Connection, dead: Beat, lease_seconds: float) -> bool:
    """Take everything from a replica that stands where it was seen to stand, and say so; whether it stood there still.

    What it is committing is waited for; nothing of it is committed afterwards.

    Args:
        lease_seconds: of whoever buries: no commit is waited for so long that it would count as dead itself.
    """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = {int(lease_seconds / 3 * 1000)}")
        found: Any = await connection.fetchrow(_SEIZE, dead.number, dead.beats)
        if found is None:
            return False
        beat_at, said = found
        await connection.execute(_DIG, dead.number, said, beat_at)
        for statement in LEAVE:
            await connection.execute(statement, dead.number)
    info = read_info(said)
    reason = info.ended or f"it stood still for {max(lease_seconds, dead.lease_seconds):g} s: {_STOOD}"
    _log.critical("replica_buried", replica=dead.number, pid=info.pid, host=info.host, reason=reason)
    return True
