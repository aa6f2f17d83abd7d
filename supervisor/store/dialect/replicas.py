"""Which supervisors run a registry, and which of them has which agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from supervisor.core.errors import ReplicaError
from supervisor.core.replicas import Replica
from supervisor.store.dialect.holder import LockInfo

#: The number of whoever holds a registry that one process at a time runs.
SOLE_ID: Final = 1


@dataclass(frozen=True, slots=True)
class Burden:
    """What the server of a registry carries.

    Args:
        orphans: agents that are to run and that no replica has.
        dead_rows: rows that it has not cleared away yet, by their table.
        oldest_seconds: how old the oldest open transaction is, which keeps it from that.
        clock: what time it is there, in seconds since the epoch; None where the registry has no clock of its own.
    """

    orphans: int = 0
    dead_rows: Mapping[str, int] = field(default_factory=dict)
    oldest_seconds: float = 0.0
    clock: float | None = None


class Share(NamedTuple):
    """What of the table ``agents`` is one process's.

    Args:
        own: the rows that it runs.
        coming: those that it is to connect, before their owners let go of them.
        going: those of its own that it is to let go of now: whoever has them next is ready, or waited for long enough.
        ready: of those, the ones whose next owner is ready, and since when it is to have each, in seconds of the
            database's clock.
        handed: those of its own that their last owner let go of, who had heard everything until then.
        left: those of its own that had an owner who did not let go of them.
    """

    own: Sequence[Mapping[str, Any]]
    coming: Sequence[Mapping[str, Any]] = ()
    going: frozenset[str] = frozenset()
    handed: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    ready: Mapping[str, float] = MappingProxyType({})


class ReplicaTable(Protocol):
    """The replicas of a registry.

    Attributes:
        my_id: of this process; None where it does not run the registry's agents.
        shared: whether several may run it at once.
        living: how many run it now, as far as this one knows, itself included.
        takers: how many others take agents now.
        draining: whether this one gives its agents away, and gets none.
        buried: how many others this one has found dead.
        heard_down: the hosts that each of the others finds down, by its number.
    """

    @property
    def shared(self) -> bool: ...

    @property
    def living(self) -> int: ...

    @property
    def takers(self) -> int: ...

    @property
    def draining(self) -> bool: ...

    @property
    def buried(self) -> int: ...

    @property
    def heard_down(self) -> Mapping[int, frozenset[str]]: ...

    @property
    def my_id(self) -> int | None: ...

    def tell_down(self, hosts: frozenset[str]) -> None:
        """Tell the others which hosts this one finds down, with the next sign of life."""
        ...

    async def list(self) -> Sequence[Replica]:
        """Every replica that lives, as far as the database knows, in order of their numbers."""
        ...

    async def owners(self, agent_ids: Sequence[str] | None = None) -> Mapping[str, int]:
        """The replica that runs each agent, or each of these, by the agent's id; without those that wait for one."""
        ...

    async def unheard(self, answered: Sequence[int]) -> Mapping[str, int | None]:
        """The agents that none of these replicas runs, each with the one that does; None: none."""
        ...

    async def share(self) -> Share:
        """What of the table ``agents`` is this process's, in order of ids."""
        ...

    async def ready(self, agent_id: str) -> None:
        """An agent that comes is connected here, or cannot be: its owner may let go of it."""
        ...

    async def refused(self, agent_id: str) -> None:
        """The platform refuses an agent that comes beside its owner's socket: an owner that ends lets go of it now."""
        ...

    async def hand_over(self, agent_id: str, *, heard_all_for: float | None) -> None:
        """Let an agent go to whoever is its next owner; nothing of it is written here any more.

        Args:
            heard_all_for: all that was said to it before its next owner was ready is written, where that one is to have
                it since then, as :class:`Share` told, and not another one meanwhile; None: something may be missed.
        """
        ...

    async def token(self, agent_id: str) -> tuple[bytes, float] | None:
        """What is kept of an agent's token, as it was written, and how many seconds ago it was asked for."""
        ...

    async def keep_token(self, agent_id: str, sealed: bytes | None, age_seconds: float) -> None:
        """Keep the token of an agent that this process runs or is to run, for whoever runs it next; None: none.

        Args:
            age_seconds: how long ago it was asked for.
        """
        ...

    async def burden(self) -> Burden:
        """What the registry's server carries just now."""
        ...

    async def leave(self) -> None:
        """This process is about to end: it is given no more agents."""
        ...

    async def drain(self, replica_id: int) -> None:
        """Have a replica give its agents to the others, and get none.

        Raises:
            ReplicaError: there is none of that number, or nobody to give them to.
        """
        ...


class SoleReplica:
    """The one process that runs a registry, where its database is for one at a time.

    Args:
        rows: reads every agent's row.
        holder: says who that is; None: nobody runs it.
        mine: whether it is this process.
    """

    shared: Final = False
    living: Final = 1
    takers: Final = 0
    draining: Final = False
    buried: Final = 0
    heard_down: Final[Mapping[int, frozenset[str]]] = MappingProxyType({})

    def __init__(
        self,
        rows: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]],
        holder: Callable[[], LockInfo | None],
        *,
        mine: bool,
    ) -> None:
        self._rows = rows
        self._holder = holder
        self.my_id = SOLE_ID if mine else None

    def tell_down(self, hosts: frozenset[str]) -> None:  # noqa: ARG002 - there are no others
        return

    async def list(self) -> Sequence[Replica]:
        info = self._holder()
        if info is None:
            return []
        return [replica_of(SOLE_ID, info, agents=len(await self._rows()), me=self.my_id is not None)]

    async def owners(self, agent_ids: Sequence[str] | None = None) -> Mapping[str, int]:
        if self._holder() is None:
            return {}
        found = [str(row["id"]) for row in await self._rows()]
        return {agent_id: SOLE_ID for agent_id in found if agent_ids is None or agent_id in agent_ids}

    async def unheard(self, answered: Sequence[int]) -> Mapping[str, int | None]:
        owner = SOLE_ID if self._holder() is not None else None
        return {} if owner in answered else {str(row["id"]): owner for row in await self._rows()}

    async def share(self) -> Share:
        return Share(await self._rows())

    async def ready(self, agent_id: str) -> None:  # noqa: ARG002 - nobody comes
        return

    async def refused(self, agent_id: str) -> None:  # noqa: ARG002 - nobody comes
        return

    async def hand_over(self, agent_id: str, *, heard_all_for: float | None) -> None:  # noqa: ARG002 - nobody goes
        return

    async def token(self, agent_id: str) -> tuple[bytes, float] | None:  # noqa: ARG002 - nobody has it next
        return None

    async def keep_token(self, agent_id: str, sealed: bytes | None, age_seconds: float) -> None:  # noqa: ARG002
        return

    async def burden(self) -> Burden:
        return Burden()

    async def leave(self) -> None:
        return

    async def drain(self, replica_id: int) -> None:  # noqa: ARG002 - whichever it is
        raise ReplicaError(
            "One supervisor at a time runs this registry: there is nobody to give its agents to; to stop it, end the "
            "process, or move the registry to PostgreSQL: supervisor db copy"
        )


def replica_of(
    number: int,
    info: LockInfo,
    *,
    agents: int,
    me: bool,
    beat_age_seconds: float = 0.0,
    draining: bool = False,
) -> Replica:
    """A replica by what it says of itself and what the database knows of it."""
    return Replica(
        id=number,
        address=info.address,
        version=info.version,
        features=info.features,
        host=info.host,
        pid=info.pid,
        started_at=info.started_at,
        beat_age_seconds=beat_age_seconds,
        draining=draining,
        capacity=info.capacity,
        agents=agents,
        me=me,
    )
