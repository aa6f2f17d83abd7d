"""Who is to run which agent: orphans as the product gives them, then moves to whoever has room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from supervisor.store.postgres.planning import Load, give
from tests.support.model_database import Lease, ReplicaRow

#: What one replica is given at a time.
MOST = 2


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
    if not living:
        return orders
    load = Counter(dict.fromkeys(living, 0))
    load.update(to for one in leases.values() if (to := one.next or one.owner) is not None and to in load)
    orphans = [agent for agent, one in leases.items() if one.owner is None]
    loads = [Load(number, 1.0, load[number]) for number in living]
    orders += [Give(agent, to) for to, agents in give(orphans, loads, MOST).items() for agent in agents]
    if any(isinstance(one, Give) for one in orders):
        return orders
    for agent, one in leases.items():
        if one.owner is None or one.next is not None:
            continue
        to = min(living, key=load.__getitem__)
        if one.owner not in living or load[one.owner] > load[to] + 1:
            load.update({to: 1, one.owner: -1})
            orders.append(Move(agent, one.owner, to))
    return orders
