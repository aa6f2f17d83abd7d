"""Replicas of one registry: who lives, who is buried, and who learns it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.states import MessageState
from supervisor.store import LockInfo, Registry
from tests.support import postgres
from tests.support.journaling import AGENT, add, answer, inbound
from tests.support.postgres_way import way_to

DEAD = '{"address":"http://dead:1","pid":7,"host":"dead","started_at":1.0,"lease_seconds":1.0,"features":1}'
#: One that nobody moves, registered as a process would that is gone, and what it had.
LEAVE = (
    "WITH gone AS (INSERT INTO replicas (id, said) VALUES (nextval('replica_id'), $1) RETURNING id), "
    "had AS (INSERT INTO leases (agent_id, owner, next) SELECT 'a1', id, NULL FROM gone) "
    "INSERT INTO fences SELECT id FROM gone"
)
LEASE_SECONDS = 1.0


@asynccontextmanager
async def held(url: str, lease_seconds: float = LEASE_SECONDS) -> AsyncIterator[Registry]:
    registry = await Registry.open(url, lock=LockInfo("http://[::1]:1", lease_seconds=lease_seconds))
    try:
        yield registry
    finally:
        await registry.close(1.0)


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def asked(statement: str, url: str) -> Any:
    [[found]] = postgres.on_server(statement, url=url)
    return found


async def test_a_dead_one_is_buried_after_its_lease_and_what_it_had_is_nobodys(
    url: str, log: Callable[[], list[Any]]
) -> None:
    postgres.on_server(LEAVE, DEAD, url=url)
    began = time.monotonic()
    async with held(url) as registry:
        await until(lambda: "replica_buried" in {line["event"] for line in log()})
        assert time.monotonic() - began >= LEASE_SECONDS
        assert asked("SELECT count(*) FROM replicas", url) == 1
        assert asked("SELECT count(*) FROM leases WHERE owner IS NOT NULL", url) == 0
        assert asked("SELECT count(*) FROM fences WHERE replica > 0", url) == 1
        [told] = [line for line in log() if line["event"] == "replica_buried"]
        assert (told["pid"], told["host"], told["level"]) == (7, "dead", "critical")
        await add(registry.journal, "k1")
    assert asked("SELECT count(*) FROM replicas", url) == 0


async def test_who_moves_is_never_buried_and_each_is_sure_of_itself(url: str) -> None:
    async with held(url, 4.0) as first, held(url, 4.0) as second:
        await asyncio.sleep(0.4)
        for _ in range(6):
            await asyncio.sleep(0.4)
            assert first.journal.sure
            assert second.journal.sure
        assert [await first.look(), await second.look()] == [None, None]
        assert len(await first.replicas.list()) == 2


async def test_which_hosts_each_finds_down_the_others_hear(url: str) -> None:
    async with held(url) as first, held(url) as second:
        first.replicas.tell_down(frozenset({"a.example", "b.example"}))
        await until(lambda: second.replicas.heard_down == {first.replicas.my_id: {"a.example", "b.example"}})
        assert first.replicas.heard_down == {second.replicas.my_id: frozenset()}
        first.replicas.tell_down(frozenset())
        await until(lambda: second.replicas.heard_down == {first.replicas.my_id: frozenset()})
    async with held(url) as alone:
        await until(lambda: alone.replicas.heard_down == {})


async def test_who_was_buried_though_alive_learns_it_writes_nothing_and_is_sure_of_nothing(url: str) -> None:
    async with held(url) as registry:
        assert await registry.look() is None
        begun = await add(registry.journal, "k1", claim=True)
        postgres.on_server("DELETE FROM fences WHERE replica > 0", url=url)
        postgres.on_server("DELETE FROM replicas", url=url)
        async with asyncio.timeout(10):
            while await registry.look() is None:
                await asyncio.sleep(0.01)
        assert "another supervisor" in str(registry.lost)
        assert not registry.journal.sure
        assert await registry.journal.settle(begun, MessageState.DONE, replies=[answer()]) is None
        assert asked("SELECT count(*) FROM outbox_bodies", url) == 0
        assert asked("SELECT state FROM inbox", url) == 2
        with pytest.raises(RegistryError, match="another supervisor"):
            await registry.remove_agent("a1")


async def test_a_database_that_has_forgotten_beats_is_another_one(url: str) -> None:
    """As after a failover to a standby that lacked the last commits."""
    async with held(url) as registry:
        await until(lambda: asked("SELECT beat FROM replicas", url) >= 3)
        postgres.on_server("UPDATE replicas SET beat = beat - 3", url=url)
        async with asyncio.timeout(10):
            while await registry.look() is None:
                await asyncio.sleep(0.01)


async def test_who_is_cut_off_is_sure_for_less_than_a_lease_and_is_buried_by_another(url: str) -> None:
    async with way_to(url) as way, held(way.url) as cut_off, held(url) as other:
        assert cut_off.journal.sure
        began = time.monotonic()
        # Bytes go nowhere from here on.
        way.closed = True
        way.cut()
        await until(lambda: not cut_off.journal.sure)
        assert time.monotonic() - began <= LEASE_SECONDS
        await until(lambda: asked("SELECT count(*) FROM replicas", url) == 1)
        await until(lambda: other.journal.sure)
        way.closed = False
        async with asyncio.timeout(10):
            while await cut_off.look() is None:
                await asyncio.sleep(0.01)


async def test_beats_go_on_over_a_connection_that_broke(url: str) -> None:
    async with held(url, 15.0) as registry:
        name = postgres.name_of(url)
        postgres.on_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        before = asked("SELECT beat FROM replicas", url)
        await until(lambda: asked("SELECT beat FROM replicas", url) > before)
        assert await registry.look() is None


async def test_who_cannot_write_for_long_does_not_say_that_it_lives(url: str) -> None:
    async with held(url) as stuck, held(url):
        with postgres.holding("LOCK TABLE inbox_bodies IN ACCESS EXCLUSIVE MODE", url):
            heard = stuck.journal.add(AGENT, inbound(), key="k1", received_at=100.0, claim=True)
            writing = asyncio.ensure_future(heard)
            await until(lambda: asked("SELECT count(*) FROM replicas", url) == 1)
        async with asyncio.timeout(10):
            while await stuck.look() is None:
                await asyncio.sleep(0.01)
        assert await writing is None, "what it had heard is others' to answer"
        assert asked("SELECT state FROM inbox", url) == 0
