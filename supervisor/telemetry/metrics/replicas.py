"""The replicas of a registry, and what its server carries for them; without a series where one process runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from supervisor.telemetry.metrics.families import Vocabulary, Workshop

#: How an agent may be handed over.
HANDOVERS = ("ok", "cut_short", "called_off")
_HANDOVER_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


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
        self._make_moves(make)

    def _make_moves(self, make: Workshop) -> None:
        self._handovers = make.counters(
            "supervisor_handovers_total",
            "Agents that this supervisor handed over to another one, by how: cut_short: handlers were ended for it; "
            "called_off: agents that were to come to this one, and did not.",
            "agents",
            outcome=Vocabulary(0, *HANDOVERS),
        )
        for outcome in HANDOVERS:
            self._handovers.begin(outcome)
        self._handover_seconds = make.histogram(
            "supervisor_handover_seconds",
            "From when an agent's next supervisor was ready until this one had let go of it, in seconds.",
            "seconds",
            _HANDOVER_SECONDS,
        )
        self._takeovers = make.counter(
            "supervisor_takeovers_total",
            "Agents that came to this supervisor and that their last one did not hand over: dead, or in a hurry.",
            "agents",
        )
        self._fenced = make.counter(
            "supervisor_fenced_total",
            "Supervisors of the registry that this one found dead, and whose agents it took from them.",
            "supervisors",
        )
        self._handed_in = make.counter(
            "supervisor_handed_in_total",
            "Messages that another supervisor had heard and this one had not, for agents of this one.",
            "messages",
        )

    def handed_in(self, messages: int) -> None:
        """So many messages came from supervisors that heard them for agents of this one."""
        self._handed_in.total += messages

    def handed_over(self, outcome: str, seconds: float) -> None:
        """An agent is another supervisor's: one of :data:`HANDOVERS`, and how long letting go of it took."""
        self._handovers[outcome].total += 1
        self._handover_seconds.observe(seconds)

    def called_off(self) -> None:
        """An agent that was to come did not."""
        self._handovers["called_off"].total += 1

    def took_over(self) -> None:
        """An agent came without being handed over."""
        self._takeovers.total += 1

    def fenced(self, supervisors: int) -> None:
        """So many others were found dead."""
        self._fenced.total += supervisors

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
