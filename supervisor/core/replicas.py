"""The supervisors that share a registry, as its database knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: How a replica is.
LIVING: Final = "living"
DRAINING: Final = "draining"
SILENT: Final = "silent"


@dataclass(frozen=True, slots=True)
class Replica:
    """One supervisor process on a registry, from its start to its end; a process that starts anew is another one.

    Args:
        id: never given again.
        address: where its admin API answers the others, such as ``http://10.0.0.7:8640``; empty: there is no way to it.
        features: the forms of the shared tables that it can work with, a bit for each; replicas that have one in common
            may run side by side.
        started_at: seconds since the epoch, by its own clock.
        beat_age_seconds: how long ago it said that it lives, by the database's clock; nothing is decided by it.
        draining: it gives its agents away, and gets none.
        capacity: how many agents it is to have, beside what others have.
        agents: how many it runs.
        me: whether it is the process that asks.
    """

    id: int
    address: str = ""
    version: str = ""
    features: int = 0
    host: str = ""
    pid: int = 0
    started_at: float = 0.0
    beat_age_seconds: float = 0.0
    draining: bool = False
    capacity: float = 1.0
    agents: int = 0
    me: bool = False


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One supervisor of those that share a registry, as people see it.

    Args:
        state: :data:`LIVING`, :data:`DRAINING`, or :data:`SILENT` where it does not answer.
        agents: how many it runs, and ``online`` of them; what the registry knows where it is silent.
        beat_age_seconds: how long ago it told the registry that it lives.
        me: whether it is the one that was asked.
        reason: why it is silent; else empty.
        heard_at: when it answered last, in seconds since the epoch; None where it never has.
    """

    id: int
    state: str
    address: str = ""
    version: str = ""
    host: str = ""
    pid: int = 0
    started_at: float = 0.0
    agents: int = 0
    online: int | None = None
    beat_age_seconds: float = 0.0
    me: bool = False
    reason: str = ""
    heard_at: float | None = None


def status_of(replica: Replica) -> ReplicaStatus:
    """A replica as the registry knows it."""
    return ReplicaStatus(
        id=replica.id,
        state=DRAINING if replica.draining else LIVING,
        address=replica.address,
        version=replica.version,
        host=replica.host,
        pid=replica.pid,
        started_at=replica.started_at,
        agents=replica.agents,
        beat_age_seconds=replica.beat_age_seconds,
        me=replica.me,
    )
