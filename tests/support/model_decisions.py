"""Who is to run which agent, as the product decides it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from supervisor.store.postgres.planning import Load, give, move
from tests.support.model_database import Lease, ReplicaRow

#: What one replica is given at a time.
MOST = 2
#: Each agent of the model stands for two: fewer than that are not worth a move.
TWO = 2


@dataclass(frozen=True)
class Give:
    agent: str
    to: int


@dataclass(frozen=True)
class Move:
    agent: str
    owner: int
    to: int


@dataclass(frozen=True)
class CallOff:
    agent: str
    to: int


Order: TypeAlias = Give | Move | CallOff


def plan(replicas: Mapping[int, ReplicaRow], leases: Mapping[str, Lease]) -> list[Order]:
    """Orphans to whoever has least; then from those that leave, and from those that have too many."""
    living = [number for number, row in replicas.items() if not row.draining]
    orders: list[Order] = [
        CallOff(agent, one.next) for agent, one in leases.items() if one.next is not None and one.next not in living
    ]
    load = Counter(one.next or one.owner for one in leases.values())
    loads = [Load(number, 1.0, TWO * load[number], row.draining) for number, row in replicas.items()]
    orphans = [agent for agent, one in leases.items() if one.owner is None]
    if orphans:
        given = give(orphans, [one for one in loads if not one.draining], MOST)
        return orders + [Give(agent, to) for to, agents in given.items() for agent in agents]
    for origin, target, number in move(loads, TWO * len(leases)):
        there = [agent for agent, one in leases.items() if one.owner == origin and one.next is None]
        orders += [Move(agent, origin, target) for agent in there[: number // TWO]]
    return orders
