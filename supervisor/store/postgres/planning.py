"""Which replica gets which agent: decided by a look at how many each has; no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Load(NamedTuple):
    """A replica that may be given agents.

    Args:
        capacity: how many it is to have, beside what others have.
        agents: how many it has, those that are on their way to it included, and those that leave it not.
        draining: it gets none, and is to have none.
    """

    number: int
    capacity: float
    agents: int
    draining: bool = False


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


class Move(NamedTuple):
    """So many agents of one replica that another one is to have."""

    origin: int
    target: int
    agents: int


#: Who has more than its part by this ratio, or by so many, gives some away.
_AHEAD_RATIO, _AHEAD = 0.05, 2


def move(replicas: Sequence[Load], most: int, *, even_out: bool = True) -> list[Move]:
    """Bring agents from those that drain to the others, then from those that have more than their part.

    Args:
        most: agents that may be on their way from now on.
        even_out: whether what is uneven is evened out.
    """
    agents = {one.number: one.agents for one in replicas}
    targets = {one.number: one.capacity for one in replicas if not one.draining}
    if not targets:
        return []
    part = sum(agents.values()) / sum(targets.values())
    moves: Counter[tuple[int, int]] = Counter()

    def bring(origin: int, number: int) -> None:
        for _ in range(min(number, most - moves.total())):
            target = min(targets, key=lambda one: ((agents[one] + 1) / targets[one], one))
            agents[origin] -= 1
            agents[target] += 1
            moves[origin, target] += 1

    for one in replicas:
        if one.draining:
            bring(one.number, one.agents)
    for one in replicas:
        ahead = agents[one.number] - part * one.capacity
        if even_out and not one.draining and ahead >= max(_AHEAD, _AHEAD_RATIO * part * one.capacity):
            bring(one.number, int(ahead))
    return [Move(*between, number) for between, number in sorted(moves.items()) if between[0] != between[1]]
