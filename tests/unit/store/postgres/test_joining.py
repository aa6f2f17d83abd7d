"""Who may run a registry beside whom, and what becomes of those in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store import LockInfo, Registry
from supervisor.store.postgres.joining import FEATURES, read_info, refusal
from tests.support import postgres

DEAD = '{"address":"http://dead:1","pid":7,"host":"dead","started_at":1.0,"from_the_future":true}'
ONE = LockInfo(
    "http://[::1]:1", version="1.0", features=1, first_key="k1", keys=("k1", "k2"), api_url="https://a", pid=5, host="h"
)


@asynccontextmanager
async def running(url: str, **said: Any) -> AsyncIterator[Registry]:
    registry = await Registry.open(url, lock=LockInfo(f"http://[::1]:{len(said)}", lease_seconds=1.0, **said))
    try:
        yield registry
    finally:
        await registry.close()


async def test_several_run_one_registry_each_with_a_number_of_its_own(url: str) -> None:
    async with running(url) as first, running(url) as second, running(url) as third:
        numbers = [one.replicas.my_id for one in (first, second, third)]
        assert numbers == sorted(set(numbers), key=str)
        assert [one.id for one in await first.replicas.list()] == numbers
    async with running(url) as later:
        assert later.replicas.my_id not in numbers, "a number is never given again"


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"first_key": "k3", "keys": ("k3",)}, "SUPERVISOR_SECRET_KEYS"),
        ({"first_key": "", "keys": ()}, "SUPERVISOR_SECRET_KEYS"),
        ({"first_key": "k3", "keys": ("k3", "k1")}, "SUPERVISOR_SECRET_KEYS"),
        ({"api_url": "https://b"}, "SUPERVISOR_API_URL=https://b"),
        ({"features": 2, "version": "9.0"}, "version 9.0"),
        ({"alone": True}, "for itself"),
    ],
)
def test_who_works_otherwise_is_refused_in_one_line(other: dict[str, Any], named: str) -> None:
    error = refusal(ONE, replace(ONE, **other), "db")
    assert error is not None
    assert named in str(error)
    assert "\n" not in str(error)


def test_who_works_alike_is_taken_also_where_keys_are_being_exchanged() -> None:
    assert refusal(ONE, ONE, "db") is None
    assert refusal(ONE, replace(ONE, first_key="k2", keys=("k2", "k1")), "db") is None
    assert refusal(ONE, replace(ONE, version="1.1", features=3), "db") is None
    assert isinstance(refusal(replace(ONE, alone=True), ONE, "db"), RegistryLockedError)


async def test_a_refused_one_leaves_nothing_behind(url: str) -> None:
    async with running(url, api_url="https://a"):
        with pytest.raises(RegistryError, match="SUPERVISOR_API_URL=https://a, and not https://b"):
            async with running(url, api_url="https://b"):
                raise AssertionError("two run it")
        assert postgres.on_server("SELECT count(*) FROM replicas", url=url) == [(1,)]


async def test_a_dead_one_is_no_obstacle_to_whoever_works_otherwise(url: str) -> None:
    postgres.on_server("INSERT INTO replicas (id, said) VALUES (nextval('replica_id'), $1)", DEAD, url=url)
    postgres.on_server("UPDATE replicas SET said = replace(said, '}', ',\"lease_seconds\":0.5}')", url=url)
    async with asyncio.timeout(20), running(url, api_url="https://b") as registry:
        assert [one.me for one in await registry.replicas.list()] == [True]


async def test_of_many_that_want_it_alone_at_once_one_gets_it(url: str) -> None:
    lock = LockInfo(alone=True)
    outcomes = await asyncio.gather(*(Registry.open(url, lock=lock) for _ in range(4)), return_exceptions=True)
    (won,) = [one for one in outcomes if isinstance(one, Registry)]
    assert sum(isinstance(one, RegistryLockedError) for one in outcomes) == 3
    await won.close()


def test_what_cannot_be_read_of_a_replica_is_one_all_the_same() -> None:
    assert read_info("{").pid == 0
    assert read_info(DEAD).pid == 7
    assert FEATURES
