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
#: A move that takes longer is called off.
LONGEST_SECONDS = 20.0
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


def plan(replicas: Mapping[int, ReplicaRow], leases: Mapping[str, Lease], now: float) -> list[Order]:
    """Orphans to whoever has least; then from those that leave, and from those that have too many."""
    living = [number for number, row in replicas.items() if not row.draining]
    orders: list[Order] = []
    for agent, one in leases.items():
        late = not one.ready and one.next_at < now - LONGEST_SECONDS
        stays = one.refused and one.owner in living
        if one.next is not None and (one.next not in living or late or stays):
            orders.append(CallOff(agent, one.next))
    load = Counter(one.next or one.owner for one in leases.values())
    loads = [Load(number, 1.0, TWO * load[number], row.draining) for number, row in replicas.items()]
    orphans = [agent for agent, one in leases.items() if one.owner is None]
    if orphans:
        given = give(orphans, [one for one in loads if not one.draining], MOST)
        return orders + [Give(agent, to) for to, agents in given.items() for agent in agents]
    for origin, target, number in move(loads, TWO * len(leases)):
        may_go = [agent for agent, one in leases.items() if not one.rests or origin not in living]
        there = [agent for agent in may_go if (leases[agent].owner, leases[agent].next) == (origin, None)]
        orders += [Move(agent, origin, target) for agent in there[: number // TWO]]
    return orders
