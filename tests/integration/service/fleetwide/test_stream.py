"""The events of all replicas as one stream: each once, in each one's order, and what is lost is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.service.fleetwide.stream import read_position, write_position
from tests.support.together import TOKEN, Together, together

Event = tuple[str, str, dict[str, Any]]


@asynccontextmanager
async def stream(fleet: Together, number: int, after: str = "", **query: Any) -> AsyncIterator[aiohttp.StreamReader]:
    headers = {"Authorization": f"Bearer {TOKEN}"} | ({"Last-Event-ID": after} if after else {})
    url = f"{fleet.url(number)}/api/v1/events"
    async with fleet.session.get(url, params=query, headers=headers) as answer:
        assert answer.status == 200
        yield answer.content


async def take(content: aiohttp.StreamReader, count: int) -> list[Event]:
    found: list[Event] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(20):
        while len(found) < count:
            line = (await content.readline()).decode()
            assert line, f"the stream ended after {found}"
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
                fields = {}
    return found


def publish(fleet: Together, replica: int, *numbers: int) -> None:
    """Have a replica tell something, a number each; the time goes on with them."""
    for number in numbers:
        at = f"2026-01-01T00:00:{number:02}Z"
        said = {"event": "told", "timestamp": at, "level": "info", "number": number}
        fleet.members[replica].stack.service.control.events.publish("log", f"agent-{replica}", said)


def numbers(events: list[Event]) -> list[int]:
    return [fields["number"] for _, _, fields in events]


QUERY = {"kind": "log", "text": "event=told"}


async def test_what_was_is_put_in_order_and_what_comes_comes_once(tmp_path: Path) -> None:
    async with together(tmp_path, count=3) as fleet:
        publish(fleet, 1, 1, 4, 7)
        publish(fleet, 2, 2, 5, 8)
        publish(fleet, 3, 3, 6)
        async with stream(fleet, 1, last=5, **QUERY) as content:
            first = await take(content, 5)
            assert numbers(first) == [4, 5, 6, 7, 8]
            publish(fleet, 2, 9, 10)
            assert numbers(await take(content, 2)) == [9, 10]
            publish(fleet, 1, 11)
            publish(fleet, 3, 12)
            assert sorted(numbers(await take(content, 2))) == [11, 12]
        # At each of the first ones: whoever comes back there gets what is after it, all of it and once.
        for at, (position, _, _) in enumerate(first):
            async with stream(fleet, 2, position, **QUERY) as content:
                assert sorted(numbers(await take(content, 8 - at))) == list(range(5 + at, 13))
        async with stream(fleet, 3, last=3, follow="false", **QUERY) as content:
            body = (await content.read()).decode()
        assert [json.loads(line[6:])["number"] for line in body.splitlines() if line.startswith("data")] == [10, 11, 12]


async def test_events_are_chosen_by_their_agents_as_their_replica_knows_them(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        ada = await fleet.add(1, 1, labels={"team": "x"})
        bob = await fleet.add(2, 2, labels={"team": "y"})
        for member in fleet.members.values():
            await member.stack.online()
        async with stream(fleet, 1, last=50, kind="state", label="team=y") as content:
            assert {fields["agent"] for _, _, fields in await take(content, 4)} == {bob}
        async with stream(fleet, 2, last=50, kind="state", agent_id=ada) as content:
            assert {fields["agent"] for _, _, fields in await take(content, 4)} == {ada}


async def test_one_that_goes_is_told_and_one_that_comes_is_heard(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        gone = fleet.roster.replicas[2]
        del fleet.roster.replicas[2]
        async with stream(fleet, 1, last=0, **QUERY) as content:
            publish(fleet, 1, 1)
            publish(fleet, 2, 2, 3)
            assert numbers(await take(content, 1)) == [1]
            # One that joins is new with all that it has told.
            fleet.roster.replicas[2] = gone
            assert numbers(await take(content, 2)) == [2, 3]
            await fleet.silence(2)
            [(_, kind, fields)] = await take(content, 1)
            assert (kind, fields["missed"], fields["replica"]) == ("gap", 0, 2)
            assert "Replica 2" in fields["reason"] or "replica 2" in fields["reason"]
            # Told once, however long it stays away; the others go on, and what it says meanwhile is not lost.
            publish(fleet, 2, 4)
            publish(fleet, 1, 5)
            assert numbers(await take(content, 1)) == [5]
            await fleet.members[2].server.start()
            fleet.roster.replicas[2] = replace(gone, address=fleet.url(2))
            assert numbers(await take(content, 1)) == [4]
            publish(fleet, 2, 6)
            assert numbers(await take(content, 1)) == [6]


async def test_who_comes_back_hears_of_one_that_has_ended_meanwhile(tmp_path: Path) -> None:
    async with together(tmp_path) as fleet:
        publish(fleet, 2, 1)
        async with stream(fleet, 1, last=1, **QUERY) as content:
            [(position, _, _)] = await take(content, 1)
        del fleet.roster.replicas[2]
        publish(fleet, 1, 2)
        async with stream(fleet, 1, position, **QUERY) as content:
            came = await take(content, 2)
        assert {kind: fields.get("number", fields.get("replica")) for _, kind, fields in came} == {"gap": 2, "log": 2}


async def test_whoever_follows_leaves_nothing_behind(tmp_path: Path) -> None:
    with no_more_tasks("events of replica"):
        async with together(tmp_path) as fleet:
            publish(fleet, 1, 1)
            async with stream(fleet, 1, last=1, **QUERY) as content:
                await take(content, 1)
            async with asyncio.timeout(10):
                while following():
                    await asyncio.sleep(0.01)


def following() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("events of replica")]


@contextmanager
def no_more_tasks(name: str) -> Iterator[None]:
    yield
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(name)]


@given(st.dictionaries(st.integers(1, 10**18), st.integers(0, 10**18), min_size=1, max_size=9))
def test_a_position_is_read_as_it_was_written(told: dict[int, int]) -> None:
    assert read_position(write_position(told)) == told


@pytest.mark.parametrize("text", [None, "", "1726-5", "1:2,", ":", "a:1", "1:-2", "1:2:3", f"1:{'9' * 40}", "¹:1"])
def test_what_is_no_position_is_that_of_a_new_follower(text: str | None) -> None:
    assert read_position(text) is None
