"""What is counted of the replicas of a registry, and what one that was drained says of itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.replicas import Replica
from supervisor.service.replica_watch import clock_apart, keeps_apart
from tests.support import postgres
from tests.support.observing import figures
from tests.support.stack import Stack, agent_id, stack

#: A replica like the one that runs, and gone, and an agent that it had.
LEFT = (
    "WITH gone AS (INSERT INTO replicas (id, said) SELECT nextval('replica_id'), said FROM replicas RETURNING id), "
    "had AS (INSERT INTO leases (agent_id, owner, epoch) SELECT $1, id, 1 FROM gone) "
    "INSERT INTO fences SELECT id FROM gone"
)

#: One that stands still for a minute before it is given up.
OTHER = (
    "WITH other AS (INSERT INTO replicas (id, said) SELECT nextval('replica_id'), "
    "jsonb_set(said::jsonb, '{lease_seconds}', '60')::text FROM replicas RETURNING id) "
    "INSERT INTO fences SELECT id FROM other"
)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    with postgres.new_database() as url:
        async with stack(tmp_path, registry_url=url, lease_seconds=3) as running:
            yield running


async def test_who_was_found_dead_and_what_it_had_are_counted(fleet: Stack) -> None:
    postgres.on_server(LEFT, agent_id(1), url=fleet.settings.registry_url)
    identity = await fleet.add(1)
    await fleet.online()
    await fleet.until(lambda: figures(fleet.service.metrics)["supervisor_fenced_total"] == 1)
    assert figures(fleet.service.metrics)["supervisor_takeovers_total"] == 1
    await fleet.add(2)
    await fleet.online(2)
    assert figures(fleet.service.metrics)["supervisor_takeovers_total"] == 1, "a new one was nobody's before"
    assert identity in fleet.service.fleet.agent_ids()


async def test_one_that_was_drained_is_not_ready_and_says_why(fleet: Stack) -> None:
    replicas = fleet.service.registry.replicas
    assert not any("draining" in one for one in fleet.service.problems())
    assert replicas.my_id is not None
    await replicas.drain(replicas.my_id)
    await fleet.until(lambda: any("draining: its agents" in one for one in fleet.service.problems()))


@pytest.mark.parametrize(
    ("mine", "other_host", "token", "why"),
    [
        ("http://10.0.0.1:8640", "b", True, ""),
        ("http://127.0.0.1:8640", "a", True, ""),
        ("http://127.0.0.1:8640", "b", True, "the replicas on other machines cannot ask this one"),
        ("http://[::1]:8640", "b", True, "the replicas on other machines cannot ask this one"),
        ("http://10.0.0.1:8640", "b", False, "without SUPERVISOR_ADMIN_TOKEN replicas do not ask each other"),
    ],
)
def test_what_keeps_replicas_apart_is_told(mine: str, other_host: str, token: bool, why: str) -> None:
    me, other = Replica(1, mine, host="a", me=True), Replica(2, "http://10.0.0.2:8640", host=other_host)
    assert keeps_apart([me, other], token=token).startswith(why)
    assert bool(keeps_apart([me, other], token=token)) == bool(why)
    assert keeps_apart([me], token=token) == ""


@pytest.mark.parametrize(
    ("here", "there", "why"),
    [
        (1_000.0, 1_000.0, ""),
        (1_000.0, 1_005.0, ""),
        (4_600.0, 1_000.0, "the clock of this machine is 3,600 s ahead of the database's"),
        (1_000.0, 4_600.0, "the clock of this machine is 3,600 s behind the database's"),
        (1_000.0, None, ""),
    ],
)
def test_a_clock_that_is_far_from_the_databases_is_told(here: float, there: float | None, why: str) -> None:
    assert clock_apart(here, there).startswith(why)
    assert bool(clock_apart(here, there)) == bool(why)


class HourAhead(SystemClock):
    """A clock that somebody set an hour ahead."""

    def now(self) -> float:
        return time.time() + 3_600


async def test_one_whose_clock_is_an_hour_ahead_runs_its_agents_and_says_so_once(
    log: Callable[[], list[dict[str, Any]]], tmp_path: Path
) -> None:
    with postgres.new_database() as url:
        async with stack(tmp_path, registry_url=url, lease_seconds=3, parts={"clock": HourAhead()}) as fleet:
            identity = await fleet.add(1)
            await fleet.online()
            overview = fleet.service.control.overview
            await fleet.until(lambda: any("3,600 s ahead of the database's" in one for one in overview().notices))
            [answer] = await fleet.ask(identity, "hello")
            assert answer.content == "Echo: hello"
            assert len([line for line in log() if line["event"] == "replica_clock_apart"]) == 1


async def test_one_that_the_others_cannot_ask_says_so_once(
    log: Callable[[], list[dict[str, Any]]], tmp_path: Path
) -> None:
    with postgres.new_database() as url:
        async with stack(tmp_path, registry_url=url, lease_seconds=3) as fleet:
            postgres.on_server(OTHER, url=url)
            overview = fleet.service.control.overview
            await fleet.until(lambda: any("replicas do not ask each other" in one for one in overview().notices))
            told = [line["reason"] for line in log() if line["event"] == "replicas_apart"]
            assert told == [one for one in overview().notices if "do not ask each other" in one]
