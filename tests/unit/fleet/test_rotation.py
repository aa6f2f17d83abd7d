"""From one connection to the next: make before break, and break before make where the platform allows one socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supervisor.core.errors import ConnectError, Verdict
from supervisor.core.states import AgentState
from supervisor.fleet.rotation import REFUSED_ROTATIONS, SecondSocketRefusedError
from supervisor.platform.connection import Connection
from supervisor.platform.hosts.facts import ONE_SOCKET_SECONDS
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_play import AGENT, Play, play

HANDLERS = {"diary": DIARY}


async def rotate(script: Play, paper: PaperAgent, old: Connection) -> Connection:
    return await script.loop.complete(paper.rotation.run(old, paper.configuration.grant))


def test_the_new_connection_is_in_use_before_the_old_one_closes(tmp_path: Path) -> None:
    async def rotates(script: Play) -> None:
        async with paper_agent(script) as paper:
            old = await script.loop.complete(paper.come_online())
            new = await rotate(script, paper, old)
            assert paper.agent.connection is new
            assert script.platform.most_sockets[AGENT] == 2
            await script.loop.advance(1)
            assert (old.connected, new.connected, len(script.platform.sockets)) == (False, True, 1)
            assert not paper.rotation.opening

    play(tmp_path, rotates, handlers=HANDLERS)


def test_an_attempt_that_fails_leaves_the_old_connection_in_use(tmp_path: Path) -> None:
    async def fails(script: Play) -> None:
        async with paper_agent(script) as paper:
            old = await script.loop.complete(paper.come_online())
            script.platform.connects.append("refuse")
            with pytest.raises(ConnectError):
                await rotate(script, paper, old)
            assert paper.agent.connection is old
            assert (old.connected, paper.rotation.opening) == (True, False)

    play(tmp_path, fails, handlers=HANDLERS)


def test_a_second_socket_that_is_refused_again_and_again_makes_room_for_itself(tmp_path: Path) -> None:
    async def refused(script: Play) -> None:
        async with paper_agent(script) as paper:
            old = await script.loop.complete(paper.come_online())
            script.platform.connects.extend(["kick"] * REFUSED_ROTATIONS)
            for _ in range(REFUSED_ROTATIONS - 1):
                with pytest.raises(ConnectError) as raised:
                    await rotate(script, paper, old)
                assert raised.value.verdict is Verdict.RETRY, "a new token is not to blame"
            with pytest.raises(SecondSocketRefusedError):
                await rotate(script, paper, old)
            assert paper.agent.connection is None
            assert (old.connected, script.platform.sockets) == (False, [])
            assert len(script.logged("second_socket_refused")) == 1
            again = await script.loop.complete(paper.connect())
            with pytest.raises(SecondSocketRefusedError):
                await rotate(script, paper, again)
            assert not again.connected, "from now on the old one goes first"

    play(tmp_path, refused, handlers=HANDLERS)


def test_a_platform_of_one_socket_is_tried_again_after_a_while_and_found_out_at_once(tmp_path: Path) -> None:
    async def lapses(script: Play) -> None:
        async def most_sockets(*fates: str) -> int:
            """How many sockets the agent had at once while it got a new one."""
            [before], script.platform.most_sockets[AGENT] = script.platform.sockets, 1
            script.platform.connects.extend(fates)
            script.runner().reload()
            await script.loop.advance(20)
            [now] = script.platform.sockets
            assert (now is before, len(script.platform.connects), script.state()) == (False, 0, AgentState.ONLINE)
            return script.platform.most_sockets[AGENT]

        await script.add()
        await script.loop.advance(1)
        assert await most_sockets() == 2
        await most_sockets(*["kick"] * REFUSED_ROTATIONS)
        assert len(script.logged("one_socket_platform")) == 1
        assert await most_sockets() == 1, "the first one makes room"
        await script.loop.advance(ONE_SOCKET_SECONDS - 60)
        assert await most_sockets() == 1
        await script.loop.advance(60)
        assert await most_sockets() == 2, "by now it may have been mended"
        await most_sockets("kick")
        assert len(script.logged("one_socket_platform")) == 2, "it was known for it"
        assert await most_sockets() == 1

    play(tmp_path, lapses)


def test_an_end_closes_what_was_on_its_way_out(tmp_path: Path) -> None:
    async def ends(script: Play) -> None:
        async with paper_agent(script) as paper:
            old = await script.loop.complete(paper.come_online())
            new = await rotate(script, paper, old)
            await script.loop.complete(paper.rotation.close())
            assert (old.connected, new.connected) == (False, True)

    play(tmp_path, ends, handlers=HANDLERS)


def test_a_second_socket_is_taken_over_as_it_is_when_the_first_goes(tmp_path: Path) -> None:
    async def taken_over(script: Play) -> None:
        async with paper_agent(script) as paper:
            old = await script.loop.complete(paper.come_online())
            # Nothing proves it for three seconds.
            script.platform.connects.append("late")
            script.platform.deaf_to.update(("conversation:online", "conversation:join", "message:typing"))
            rotating = asyncio.ensure_future(paper.rotation.run(old, paper.configuration.grant))
            await script.loop.advance(1)
            assert (paper.agent.connection, paper.rotation.taken_over) == (old, False)
            script.platform.sockets[0].lose("server disconnect")
            await script.loop.settle()
            second = paper.agent.connection
            assert second is not None
            assert (second.connected, paper.rotation.taken_over) == (True, True)
            assert script.say("in between"), "it brings messages already"
            await script.loop.advance(1)
            assert script.answers == ["dear diary: in between"]
            assert await script.loop.complete(_result(rotating)) is second

    play(tmp_path, taken_over, handlers=HANDLERS)


def test_one_that_is_never_proven_does_not_outlive_the_first_for_long(tmp_path: Path) -> None:
    async def deaf(script: Play) -> None:
        async with paper_agent(script) as paper:
            old = await script.loop.complete(paper.come_online())
            script.platform.connects.append("deaf")
            script.platform.deaf_to.update(("conversation:online", "conversation:join", "message:typing"))
            rotating = asyncio.ensure_future(paper.rotation.run(old, paper.configuration.grant))
            await script.loop.advance(60)
            assert not rotating.done(), "while the first is there, there is time"
            script.platform.sockets[0].lose("server disconnect")
            with pytest.raises(ConnectError, match="nothing proved"):
                await script.loop.complete(_result(rotating))
            assert script.platform.sockets == []
            # As its owner does that hears of the loss.
            await script.loop.complete(old.close())

    play(tmp_path, deaf, handlers=HANDLERS)


async def _result(task: asyncio.Future[Connection]) -> Connection:
    return await task
