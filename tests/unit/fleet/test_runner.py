"""One agent's whole life over a paper platform: online, paused, refused, faulted, back, stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState
from supervisor.fleet.recovery import FAULT_RECHECK_SECONDS
from supervisor.fleet.runner import REGISTRY_RETRY_SECONDS
from tests.support.paper_play import AGENT, BACK_SECONDS, Play, play
from tests.support.stack import handler_module

GATED = """
import asyncio

gate = asyncio.Event()

async def on_message(message, ctx):
    await gate.wait()
    return "late"
"""


async def online(script: Play, **fields: Any) -> None:
    await script.add(**fields)
    await script.loop.advance(1)
    assert script.state() is AgentState.ONLINE


def test_an_agent_comes_online_and_tells_how_it_is(tmp_path: Path) -> None:
    async def lives(script: Play) -> None:
        await online(script, name="Ann", labels={"team": "x"}, settings={"mood": "good"})
        status = script.runner().status()
        assert (status.name, status.handler, status.labels) == ("Ann", "echo", {"team": "x"})
        assert (status.reason, status.health, status.paused) == ("", "ok", False)
        assert status.auth_expires_at == pytest.approx(script.shared.clock.now() + 86_400, abs=5)
        assert script.runner().host == "paper.example"
        assert not script.runner().cut_short

    play(tmp_path, lives)


def test_a_pause_takes_it_offline_and_its_end_brings_it_back(tmp_path: Path) -> None:
    async def pauses(script: Play) -> None:
        await online(script)
        await script.change(paused=True)
        await script.loop.advance(1)
        assert (script.state(), script.platform.sockets) == (AgentState.PAUSED, [])
        await script.loop.advance(86_400)
        assert script.state() is AgentState.PAUSED
        await script.change()
        await script.loop.advance(1)
        assert script.state() is AgentState.ONLINE

    play(tmp_path, pauses)


@pytest.mark.parametrize("reason", ["transport error", "server disconnect"])
def test_a_connection_that_is_lost_is_followed_by_another(tmp_path: Path, reason: str) -> None:
    async def loses(script: Play) -> None:
        await online(script)
        script.platform.cut(reason)
        await script.loop.settle()
        assert script.state() is not AgentState.ONLINE
        await script.loop.advance(BACK_SECONDS)
        assert (script.state(), len(script.platform.sockets)) == (AgentState.ONLINE, 1)

    play(tmp_path, loses)


def test_a_refusal_is_shown_and_a_persons_word_tries_again_at_once(tmp_path: Path) -> None:
    async def refused(script: Play) -> None:
        script.platform.standing_token = "401"
        await script.add()
        await script.loop.advance(1)
        assert script.state() is AgentState.REJECTED
        assert "401" in script.runner().status().reason
        script.platform.heal()
        await script.loop.advance(1)
        assert script.state() is AgentState.REJECTED
        script.runner().retry_now()
        await script.loop.advance(1)
        assert script.state() is AgentState.ONLINE

    play(tmp_path, refused)


def test_a_row_that_cannot_run_is_looked_at_again(tmp_path: Path) -> None:
    async def faulted(script: Play) -> None:
        await script.add(handler="missing")
        await script.loop.advance(1)
        assert script.state() is AgentState.FAULTED
        assert "There is no handler 'missing'" in script.runner().status().reason
        (script.fleet.agents_dir / "missing.py").write_text("async def on_message(message, ctx):\n    return 'here'\n")
        await script.loop.advance(FAULT_RECHECK_SECONDS)
        assert script.state() is AgentState.ONLINE

    play(tmp_path, faulted)


def test_a_new_name_disturbs_nothing_and_new_settings_of_the_socket_open_another(tmp_path: Path) -> None:
    async def changes(script: Play) -> None:
        await online(script)
        [socket] = script.platform.sockets
        await script.change(name="Ann")
        await script.loop.advance(10)
        assert script.platform.sockets == [socket]
        assert script.runner().status().name == "Ann"
        await script.change(name="Ann", settings={"ws_namespace": "/chat"})
        await script.loop.advance(10)
        assert (script.state(), len(script.platform.sockets)) == (AgentState.ONLINE, 1)
        assert script.platform.sockets != [socket]

    play(tmp_path, changes)


def test_a_journal_that_cannot_be_read_is_no_fault_of_the_agents(tmp_path: Path) -> None:
    async def unreadable(script: Play) -> None:
        script.fleet.sql("ALTER TABLE outbox RENAME TO elsewhere")
        await script.add()
        await script.loop.advance(1)
        assert script.state() is AgentState.BACKOFF
        script.fleet.sql("ALTER TABLE elsewhere RENAME TO outbox")
        await script.loop.advance(REGISTRY_RETRY_SECONDS)
        assert script.state() is AgentState.ONLINE

    play(tmp_path, unreadable)


def test_a_reload_is_answered_once_it_is_done(tmp_path: Path) -> None:
    async def reloads(script: Play) -> None:
        await online(script)
        path = script.fleet.agents_dir / "echo.py"
        path.write_text("async def on_message(message, ctx):\n    return 'anew'\n")
        assert await script.loop.complete(script.runner().refresh()) == ""
        script.say("hello")
        await script.loop.advance(1)
        assert script.answers == ["anew"]
        path.write_text("half a thought")
        assert "the old code goes on" in await script.loop.complete(script.runner().refresh())
        assert script.state() is AgentState.ONLINE

    play(tmp_path, reloads)


def test_a_reload_is_answered_too_where_the_platform_rejects_the_agent_or_it_ends(tmp_path: Path) -> None:
    async def reloads(script: Play) -> None:
        await online(script)
        runner = script.runner()
        script.platform.standing_token = "401"
        refreshed = asyncio.ensure_future(runner.refresh())
        script.platform.cut()
        await script.loop.advance(60)
        assert script.state() is AgentState.REJECTED
        assert refreshed.done()
        assert refreshed.result() == runner.status().reason
        refreshed = asyncio.ensure_future(runner.refresh())
        runner.stop(0)
        await script.loop.advance(5)
        assert (runner.condition.state, refreshed.done()) == (AgentState.STOPPED, True)

    play(tmp_path, reloads)


def test_a_host_that_is_back_ends_a_backoff_but_not_the_time_that_the_platform_asked_for(tmp_path: Path) -> None:
    async def waits(script: Play) -> None:
        for token, state in (("503", AgentState.ONLINE), ("429", AgentState.BACKOFF)):
            script.platform.standing_token = token
            await script.add(AGENT)
            await script.loop.settle()
            assert script.state() is AgentState.BACKOFF
            script.platform.heal()
            script.runner().host_is_back()
            await script.loop.settle()
            assert script.state() is state
            await script.remove()
            await script.loop.advance(1)

    play(tmp_path, waits)


def test_a_stop_that_cuts_an_answer_short_says_so_and_gives_it_back(tmp_path: Path) -> None:
    async def stops(script: Play) -> None:
        await online(script, handler="gated")
        script.say("hello")
        await script.loop.settle()
        runner = script.runner()
        runner.stop(2)
        await script.loop.advance(3)
        assert (runner.condition.state, runner.cut_short) == (AgentState.STOPPED, True)
        assert [row.state.value for row in script.fleet.inbox()] == ["available"]
        handler_module("gated").gate.set()

    play(tmp_path, stops, handlers={"gated": GATED})
