"""Which rows of the registry this process runs: all, unless several processes share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisor.core.records import AgentRecord
from supervisor.core.turns import Turns
from supervisor.store import Registry
from supervisor.store.dialect.rows import record_from_row

#: What the table had in each row, and what that says, by the row's id as the table has it.
_Known = dict[object, tuple[tuple[Any, ...], AgentRecord]]


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


class Ownership:
    """Looks which rows are this process's; a row that is as it was before is its record of before.

    Args:
        turns: thousands of rows are read in the event loop.
    """

    def __init__(self, registry: Registry, turns: Turns) -> None:
        self._registry = registry
        self._turns = turns
        self._known: _Known = {}

    async def look(self) -> Owned:
        """What this process is to run now.

        Raises:
            RegistryError: the registry cannot be read.
        """
        share = await self._registry.replicas.share()
        known: _Known = {}
        own, coming = [
            {row["id"]: self._record(row, known) async for row in self._turns.each(rows)}
            for rows in (share.own, share.coming)
        ]
        self._known = known
        return Owned(own, coming, share.going, share.handed, share.left, share.ready)

    def _record(self, row: Mapping[str, Any], known: _Known) -> AgentRecord:
        values, before = tuple(row.values()), self._known.get(row["id"])
        found = known[row["id"]] = before if before and before[0] == values else (values, record_from_row(row))
        return found[1]
