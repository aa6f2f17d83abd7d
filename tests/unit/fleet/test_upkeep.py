"""An online agent is kept current: its token, its socket, its row; trouble leaves what it has in use."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.core.errors import ConnectionLostError, TokenError
from supervisor.core.states import AgentState
from supervisor.fleet.change import Changed
from supervisor.fleet.recovery import Bounds, Recovery
from supervisor.fleet.upkeep import REFETCH_SECONDS, Upkeep
from supervisor.platform.connection import Connection
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_play import AGENT, Play, play

HANDLERS = {"diary": DIARY}
DAY_SECONDS = 86_400


class Desk:
    """The upkeep of one agent that is online.

    Attributes:
        trouble: what was shown to people, in order.
    """

    def __init__(self, script: Play, paper: PaperAgent) -> None:
        self.script, self.paper = script, paper
        self.trouble: list[str] = []
        shared = replace(script.shared, uniform=lambda low, _: low)
        self.upkeep = Upkeep(
            paper.agent,
            paper.desired,
            paper.configuration,
            paper.rotation,
            recovery=Recovery(Bounds.of(shared.settings), shared.clock),
            shared=shared,
            on_trouble=self.trouble.append,
        )

    async def come_online(self) -> Connection:
        connection = await self.script.loop.complete(self.paper.come_online())
        self.upkeep.renewed()
        return connection

    def begin(self, connection: Connection) -> asyncio.Task[Connection]:
        return self.script.loop.create_task(self.upkeep.next_turn(connection))


def test_instruction_and_settings_are_fetched_anew_within_the_hour_over_the_same_socket(tmp_path: Path) -> None:
    async def fetches(script: Play) -> None:
        async with paper_agent(script) as paper:
            desk = Desk(script, paper)
            connection = await desk.come_online()
            tokens = len(script.platform.expires)
            turn = desk.begin(connection)
            await script.loop.advance(0.8 * REFETCH_SECONDS - 1)
            assert (turn.done(), len(script.platform.expires)) == (False, tokens)
            await script.loop.advance(2)
            assert turn.result() is connection
            assert (len(script.platform.expires), desk.trouble) == (tokens + 1, [""])
            assert script.platform.most_sockets[AGENT] == 1

    play(tmp_path, fetches, handlers=HANDLERS)


def test_a_suspended_agent_is_found_out_within_the_hour_where_its_prompt_needs_no_token(tmp_path: Path) -> None:
    async def found_out(script: Play) -> None:
        script.platform.rest.configuration = {"instruction": {"id": "1", "systemPrompt": "Be brief."}}
        await script.add()
        await script.loop.advance(600)
        assert script.runner().agent.profile.answer.instruction.system_prompt == "Be brief."
        script.platform.standing_token = "suspended"
        await script.loop.advance(REFETCH_SECONDS)
        assert (script.state(), script.platform.sockets) == (AgentState.REJECTED, [])
        await script.loop.advance(REFETCH_SECONDS)
        assert script.state() is AgentState.REJECTED, "although its token would let it in"
        script.platform.heal()
        await script.loop.advance(60)
        assert script.state() is AgentState.ONLINE

    play(tmp_path, found_out)


def test_heartbeats_that_are_answered_tell_as_much_and_save_the_hourly_token(tmp_path: Path) -> None:
    async def saves(script: Play) -> None:
        script.platform.rest.configuration = {"instruction": {"id": "1", "systemPrompt": "Be brief."}}
        script.platform.heartbeat = {"success": True}
        script.platform.token_seconds = round(3 * REFETCH_SECONDS)
        await script.add()
        await script.loop.advance(2.5 * REFETCH_SECONDS)
        assert len(script.platform.expires) == 1
        given = script.platform.mint()
        script.platform.heartbeat = {"success": True, "token": given}
        await script.loop.advance(60)
        script.platform.heartbeat = {"success": True}
        await script.loop.advance(2 * REFETCH_SECONDS)
        [socket] = script.platform.sockets
        assert (socket.token, len(script.platform.expires)) == (given, 2), "no secret was checked but the first time"
        script.platform.heartbeat = None
        await script.loop.advance(REFETCH_SECONDS + 60)
        assert len(script.platform.expires) == 3

    play(tmp_path, saves)


def test_before_its_token_ends_the_agent_has_a_socket_with_the_next(tmp_path: Path) -> None:
    async def renews(script: Play) -> None:
        script.platform.token_seconds = 1800
        async with paper_agent(script) as paper:
            desk = Desk(script, paper)
            first = await desk.come_online()
            turn = desk.begin(first)
            await script.loop.advance(1799)
            second = turn.result()
            assert second is not first
            assert paper.agent.connection is second
            assert script.platform.broken == []

    play(tmp_path, renews, handlers=HANDLERS)


def test_a_token_endpoint_that_is_away_is_shown_and_leaves_the_socket_in_use(tmp_path: Path) -> None:
    async def fails(script: Play) -> None:
        async with paper_agent(script) as paper:
            desk = Desk(script, paper)
            connection = await desk.come_online()
            script.platform.standing_token = "503"
            turn = desk.begin(connection)
            await script.loop.advance(REFETCH_SECONDS + 120)
            assert turn.result() is connection
            assert connection.connected
            assert desk.trouble[0].startswith("cannot renew: 503")
            script.platform.heal()
            turn = desk.begin(connection)
            await script.loop.advance(120)
            assert (turn.result(), desk.trouble[-1]) == (connection, "")

    play(tmp_path, fails, handlers=HANDLERS)


def test_a_refusal_ends_the_connection_once_its_own_token_is_no_longer_good(tmp_path: Path) -> None:
    async def refused(script: Play) -> None:
        async with paper_agent(script) as paper:
            desk = Desk(script, paper)
            connection = await desk.come_online()
            script.platform.standing_token = "401"
            ended: BaseException | None = None
            while ended is None:
                turn = desk.begin(connection)
                await script.loop.advance(2 * REFETCH_SECONDS)
                if turn.done():
                    ended = turn.exception()
                turn.cancel()
                await script.loop.settle()
                assert ended is not None or script.loop.time() < DAY_SECONDS + 3 * REFETCH_SECONDS
            assert isinstance(ended, TokenError)
            assert script.loop.time() >= DAY_SECONDS
            assert all(said.startswith("cannot renew: 401") for said in desk.trouble)

    play(tmp_path, refused, handlers=HANDLERS)


def test_a_turn_is_dropped_when_the_connection_is_lost_or_something_else_is_wanted(tmp_path: Path) -> None:
    async def drops(script: Play) -> None:
        async with paper_agent(script) as paper:
            desk = Desk(script, paper)
            connection = await desk.come_online()
            turn = desk.begin(connection)
            await script.loop.settle()
            paper.desired.change.set()
            await script.loop.settle()
            assert isinstance(turn.exception(), Changed)
            turn = desk.begin(connection)
            await script.loop.settle()
            script.platform.cut("transport error")
            await script.loop.settle()
            with pytest.raises(ConnectionLostError, match="transport error"):
                turn.result()
            paper.desired.stop(5)
            with pytest.raises(Changed):
                await desk.upkeep.next_turn(connection)

    play(tmp_path, drops, handlers=HANDLERS)


def test_a_reload_of_code_that_is_broken_leaves_the_agent_with_the_code_it_has(tmp_path: Path) -> None:
    async def reloads(script: Play) -> None:
        async with paper_agent(script) as paper:
            desk = Desk(script, paper)
            connection = await desk.come_online()
            handler = paper.agent.profile.handler
            (script.fleet.agents_dir / "diary.py").write_text("raise RuntimeError('half a thought')\n")
            paper.desired.reload()
            turn = desk.begin(connection)
            await script.loop.settle()
            assert desk.trouble[0].startswith("reload failed, the old code goes on: ")
            assert "half a thought" in desk.trouble[0]
            assert paper.agent.profile.handler is handler
            assert not paper.desired.reload_due
            turn.cancel()
            await script.loop.settle()

    play(tmp_path, reloads, handlers=HANDLERS)
