"""What a replica decides by itself: who is dead, and who is to run which agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.support.model_database import LEASE_SECONDS, Lease, ReplicaRow


@dataclass
class Observer:
    """Sees whose row does not move, by one clock alone that nobody sets."""

    seen: dict[int, tuple[int, float]] = field(default_factory=dict)
    looked_at: float = float("-inf")

    def dead(self, rows: Mapping[int, ReplicaRow], now: float) -> dict[int, int]:
        """The replicas that did not move for a lease while this one looked without a pause; each with its count."""
        if now - self.looked_at > LEASE_SECONDS / 2:
            self.seen.clear()
        self.looked_at = now
        self.seen = {
            number: (row.beat, self.seen[number][1] if self.seen.get(number, (-1,))[0] == row.beat else now)
            for number, row in rows.items()
        }
        return {number: beat for number, (beat, since) in self.seen.items() if now - since > LEASE_SECONDS}


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
    for agent in [agent for agent, one in leases.items() if one.owner is None]:
        to = min(living, key=load.__getitem__)
        load[to] += 1
        orders.append(Give(agent, to))
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
