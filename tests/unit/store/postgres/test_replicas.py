"""The replicas that share a registry in PostgreSQL."""

from __future__ import annotations

from supervisor.store import LockInfo, Registry
from tests.support import postgres


async def test_a_replica_can_be_drained_by_anybody(url: str) -> None:
    holder = await Registry.open(url, lock=LockInfo("http://[::1]:1"))
    beside = await Registry.open(url)
    try:
        [one] = await beside.replicas.list()
        await beside.replicas.drain(one.id)
        [one] = await holder.replicas.list()
        assert one.draining
    finally:
        await beside.close()
        await holder.close()


async def test_what_another_version_says_of_itself_is_read_as_far_as_it_can_be(url: str) -> None:
    said = '{"address":"http://later:1","pid":7,"host":"later","version":"99","from_the_future":true}'
    postgres.on_server("INSERT INTO replicas (id, said) VALUES (nextval('replica_id'), $1)", said, url=url)
    registry = await Registry.open(url)
    [one] = await registry.replicas.list()
    assert (one.address, one.version, one.me) == ("http://later:1", "99", False)
    await registry.close()
