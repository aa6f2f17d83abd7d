"""The row of the fleet's dashboard about several supervisors on one registry; closed where one runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana.blocks import Target, graph, quantiles
from grafana.colors import HANDOVERS, QUANTILES, REPLICAS
from grafana.promql import or_zero, rate, series

TITLE: Final = "Replicas (several supervisors on one registry)"


def replicas() -> Sequence[Any]:
    """Who runs the agents, how they change hands, and what the database carries."""
    return [*_owners(), *_moves(), *_database()]


def _owners() -> Sequence[Any]:
    # What each of them reads of the registry is the registry's, and counted once.
    return [
        graph(
            "Agents by replica",
            "How many agents each replica runs. They are shared by number and REPLICA_CAPACITY; one that drains has "
            "fewer and fewer.",
            "short",
            Target(f"max by (instance) ({series('supervisor_agents_owned')})", "{{instance}}"),
            width=6,
            stacked=True,
        ),
        graph(
            "Replicas by state",
            "As the registry has them. One that is dead is here until the others have buried it, after LEASE_SECONDS.",
            "short",
            Target(f"max by (state) ({series('supervisor_replicas')}) > 0", "{{state}}"),
            width=6,
            stacked=True,
            colors=REPLICAS,
        ),
        graph(
            "Lag of beats",
            "How long ago the registry last heard of the replica that is silent for the longest. At LEASE_SECONDS (15) "
            "the others take its agents.",
            "s",
            Target(f"max({series('supervisor_lease_age_seconds')})", "longest silence"),
            width=6,
            limit=5,
        ),
        graph(
            "Agents that nobody runs",
            "For a moment after a death or a start; longer only where no replica can take them.",
            "short",
            Target(f"max({series('supervisor_orphans')})", "orphans"),
            width=6,
            limit=1,
        ),
    ]


def _moves() -> Sequence[Any]:
    return [
        graph(
            "Agents that changed hands, per minute",
            "Ok: connected elsewhere first, no message waits. Cut short: handlers were ended for it. Called off: "
            "the next one could not connect them. Taken over: their last one was dead or in a hurry.",
            "short",
            Target(f"{rate('supervisor_handovers_total', by='outcome')} * 60", "{{outcome}}"),
            Target(f"{or_zero(rate('supervisor_takeovers_total'))} * 60", "taken_over"),
            colors=HANDOVERS,
            rare=True,
        ),
        graph(
            "Letting go of an agent",
            "From when its next replica was ready until its last one had let go: what runs is waited for.",
            "s",
            *quantiles("supervisor_handover_seconds", 0.5, 0.95),
            colors=QUANTILES,
        ),
        graph(
            "Deaths, and messages handed in, per minute",
            "Replicas that others found dead; and messages that only one had heard that does not run their agents.",
            "short",
            Target(f"{or_zero(rate('supervisor_fenced_total'))} * 60", "found dead"),
            Target(f"{or_zero(rate('supervisor_handed_in_total'))} * 60", "handed in"),
            colors={"found dead": "red", "handed in": "blue"},
            rare=True,
        ),
    ]


def _database() -> Sequence[Any]:
    return [
        graph(
            "Dead rows of the registry",
            "Rows that the server has not cleared away yet, of the tables that change all the time. Where they grow, "
            "VACUUM is too rare or kept from them: `supervisor db check`.",
            "short",
            Target(f"max by (table) ({series('supervisor_registry_dead_rows')})", "{{table}}"),
            width=12,
        ),
        graph(
            "Oldest transaction",
            "How old the oldest transaction is that may still see dead rows. `supervisor db check` says whose it is.",
            "s",
            Target(f"max({series('supervisor_registry_oldest_xmin_seconds')})", "oldest"),
            width=12,
            limit=1800,
        ),
    ]
