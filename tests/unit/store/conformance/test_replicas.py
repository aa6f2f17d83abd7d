"""Which supervisors run a registry, as whoever opens it is told."""

from __future__ import annotations

import os

import pytest

from supervisor.core.errors import ReplicaError
from supervisor.core.records import AgentRecord
from supervisor.store import LockInfo
from tests.support.journaling import AGENT
from tests.support.stores import Opener

ADDRESS = "http://127.0.0.1:8640"


async def test_nobody_runs_what_is_only_open(opened: Opener) -> None:
    registry = await opened()
    await registry.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_SECRET"))
    assert registry.replicas.my_id is None
    assert list(await registry.replicas.list()) == []
    assert await registry.replicas.owners() == await registry.replicas.owners([AGENT]) == {}
    assert await registry.replicas.unheard([1]) == {AGENT: None}


async def test_who_runs_it_is_seen_by_itself_and_by_others_alike(opened: Opener) -> None:
    holder = await opened(lock=LockInfo(ADDRESS, version="9.8.7", started_at=5.0))
    await holder.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_SECRET"))
    beside = await opened()
    [mine] = await holder.replicas.list()
    [theirs] = await beside.replicas.list()
    assert mine.id == holder.replicas.my_id == theirs.id
    assert (mine.me, theirs.me, beside.replicas.my_id) == (True, False, None)
    assert (theirs.address, theirs.version, theirs.pid, theirs.started_at) == (ADDRESS, "9.8.7", os.getpid(), 5.0)
    assert not theirs.draining
    assert 0 <= theirs.beat_age_seconds < 60
    await holder.close()
    assert list(await beside.replicas.list()) == []


async def test_its_agents_are_its_own(opened: Opener) -> None:
    holder = await opened(lock=LockInfo(ADDRESS))
    await holder.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_SECRET"))
    assert [row["id"] for row in (await holder.replicas.share()).own] == [AGENT]
    [mine] = await holder.replicas.list()
    assert await holder.replicas.owners() == await holder.replicas.owners([AGENT, "x"]) == {AGENT: mine.id}
    assert await holder.replicas.owners([]) == {}
    assert await holder.replicas.unheard([mine.id]) == {}
    assert await holder.replicas.unheard([mine.id + 1]) == {AGENT: mine.id}
    assert mine.agents == 1


async def test_of_one_that_is_not_there_nothing_is_asked(opened: Opener) -> None:
    registry = await opened(lock=LockInfo(ADDRESS))
    with pytest.raises(ReplicaError) as caught:
        await registry.replicas.drain(999)
    assert "\n" not in str(caught.value)
