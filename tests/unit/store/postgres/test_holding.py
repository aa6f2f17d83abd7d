"""Who runs a registry: one at a time, and the next after a lease, whatever the clocks say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import RegistryLockedError
from supervisor.store import LockInfo, Registry
from supervisor.store.postgres import Postgres
from supervisor.store.postgres.address import address_of
from supervisor.store.postgres.connecting import Connector
from supervisor.store.postgres.holding import Hold, read_info
from tests.support import postgres
from tests.support.journaling import add

DEAD = '{"address":"http://dead:1","pid":7,"host":"dead","started_at":1.0,"from_the_future":true}'
#: One that nobody moves, registered as a process would that is gone.
LEAVE = (
    "WITH gone AS (INSERT INTO replicas (id, said) VALUES (nextval('replica_id'), $1) RETURNING id) "
    "INSERT INTO fences SELECT id FROM gone"
)


@asynccontextmanager
async def held(url: str, lease_seconds: float = 0.5) -> AsyncIterator[Registry]:
    dialect = Postgres(lease_seconds=lease_seconds)
    registry = Registry(await dialect.open(url, clock=SystemClock(), lock=LockInfo("http://[::1]:1")))
    yield registry
    await registry.close()


async def test_what_a_dead_process_holds_is_taken_after_a_lease_and_its_end_is_told(url: str) -> None:
    postgres.on_server(LEAVE, DEAD, url=url)
    began = time.monotonic()
    async with held(url, 0.5) as registry:
        assert time.monotonic() - began >= 0.5
        failed = registry.take_failed_run()
        assert failed is not None
        assert (failed.info.address, failed.info.host) == ("http://dead:1", "dead")
        await add(registry.journal, "k1")
        assert len(postgres.on_server("SELECT replica FROM fences WHERE replica > 0", url=url)) == 1
    async with held(url) as registry:
        assert registry.take_failed_run() is None
    assert postgres.on_server("SELECT count(*) FROM replicas", url=url) == [(0,)]


async def test_who_moves_is_never_taken_from(url: str) -> None:
    async with held(url):
        began = time.monotonic()
        with pytest.raises(RegistryLockedError, match=r"http://\[::1\]:1"):
            async with held(url, 60.0):
                raise AssertionError("two run it")
        assert time.monotonic() - began < 30


async def test_who_was_buried_though_alive_learns_it(url: str) -> None:
    async with held(url) as registry:
        assert await registry.look() is None
        postgres.on_server("DELETE FROM replicas", url=url)
        async with asyncio.timeout(10):
            while await registry.look() is None:
                await asyncio.sleep(0.01)
        assert "another supervisor" in str(registry.lost)


async def test_of_many_that_start_at_once_one_gets_it(url: str) -> None:
    connector = Connector(address_of(url))
    starting = [Hold.take(connector, SystemClock(), LockInfo(), 30.0) for _ in range(5)]
    outcomes = await asyncio.gather(*starting, return_exceptions=True)
    (won,) = [one for one in outcomes if isinstance(one, Hold)]
    assert sum(isinstance(one, RegistryLockedError) for one in outcomes) == 4
    await won.release()


async def test_beats_go_on_over_a_connection_that_broke(url: str) -> None:
    async with held(url) as registry:
        name = postgres.name_of(url)
        postgres.on_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        ((before,),) = postgres.on_server("SELECT beat FROM replicas", url=url)
        async with asyncio.timeout(10):
            while postgres.on_server("SELECT beat FROM replicas", url=url) == [(before,)]:
                await asyncio.sleep(0.02)
        assert await registry.look() is None


def test_what_cannot_be_read_of_a_holder_is_a_holder_all_the_same() -> None:
    assert read_info("{").pid == 0
    assert read_info(DEAD).pid == 7
