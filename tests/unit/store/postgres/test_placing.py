"""Agents come to replicas: each to one, at the pace of the fleet, with what their last owner had begun given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from supervisor.core.records import CRASHED, AgentRecord
from supervisor.core.states import MessageState
from supervisor.store import LockInfo, Registry
from tests.support import postgres
from tests.support.journaling import add

LEASE_SECONDS = 1.0


def row(agent_id: str) -> AgentRecord:
    return AgentRecord(agent_id, "echo", "env:AGENT_SECRET")


@asynccontextmanager
async def running(url: str, **said: Any) -> AsyncIterator[Registry]:
    said = {"lease_seconds": LEASE_SECONDS, "pace": 1000.0, **said}
    registry = await Registry.open(url, lock=LockInfo("http://[::1]:1", **said))
    try:
        yield registry
    finally:
        await registry.close()


async def own(registry: Registry) -> set[str]:
    return {row["id"] for row in (await registry.replicas.share()).own}


async def shared_out(number: int, *registries: Registry) -> list[set[str]]:
    """What each has, once so many agents have an owner."""
    async with asyncio.timeout(20):
        while sum(map(len, found := [await own(one) for one in registries])) < number:
            await asyncio.sleep(0.02)
    return found


async def test_each_agent_has_one_owner_and_replicas_have_equally_many(url: str) -> None:
    async with running(url) as first, running(url) as second:
        await first.apply(add=[row(f"a{number:02}") for number in range(40)])
        mine, theirs = await shared_out(40, first, second)
        assert not mine & theirs
        assert (len(mine), len(theirs)) == (20, 20)
        assert await first.replicas.owners() == {
            **dict.fromkeys(mine, first.replicas.my_id),
            **dict.fromkeys(theirs, second.replicas.my_id),
        }
        assert [one.agents for one in await second.replicas.list()] == [20, 20]


async def test_one_that_is_added_runs_at_once_and_raw_sql_is_as_good(url: str) -> None:
    async with running(url, lease_seconds=15.0) as registry:
        await registry.add_agent(row("a1"))
        assert await own(registry) == {"a1"}, "without a wait for the next plan"
        assert await registry.changed()
        postgres.on_server("INSERT INTO agents (id, handler, secret) VALUES ('a2', 'echo', 'env:A')", url=url)
        async with asyncio.timeout(10):
            while not await registry.changed():
                await asyncio.sleep(0.01)
        assert await own(registry) == {"a1", "a2"}


async def test_no_more_are_given_than_the_fleet_may_connect(url: str) -> None:
    async with running(url) as beside:
        await beside.replicas.leave()
        await beside.apply(add=[row(f"a{number:03}") for number in range(200)])
        async with running(url, pace=100.0) as registry:
            await shared_out(20, registry)
            # Every fifth of a second as much as in a fifth of a second.
            assert len(await own(registry)) < 120
            await shared_out(200, registry)


async def test_what_a_dead_one_had_begun_is_given_back_before_the_next_one_has_it(url: str) -> None:
    async with running(url) as first:
        await first.add_agent(row("a1"))
        await shared_out(1, first)
        begun = await add(first.journal, "k1", agent="a1", claim=True)
        async with running(url) as second:
            postgres.on_server("DELETE FROM fences WHERE replica = $1", first.replicas.my_id, url=url)
            postgres.on_server("UPDATE leases SET owner = NULL", url=url)
            postgres.on_server("DELETE FROM replicas WHERE id = $1", first.replicas.my_id, url=url)
            await shared_out(1, second)
            found = await second.journal.load(begun.id)
            assert found is not None
            assert (found.state, found.attempts, found.error) == (MessageState.AVAILABLE, 1, CRASHED)
            assert await second.journal.maintenance.take_over() == 0, "what runs is another one's"


async def test_who_leaves_gets_no_more_and_what_it_has_goes_to_the_others(url: str) -> None:
    async with running(url) as staying:
        async with running(url) as leaving:
            await staying.apply(add=[row(f"a{number}") for number in range(4)])
            await shared_out(4, staying, leaving)
            await leaving.replicas.leave()
            await staying.add_agent(row("b1"))
            await shared_out(5, staying, leaving)
            assert len(await own(staying)) == 3
        assert await shared_out(5, staying) == [{"a0", "a1", "a2", "a3", "b1"}]


async def test_what_waits_for_one_that_is_removed_is_cancelled_by_its_owner_or_where_there_is_none_by_whoever_plans(
    url: str,
) -> None:
    async with running(url) as registry:
        await registry.add_agent(row("a1"))
        await shared_out(1, registry)
        waiting = await add(registry.journal, "k1", agent="a1")
        await registry.remove_agent("a1")
        assert await own(registry) == set()
        found = await registry.journal.load(waiting.id)
        assert found is not None
        assert found.state is MessageState.AVAILABLE, "its owner lets it end first"
        assert await registry.journal.maintenance.cancel_agent("a1") == 1
        assert postgres.on_server("SELECT count(*) FROM leases", url=url) == [(0,)]
        # One that had no owner when it was removed.
        alone = await add(registry.journal, "k2", agent="a2")
        postgres.on_server("INSERT INTO leases (agent_id) VALUES ('a2')", url=url)
        async with asyncio.timeout(10):
            while (found := await registry.journal.load(alone.id)) and found.state is not MessageState.CANCELLED:
                await asyncio.sleep(0.02)
        assert postgres.on_server("SELECT count(*) FROM leases", url=url) == [(0,)]


async def test_a_command_that_has_it_for_itself_gets_no_agents(url: str) -> None:
    async with running(url, alone=True) as registry:
        await registry.add_agent(row("a1"))
        await asyncio.sleep(0.3)
        assert await registry.replicas.owners() == {}


async def test_a_newcomer_is_given_its_part_and_each_agent_goes_once_it_is_ready_there(url: str) -> None:
    async with running(url) as first:
        await first.apply(add=[row(f"a{number}") for number in range(6)])
        await shared_out(6, first)
        async with running(url) as second:
            async with asyncio.timeout(20):
                while len(coming := {row["id"] for row in (await second.replicas.share()).coming}) < 3:
                    await asyncio.sleep(0.02)
            assert not (await first.replicas.share()).going, "nothing goes before it is ready"
            assert len(await own(first)) == 6
            for agent_id in coming:
                await second.replicas.ready(agent_id)
            share = await first.replicas.share()
            assert share.going == share.ready.keys() == coming
            for agent_id, since in share.ready.items():
                await first.replicas.hand_over(agent_id, heard_all_for=since)
            share = await second.replicas.share()
            assert {row["id"] for row in share.own} == coming == share.handed
            assert not share.coming
            assert len(await own(first)) == 3
        async with asyncio.timeout(20):
            while not (share := await first.replicas.share()).own or len(share.own) < 6:
                await asyncio.sleep(0.02)
        assert not share.handed & coming, "what the other one left it did not hand over"


async def test_what_the_platform_refuses_beside_its_owner_stays_there_until_that_one_ends(url: str) -> None:
    async with running(url) as first:
        await first.apply(add=[row(f"a{number}") for number in range(6)])
        await shared_out(6, first)
        async with running(url) as second:
            refused: set[str] = set()
            async with asyncio.timeout(20):
                while len(refused) < 6:
                    for one in {row["id"] for row in (await second.replicas.share()).coming} - refused:
                        await second.replicas.refused(one)
                        refused.add(one)
                    assert not (await first.replicas.share()).going
                    await asyncio.sleep(0.02)
                while (await second.replicas.share()).coming:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            assert not (await second.replicas.share()).coming, "it is not tried again and again"
            await first.replicas.leave()
            async with asyncio.timeout(20):
                while len((await second.replicas.share()).coming) < 6:
                    await asyncio.sleep(0.02)
            assert not (await first.replicas.share()).going
            await second.replicas.refused("a0")
            assert (await first.replicas.share()).going == {"a0"}, "it ends anyhow"


async def test_a_target_that_is_gone_is_no_target(url: str) -> None:
    async with running(url) as first:
        await first.apply(add=[row(f"a{number}") for number in range(4)])
        await shared_out(4, first)
        async with running(url) as second:
            async with asyncio.timeout(20):
                while not (await second.replicas.share()).coming:
                    await asyncio.sleep(0.02)
        assert postgres.on_server("SELECT count(*) FROM leases WHERE next IS NOT NULL", url=url) == [(0,)]
        assert len(await own(first)) == 4


async def test_one_that_is_removed_on_its_way_is_nobodys(url: str) -> None:
    async with running(url) as first:
        await first.apply(add=[row(f"a{number}") for number in range(4)])
        await shared_out(4, first)
        waiting = [await add(first.journal, f"k{number}", agent=f"a{number}") for number in range(4)]
        async with running(url) as second:
            async with asyncio.timeout(20):
                while not (coming := (await second.replicas.share()).coming):
                    await asyncio.sleep(0.02)
            gone = coming[0]["id"]
            await second.remove_agent(gone)
            await second.replicas.ready(gone)
            await first.replicas.hand_over(gone, heard_all_for=None)
            [left] = [one for one in waiting if one.agent_id == gone]
            async with asyncio.timeout(10):
                while (found := await first.journal.load(left.id)) and found.state is not MessageState.CANCELLED:
                    await asyncio.sleep(0.02)
            assert postgres.on_server("SELECT count(*) FROM leases WHERE agent_id = $1", gone, url=url) == [(0,)]


async def test_no_more_are_on_their_way_at_once_than_may_be(url: str) -> None:
    async with running(url, moves=1) as first:
        await first.apply(add=[row(f"a{number}") for number in range(8)])
        await shared_out(8, first)
        async with running(url) as second:
            for left in (7, 6, 5):
                async with asyncio.timeout(20):
                    while not (coming := (await second.replicas.share()).coming):
                        await asyncio.sleep(0.02)
                await asyncio.sleep(0.3)
                assert len((await second.replicas.share()).coming) == 1
                await second.replicas.ready(coming[0]["id"])
                await first.replicas.hand_over(coming[0]["id"], heard_all_for=None)
                assert len(await own(first)) == left


async def test_what_others_have_of_each_other_is_no_news(url: str) -> None:
    async with running(url) as first, running(url) as second, running(url) as third:
        await first.apply(add=[row(f"a{number}") for number in range(3)])
        await shared_out(3, first, second, third)
        mine = next(iter(await own(second)))
        for one in (first, third):
            while await one.changed():
                await asyncio.sleep(0.02)
        to_third = "UPDATE leases SET next = $1 WHERE agent_id = $2"
        postgres.on_server(to_third, third.replicas.my_id, mine, url=url)
        async with asyncio.timeout(10):
            while not await third.changed():
                await asyncio.sleep(0.02)
        assert not await first.changed()
