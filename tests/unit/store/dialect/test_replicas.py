"""A registry that one process at a time runs has one replica."""

from __future__ import annotations

import pytest

from supervisor.core.errors import ReplicaError
from supervisor.store import LockInfo
from supervisor.store.dialect.replicas import SOLE_ID, SoleReplica


async def rows() -> list[dict[str, str]]:
    return [{"id": "a1"}, {"id": "a2"}]


async def test_the_holder_has_every_agent() -> None:
    replicas = SoleReplica(rows, lambda: LockInfo("http://[::1]:1", pid=7, host="here", capacity=2.0), mine=False)
    [one] = await replicas.list()
    assert (one.id, one.address, one.pid, one.host, one.agents, one.capacity) == (
        SOLE_ID,
        "http://[::1]:1",
        7,
        "here",
        2,
        2.0,
    )
    assert await replicas.owners() == {"a1": SOLE_ID, "a2": SOLE_ID}


async def test_it_cannot_drain_and_the_way_out_is_named() -> None:
    replicas = SoleReplica(rows, LockInfo, mine=True)
    with pytest.raises(ReplicaError, match="db copy"):
        await replicas.drain(SOLE_ID)
