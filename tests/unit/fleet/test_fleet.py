"""The running agents match the registry, whoever changes it; a defect of one costs the others nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supervisor.core.errors import AgentNotFoundError
from supervisor.core.states import AgentState
from tests.support.paper_play import AGENT, Play, play

OTHER = "b" * 24


def test_rows_that_come_change_and_go_are_followed_while_the_fleet_watches(tmp_path: Path) -> None:
    async def follows(script: Play) -> None:
        fleet = script.fleet.service.fleet
        watching = script.loop.create_task(fleet.watch())
        row = (AGENT, "echo", f"file:{script.fleet.folder / 'agent-secret'}")
        script.fleet.sql(f"INSERT INTO agents (id, handler, secret) VALUES {row}")
        await script.loop.advance(1)
        assert fleet.states() == {AgentState.ONLINE: 1}
        script.fleet.sql("UPDATE agents SET paused = 1")
        await script.loop.advance(1)
        assert fleet.states() == {AgentState.PAUSED: 1}
        script.fleet.sql("DELETE FROM agents")
        await script.loop.advance(1)
        assert (dict(fleet.states()), fleet.statuses(), fleet.reading(AGENT)) == ({}, [], None)
        with pytest.raises(AgentNotFoundError):
            fleet.runner(AGENT)
        watching.cancel()
        await script.loop.settle()

    play(tmp_path, follows)


def test_a_registry_that_cannot_be_read_leaves_the_fleet_as_it_is_and_is_told_once(tmp_path: Path) -> None:
    async def unreadable(script: Play) -> None:
        await script.add()
        fleet = script.fleet.service.fleet
        watching = script.loop.create_task(fleet.watch())
        await script.loop.advance(1)
        script.fleet.sql("ALTER TABLE agents RENAME TO elsewhere")
        await script.loop.advance(5)
        assert fleet.states() == {AgentState.ONLINE: 1}
        script.fleet.sql("ALTER TABLE elsewhere RENAME TO agents")
        await script.loop.advance(1)
        told = [line["event"] for line in script.logged("registry_unreadable", "registry_back")]
        assert told == ["registry_unreadable", "registry_back"]
        watching.cancel()
        await script.loop.settle()

    play(tmp_path, unreadable)


def test_it_tells_how_its_agents_are_and_waits_for_so_many(tmp_path: Path) -> None:
    async def tells(script: Play) -> None:
        fleet = script.fleet.service.fleet
        with pytest.raises(TimeoutError):
            await script.loop.complete(fleet.wait_online(1, 5))
        waiting = script.loop.create_task(fleet.wait_online(2, 60))
        await script.add(OTHER)
        await script.add(AGENT)
        await script.loop.advance(1)
        assert waiting.done()
        assert [status.id for status in fleet.statuses()] == [AGENT, OTHER]
        assert set(fleet.inbox()) == {AGENT, OTHER}
        reading = fleet.reading(AGENT)
        assert reading is not None
        assert reading.pending == 0

    play(tmp_path, tells)


def test_a_stop_ends_all_and_says_whether_it_was_in_time(tmp_path: Path) -> None:
    async def stops(script: Play) -> None:
        fleet = script.fleet.service.fleet
        assert await script.loop.complete(fleet.stop(1)), "nobody is there"
        await script.add(AGENT, handler="slow")
        await script.add(OTHER)
        await script.loop.advance(1)
        script.say("hello")
        await script.loop.settle()
        assert not await script.loop.complete(fleet.stop(1)), "an answer was cut short"
        assert (fleet.statuses(), script.platform.sockets) == ([], [])
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("agent ")]

    slow = "import asyncio\n\nasync def on_message(message, ctx):\n    await asyncio.Event().wait()\n"
    play(tmp_path, stops, handlers={"slow": slow})
