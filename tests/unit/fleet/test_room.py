"""Places for agents' connections where file descriptors are few."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supervisor.core.states import AgentState
from supervisor.fleet.room import KEPT_SECONDS, LOOK_SECONDS, Room
from supervisor.fleet.rotation import SecondSocketRefusedError
from supervisor.net.descriptors import Budget
from tests.support.clock import ManualClock
from tests.support.paper_agent import DIARY, paper_agent
from tests.support.paper_play import AGENT, Play, play

#: So many descriptors are enough for 53 and 54 agents.
FOR_53, FOR_54 = 120, 122


def filled(clock: ManualClock, limit: int = FOR_53) -> Room:
    """One in which there is no place left."""
    room = Room(clock, lambda: Budget(limit))
    for number in range(Budget(limit).agents):
        assert room.take(f"a{number}")
    assert not room.take("late")
    return room


async def waits(room: Room, agent_id: str) -> asyncio.Task[None]:
    waiting = asyncio.create_task(room.wait(agent_id))
    await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


@pytest.mark.parametrize("state", [AgentState.PAUSED, AgentState.STOPPED, AgentState.FAULTED, AgentState.REJECTED])
async def test_who_needs_no_connection_lets_go_of_the_place(clock: ManualClock, state: AgentState) -> None:
    room = filled(clock)
    first, second = await waits(room, "first"), await waits(room, "second")
    assert room.waiting == 2
    assert "120" in room.reason
    assert "53 agents" in room.reason
    room.note("a7", state)
    await first
    assert not second.done()
    assert not room.take("a7"), "whoever waits is next"
    room.note("a8", state)
    await second
    assert room.waiting == 0


async def test_a_short_outage_keeps_the_place_and_a_long_one_does_not(clock: ManualClock) -> None:
    room = filled(clock)
    watching = asyncio.create_task(room.watch())
    waiting = await waits(room, "late")
    room.note("a1", AgentState.BACKOFF)
    room.note("a2", AgentState.BACKOFF)
    await clock.advance(KEPT_SECONDS - LOOK_SECONDS)
    assert room.take("a2")
    await clock.advance(2 * LOOK_SECONDS)
    await waiting
    assert not room.take("a1"), "it was of no use to it for long"
    watching.cancel()


async def test_a_limit_that_is_raised_lets_in_who_waits(clock: ManualClock) -> None:
    room = filled(clock)
    watching = asyncio.create_task(room.watch())
    waiting = await waits(room, "late")
    gone = await waits(room, "gone")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    room.budget = lambda: Budget(FOR_54)
    await clock.advance(LOOK_SECONDS)
    await waiting
    room.budget = lambda: Budget(FOR_53)
    room.note("a1", AgentState.STOPPED)
    assert not room.take("another"), "a limit that is lowered puts nobody out, and lets nobody in"
    watching.cancel()


def test_an_agent_without_a_place_shows_why_and_comes_online_when_there_is_one(tmp_path: Path) -> None:
    async def comes(script: Play) -> None:
        room = script.shared.room
        room.budget = lambda: Budget(0)
        room.take("another")
        await script.add()
        await script.loop.advance(KEPT_SECONDS / 2)
        status = script.runner().status()
        assert status.state is AgentState.BACKOFF
        assert status.reason == room.reason
        assert script.platform.sockets == []
        assert len(script.platform.expires) == 0, "no token is asked for"
        room.note("another", AgentState.STOPPED)
        await script.loop.advance(1)
        assert script.state() is AgentState.ONLINE
        await script.change(paused=True)
        await script.loop.advance(1)
        assert room.take("another"), "a pause lets go of it"

    play(tmp_path, comes)


def test_without_room_for_a_second_socket_the_first_goes_before(tmp_path: Path) -> None:
    async def rotates(script: Play) -> None:
        async with paper_agent(script) as paper:
            old = await script.loop.complete(paper.come_online())
            room = script.shared.room
            while room.take_second():
                pass
            with pytest.raises(SecondSocketRefusedError):
                await script.loop.complete(paper.rotation.run(old, paper.configuration.grant))
            assert not old.connected
            room.leave_second()
            first = await script.loop.complete(paper.connect())
            await script.loop.complete(paper.rotation.run(first, paper.configuration.grant))
            assert script.platform.most_sockets[AGENT] == 2
            await script.loop.advance(1)
            assert room.take_second(), "given back once the first is closed"

    # Few, so that they are counted quickly.
    play(tmp_path, rotates, handlers={"diary": DIARY})
