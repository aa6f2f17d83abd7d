"""Heartbeats where the platform answers them (docs/protocol.md#8-third-generation, 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState, MessageState
from supervisor.platform.hosts.facts import SILENCES
from tests.support.paper_play import AGENT, Play, play

HOUR = 3600.0
BEAT = "agent:heartbeat"


def beats(script: Play) -> int:
    return [event for event, _ in script.platform.asked].count(BEAT)


def test_they_go_on_and_ask_for_no_work(tmp_path: Path) -> None:
    async def beating(script: Play) -> None:
        script.platform.heartbeat = {"success": True}
        await script.add()
        await script.loop.advance(HOUR)
        assert HOUR / 60 <= beats(script) <= HOUR / 30 + 1
        said = [payload for event, payload in script.platform.asked if event == BEAT]
        assert all(one["mcpConnected"] is False for one in said), "else it is put to sleep for what it does not do"

    play(tmp_path, beating)


def test_one_that_proves_a_registration_is_like_all_others(tmp_path: Path) -> None:
    async def proving(script: Play) -> None:
        script.platform.standing_connect = "mute"
        script.platform.heartbeat = {"success": True, "work": {"id": "w1", "title": "Tidy up"}}
        await script.add(settings={"work": True})
        await script.loop.advance(1.9)
        assert beats(script) == 0, "a presence might come"
        await script.loop.advance(1)
        said = [payload for event, payload in script.platform.asked if event == BEAT]
        assert said[0] == {"status": "idle", "mcpConnected": True}
        journal = script.fleet.service.registry.journal
        [work] = await script.loop.complete(journal.messages(states=[MessageState.DONE], limit=9))
        # What the proof brought was not lost.
        assert (work.message.id, script.state()) == ("work:w1", AgentState.ONLINE)
        script.runner().agent.pipeline.duties.sleeping.begin("told to", None)
        before = beats(script)
        script.platform.cut()
        await script.loop.advance(10)
        again = [payload for event, payload in script.platform.asked if event == BEAT][before:]
        assert again, "the new socket was proven"
        assert {one["status"] for one in again} == {"sleep"}, "a busy one would say that it is awake"

    play(tmp_path, proving)


def test_a_platform_that_does_not_know_them_is_left_alone(tmp_path: Path) -> None:
    async def silent(script: Play) -> None:
        for number in range(1, 9):
            await script.add(f"{number:024x}")
            await script.loop.advance(10)
        await script.loop.advance(HOUR)
        # One in twenty connections tries again: of five, hardly ever more than one.
        assert SILENCES <= beats(script) <= SILENCES + 5
        assert script.state(f"{1:024x}") is AgentState.ONLINE

    play(tmp_path, silent)


def test_a_platform_that_was_silent_for_a_while_is_told_of_the_agent_again(tmp_path: Path) -> None:
    """The newest generation finds an agent for an hour after its last heartbeat (docs/faults.md#r37)."""

    async def silent(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.heartbeat = {"success": True}
        await script.add()
        await script.loop.advance(3 * HOUR)
        [first] = script.platform.sockets
        script.platform.deaf_to.add(BEAT)
        await script.loop.advance(20 * 60)
        assert script.platform.sockets == [first], "no heartbeat was missed for long"
        before = beats(script)
        script.platform.deaf_to.clear()
        await script.loop.advance(3 * HOUR)
        assert beats(script) - before >= 3 * HOUR / 60 - 1
        assert script.platform.sockets == [first], "each answer is as good as a connect"
        script.platform.deaf_to.add(BEAT)
        await script.loop.advance(1.2 * HOUR)
        [second] = script.platform.sockets
        assert second is not first, "by its age, since nothing reminded the platform any more"
        assert not script.runner().findability.lost

    play(tmp_path, silent, ws_namespace="/")


@pytest.mark.parametrize("trouble", ["people's process", "an older namespace", "refusals"])
def test_an_answer_that_reminds_nobody_leaves_the_socket_its_age(tmp_path: Path, trouble: str) -> None:
    async def elsewhere(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.heartbeat = {"success": True}
        if trouble == "refusals":
            script.platform.heartbeat = {"success": False, "error": "Redis is away"}
        if trouble == "people's process":
            script.platform.standing_connect = "mute"
        await script.add()
        await script.loop.advance(60)
        [first] = script.platform.sockets
        await script.loop.advance(HOUR)
        [second] = script.platform.sockets
        assert second is not first
        assert beats(script) > HOUR / 60
        assert not script.runner().findability.lost

    play(tmp_path, elsewhere, ws_namespace="/ws/chat" if trouble == "an older namespace" else "/")


def test_who_was_told_nothing_begins_once_another_is_answered(tmp_path: Path) -> None:
    async def later(script: Play) -> None:
        script.platform.keeps_ids = False
        ids = [f"{number:024x}" for number in range(1, 6)]
        for agent_id in ids:
            await script.add(agent_id)
            await script.loop.advance(10)
        script.platform.heartbeat = {"success": True}
        before = beats(script)
        await script.loop.advance(300)
        assert beats(script) == before, "left alone"
        # One connects anew; whether it tries is drawn.
        while beats(script) == before:
            script.platform.cut(agent_id=ids[0])
            await script.loop.advance(10)
        await script.loop.advance(HOUR)
        assert beats(script) - before >= len(ids) * (HOUR - 120) / 60

    play(tmp_path, later, ws_namespace="/", socket_max_age=36000)


def test_how_often_is_a_setting(tmp_path: Path) -> None:
    async def often(script: Play) -> None:
        script.platform.heartbeat = {"success": True}
        await script.add()
        await script.loop.advance(900)
        assert 9 <= beats(script) <= 17

    play(tmp_path, often, heartbeat_seconds=90)


def test_only_the_newest_socket_beats(tmp_path: Path) -> None:
    async def newest(script: Play) -> None:
        script.platform.heartbeat = {"success": True}
        await script.add()
        await script.loop.advance(1)
        script.platform.deaf_to.add("conversation:join")
        for _ in range(3):
            script.runner().reload()
            await script.loop.advance(1)
        before = beats(script)
        assert before >= 4, "each new socket at once"
        await script.loop.advance(HOUR)
        assert beats(script) - before <= HOUR / 30 + 1

    play(tmp_path, newest)


@pytest.mark.parametrize("namespace", ["/", "/ws/agent"])
def test_where_it_is_found_by_heartbeat_the_first_socket_beats_once_a_second_one_has_failed(
    tmp_path: Path, namespace: str
) -> None:
    async def fails(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.heartbeat = {"success": True}
        await script.add()
        await script.loop.advance(1)
        before = beats(script)
        script.platform.standing_connect = "kick"
        script.runner().reload()
        await script.loop.advance(0.001)
        # The connect had made the second one the only one that is found.
        assert (beats(script) > before) == (namespace == "/")
        assert len(script.platform.sockets) == 1

    play(tmp_path, fails, ws_namespace=namespace)


@pytest.mark.parametrize(
    "answer",
    [{"success": False, "error": "Agent is suspended. Heartbeat rejected."}, {"success": True, "token": "of old"}],
    ids=["a refusal", "a token"],
)
def test_what_an_older_socket_is_told_late_is_nothing_to_the_newest(tmp_path: Path, answer: dict[str, Any]) -> None:
    async def late(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.heartbeat = {"success": True}
        await script.add()
        await script.loop.advance(1)
        script.say("hello")
        await script.loop.advance(1)
        before, script.platform.heartbeat, script.platform.ack_seconds = beats(script), answer, 4.0
        while beats(script) == before:
            await script.loop.advance(1)
        script.platform.heartbeat, script.platform.ack_seconds = {"success": True}, 0.0
        # The older one stays for the sake of its conversation.
        script.platform.deaf_to.add("conversation:join")
        script.runner().reload()
        await script.loop.advance(2)
        [older, newest] = script.platform.sockets
        token = script.runner().agent.grant
        await script.loop.advance(4)
        assert script.platform.sockets == [older, newest]
        assert (script.state(), script.runner().agent.grant) == (AgentState.ONLINE, token)

    play(tmp_path, late, ack_seconds=6)


def test_a_fresh_token_is_taken_and_none_is_asked_for(tmp_path: Path) -> None:
    async def fresh(script: Play) -> None:
        script.platform.token_seconds = 2000
        script.platform.heartbeat = {"success": True}
        await script.add()
        await script.loop.advance(1)
        [first] = script.platform.sockets
        assert len(script.platform.expires) == 1
        await script.loop.advance(1000)
        given = script.platform.mint()
        script.platform.heartbeat = {"success": True, "token": given}
        await script.loop.advance(60)
        script.platform.heartbeat = {"success": True}
        grant = script.runner().agent.grant
        assert grant is not None
        assert grant.token == given
        assert script.platform.sockets == [first]
        await script.loop.advance(900)
        [second] = script.platform.sockets
        assert (second.token, len(script.platform.expires)) == (given, 2), "the new socket has it; nobody asked for one"
        assert script.platform.broken == []

    play(tmp_path, fresh)


def test_one_that_is_refused_as_the_proof_says_why(tmp_path: Path) -> None:
    async def proof(script: Play) -> None:
        script.platform.standing_connect = "mute"
        script.platform.heartbeat = {"success": False, "error": "Agent is suspended. Heartbeat rejected."}
        await script.add()
        await script.loop.advance(5)
        assert script.state() is AgentState.REJECTED
        script.platform.heartbeat = {"success": True}
        await script.loop.advance(75)
        assert script.state() is AgentState.ONLINE, "a suspended one is asked for again within a minute"

    play(tmp_path, proof, ws_namespace="/")


def test_a_refusal_ends_the_connection(tmp_path: Path) -> None:
    async def refused(script: Play) -> None:
        script.platform.heartbeat = {"success": True}
        await script.add(AGENT)
        await script.loop.advance(1)
        script.platform.heartbeat = {"success": False, "error": "sleep field is required when status is sleep"}
        await script.loop.advance(120)
        assert script.state() is AgentState.ONLINE, "that is about the heartbeat"
        script.platform.heartbeat = {"success": False, "error": "Agent is suspended. Heartbeat rejected."}
        await script.loop.advance(61)
        assert (script.state(), script.platform.sockets) == (AgentState.REJECTED, [])
        assert "suspended" in script.runner().status().reason

    play(tmp_path, refused)
