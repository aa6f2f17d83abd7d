"""Which replica gets which agent: decided by a look at how many each has; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Load(NamedTuple):
    """A replica that may be given agents.

    Args:
        capacity: how many it is to have, beside what others have.
        agents: how many it has, those that are on their way to it included.
    """

    number: int
    capacity: float
    agents: int


def give(orphans: Sequence[str], replicas: Iterable[Load], most: int) -> Mapping[int, list[str]]:
    """Give agents that nobody has to the least loaded replicas.

    Args:
        most: that one replica gets: whoever is first would have all of them, and whoever comes a moment later none.

    Returns:
        What each replica gets; the agents that nobody may take now are left out.
    """
    given: dict[int, list[str]] = {one.number: [] for one in replicas if one.capacity > 0}
    loads = {one.number: one for one in replicas if one.number in given}
    for agent_id in orphans:
        open_ones = [number for number, got in given.items() if len(got) < most]
        if not open_ones:
            break
        least = min(open_ones, key=lambda number: _load(loads[number], len(given[number])))
        given[least].append(agent_id)
    return {number: got for number, got in given.items() if got}


def _load(replica: Load, given: int) -> tuple[float, int]:
    """How much a replica would have with one agent more; of equal ones the oldest is first."""
    return (replica.agents + given + 1) / replica.capacity, replica.number
