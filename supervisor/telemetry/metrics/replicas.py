"""The replicas of a registry, and what its server carries for them; without a series where one process runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from supervisor.telemetry.metrics.families import Workshop


@dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """What was found at a look.

    Args:
        states: how many replicas are in each state.
        owned: agents that this one runs.
        orphans: agents that none runs, of the whole registry.
        lease_age_seconds: how long ago the one told that it lives that is silent for the longest.
        dead_rows: rows that the server has not cleared away yet, by their table.
        oldest_xmin_seconds: how old the oldest open transaction is that keeps it from doing so.
    """

    states: Mapping[str, int]
    owned: int
    orphans: int
    lease_age_seconds: float
    dead_rows: Mapping[str, int]
    oldest_xmin_seconds: float


class ReplicaMetrics:
    """The instruments of replicas."""

    def __init__(self, make: Workshop) -> None:
        self._bind_states = make.readings(
            "supervisor_replicas",
            "Supervisors that share the registry, by their state; each of them shows all.",
            "supervisors",
            "state",
        )
        self._bind_owned = make.readings(
            "supervisor_agents_owned", "Agents of the registry that this supervisor runs.", "agents"
        )
        self._bind_orphans = make.readings(
            "supervisor_orphans",
            "Agents of the registry that no supervisor runs; each supervisor shows all of them.",
            "agents",
        )
        self._bind_lease_age = make.readings(
            "supervisor_lease_age_seconds",
            "How long ago the registry last heard of the supervisor that is silent for the longest, in seconds.",
            "seconds",
        )
        self._bind_dead_rows = make.readings(
            "supervisor_registry_dead_rows",
            "Rows that the registry's server has not cleared away yet, of the tables that change all the time.",
            "rows",
            "table",
        )
        self._bind_oldest_xmin = make.readings(
            "supervisor_registry_oldest_xmin_seconds",
            "How old the oldest transaction is that keeps the registry's server from clearing rows away, in seconds.",
            "seconds",
        )

    def bind_replicas(self, read: Callable[[], ReplicaFigures | None]) -> None:
        """Read at each scrape what was found at the last look; None: nobody shares the registry."""
        self._bind_states(lambda: _by_label(found.states) if (found := read()) else {})
        self._bind_dead_rows(lambda: _by_label(found.dead_rows) if (found := read()) else {})
        self._bind_owned(lambda: {(): found.owned} if (found := read()) else {})
        self._bind_orphans(lambda: {(): found.orphans} if (found := read()) else {})
        self._bind_lease_age(lambda: {(): found.lease_age_seconds} if (found := read()) else {})
        self._bind_oldest_xmin(lambda: {(): found.oldest_xmin_seconds} if (found := read()) else {})


def _by_label(figures: Mapping[str, int]) -> Mapping[tuple[str, ...], float]:
    return {(value,): figure for value, figure in figures.items()}
