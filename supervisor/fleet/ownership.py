"""Which rows of the registry this process runs: all, unless several processes share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supervisor.core.records import AgentRecord
from supervisor.core.turns import Turns
from supervisor.store import Registry
from supervisor.store.dialect.rows import record_from_row


@dataclass(frozen=True, slots=True)
class Owned:
    """The rows whose agents this process is to run, by id.

    Args:
        own: those that it runs. An agent whose row is no longer among them counts as removed, and its waiting messages
            are cancelled: one that another process is to have is let go of before it is left out here.
        coming: those that it is to connect only, for their owners have them still.
        going: of its own, those that it is to let go of.
        ready: of those, the ones that are connected where they go, and since when they are to go there.
        handed: of its own, those of which nothing was missed before they came.
        left: of its own, those that another process had, and did not hand over.
    """

    own: Mapping[str, AgentRecord]
    coming: Mapping[str, AgentRecord]
    going: frozenset[str] = frozenset()
    handed: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    ready: Mapping[str, float] = field(default_factory=dict)

    @property
    def wanted(self) -> Mapping[str, AgentRecord]:
        """Every row of which something is to run here."""
        return {**self.coming, **self.own} if self.coming else self.own


async def owned_by(registry: Registry, turns: Turns) -> Owned:
    """What this process is to run.

    Args:
        turns: thousands of rows are read in the event loop.

    Raises:
        RegistryError: the registry cannot be read.
    """
    share = await registry.replicas.share()
    own, coming = [
        {row["id"]: record_from_row(row) async for row in turns.each(rows)} for rows in (share.own, share.coming)
    ]
    return Owned(own, coming, share.going, share.handed, share.left, share.ready)
