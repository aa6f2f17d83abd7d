"""Opening and closing: what stays, who holds a registry, and who is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store import LockInfo, Registry
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.stores import Opener, Store


async def test_what_was_committed_is_there_at_the_next_start(opened: Opener) -> None:
    first = await opened()
    row = await add(first.journal, "k1", claim=True)
    (reply,) = await settle(first.journal, row, answer())
    await first.close()
    second = await opened()
    assert second.uuid == first.uuid
    assert second.where == first.where
    assert await second.journal.load(row.id) == row
    assert await second.journal.unsent(AGENT) == [reply]


async def test_whoever_wants_a_registry_alone_is_refused_beside_its_holder(opened: Opener, store: Store) -> None:
    assert not store.dialect.holders(store.url)
    holder = await opened(lock=LockInfo("http://127.0.0.1:8640"))
    with pytest.raises(RegistryLockedError) as caught:
        await opened(lock=LockInfo(alone=True))
    told = str(caught.value)
    assert "http://127.0.0.1:8640" in told
    assert "\n" not in told
    beside = await opened()
    assert await beside.agents() == []
    await beside.close()
    assert store.dialect.holders(store.url), "only its holder gives it up"
    await holder.close()
    assert not store.dialect.holders(store.url)
    await opened(lock=LockInfo(alone=True))


async def test_beside_whoever_has_it_alone_nobody_runs_it(opened: Opener) -> None:
    holder = await opened(lock=LockInfo(alone=True))
    with pytest.raises(RegistryLockedError):
        await opened(lock=LockInfo())
    await holder.close()
    await opened(lock=LockInfo())


async def test_the_holder_says_where_it_listens_once_that_is_known(opened: Opener, store: Store) -> None:
    registry = await opened(lock=LockInfo())
    told = LockInfo("http://[::1]:1")
    registry.announce(told)
    [found] = store.dialect.holders(store.url)
    assert found is not None
    # Which file it has open, which forms of its tables it writes, and who it is among several: a database adds that.
    assert replace(found, inode=0, features=0, number=0, registry_uuid="") == told
    beside = await opened()
    with pytest.raises(RegistryError, match="without a lock"):
        beside.announce(LockInfo())


async def test_who_holds_it_next_hears_once_of_a_run_that_did_not_end_as_it_was_told_to(opened: Opener) -> None:
    run = LockInfo("http://[::1]:1", ended="main_ended: it")
    registry = await opened(lock=LockInfo("http://[::1]:1"))
    assert registry.take_failed_run() is None
    registry.announce(run)
    await registry.close()
    beside = await opened()
    assert beside.take_failed_run() is None, "whoever does not hold it is told nothing"
    following = await opened(lock=LockInfo("http://[::1]:1"))
    failed = following.take_failed_run()
    assert failed is not None
    assert (failed.reason, failed.info.address) == ("main_ended: it", run.address)
    assert following.take_failed_run() is None
    await following.close()
    assert (await opened(lock=LockInfo())).take_failed_run() is None


async def test_what_is_closed_refuses_in_one_line_and_closing_again_does_no_harm(registry: Registry) -> None:
    await registry.close()
    await registry.close()
    journal = registry.journal
    for asked in (journal.maintenance.rescue(), journal.counts(), registry.agents(), registry.remove_agent("a1")):
        with pytest.raises(RegistryError, match="closed"):
            await asked
    with pytest.raises(RegistryError, match="closed"):
        await add(journal, "late")
