"""An agent's conversations are kept complete, whatever the platform says to joins: over a paper platform."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from supervisor.messages.holds import HOLD_SECONDS
from supervisor.messages.missed import SLACK_SECONDS
from supervisor.platform.connection import Connection
from tests.support.paper_platform import HOME
from tests.support.paper_play import AGENT, Play, play
from tests.support.virtual import EPOCH

#: More than are joined at once.
LISTED = [f"{number:024x}" for number in range(0xC0, 0xC0 + 60)]
OTHER = f"{2:024x}"
TALK = "d" * 24
JOIN = "conversation:join"


def joins(script: Play) -> Counter[str]:
    """How often a join of each conversation was asked for."""
    return Counter(said["conversationId"] for event, said in script.platform.asked if event == JOIN)


def connection(script: Play, agent_id: str = AGENT) -> Connection:
    found = script.runner(agent_id).agent.connection
    assert found is not None
    return found


def is_complete(script: Play, agent_id: str = AGENT) -> bool:
    """Whether an agent is in all its conversations, as far as it knows."""
    unjoined = script.runner(agent_id).agent.pipeline.roster.unjoined
    return unjoined == 0 and set(LISTED) <= set(connection(script, agent_id).members)


async def away_and_back(script: Play, *said: str) -> str:
    """A person begins a conversation while the agent is away for longer than clocks differ; returns it."""
    script.platform.keeps_ids = False
    script.platform.conversations = []
    await script.add()
    await script.loop.advance(400)
    script.platform.standing_connect = "refuse"
    script.platform.cut()
    await script.loop.advance(2 * SLACK_SECONDS)
    script.platform.conversations = [TALK]
    for text in said:
        script.platform.rest.add(TALK, text, EPOCH + script.loop.time())
    script.platform.heal()
    return TALK


def speak(script: Play, text: str, conversation: str = TALK, **fields: Any) -> None:
    """A person says something that reaches the agent."""
    said = script.platform.rest.add(conversation, text, EPOCH + script.loop.time())
    assert script.platform.say(AGENT, {"conversationId": conversation, **said, **fields})


def test_a_first_message_is_not_lost_where_its_history_comes_later_than_the_second(tmp_path: Path) -> None:
    async def late(script: Play) -> None:
        script.platform.rest.seconds["history"] = HOLD_SECONDS + 4
        await away_and_back(script, "first")
        while not script.platform.rest.asked["history"]:
            await script.loop.advance(1)
        speak(script, "second")
        await script.loop.advance(HOLD_SECONDS + 1)
        assert script.answers == ["Echo: second"], "it waits no longer"
        await script.loop.advance(60)
        assert script.answers == ["Echo: second", "Echo: first"]

    play(tmp_path, late)


@pytest.mark.parametrize("fields", [{}, {"_id": None, "externalUsername": "ann"}, {"platform": "telegram"}])
def test_what_came_before_the_first_words_of_an_unknown_conversation_is_looked_for(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    """Before the first list is through for all of them, after it for those of bridged people."""

    async def begins(script: Play) -> None:
        await away_and_back(script)
        if fields:
            script.platform.conversations = []
            await script.loop.advance(200)
            assert script.platform.rest.asked["history"] == 0
        else:
            # Slow, and no time-out: a host that is ill is asked for no history either.
            script.platform.rest.seconds["conversations"] = 10
            while not script.platform.sockets:
                await script.loop.advance(1)
        script.platform.rest.add(TALK, "first", EPOCH + script.loop.time())
        await script.loop.advance(1)
        speak(script, "second", **fields)
        await script.loop.advance(5)
        assert script.answers == ["Echo: first", "Echo: second"]

    play(tmp_path, begins)


def test_first_words_that_a_connection_brings_as_it_closes_do_not_leave_their_conversation_unread(
    tmp_path: Path,
) -> None:
    async def closes(script: Play) -> None:
        await away_and_back(script)
        script.platform.conversations = []
        await script.loop.advance(200)
        script.platform.rest.add(TALK, "first", EPOCH + script.loop.time())
        # What the message begins has its first turn after that.
        ending = script.loop.create_task(connection(script).close())
        speak(script, "second", platform="telegram")
        await script.loop.advance(400)
        assert ending.done()
        assert script.answers == ["Echo: first", "Echo: second"]

    play(tmp_path, closes)


@pytest.mark.parametrize("status", [500, 403])
def test_what_could_not_be_read_is_read_later_and_the_gap_stays_open_until_then(tmp_path: Path, status: int) -> None:
    async def ill(script: Play) -> None:
        rest = script.platform.rest
        rest.statuses["history"] = status
        await away_and_back(script, "first")
        await script.loop.advance(1500)
        assert (rest.asked["history"] > 4, script.answers) == (True, [])
        # Lists go on at their pace, with a history each, which is tried a few times; one was under way.
        before = rest.asked.copy()
        await script.loop.advance(3000)
        histories, lists = (rest.asked[what] - before[what] for what in ("history", "conversations"))
        assert histories <= 4 * (lists + 1)
        assert lists < 100
        rest.statuses.clear()
        await script.loop.advance(400)
        assert script.answers == ["Echo: first"]
        assert script.runner().agent.pipeline.roster.covered_until > EPOCH + script.loop.time() - 400

    play(tmp_path, ill)


def test_a_connection_that_dies_while_the_history_is_read_leaves_the_gap_open(tmp_path: Path) -> None:
    """Where the platform lists no conversations."""

    async def dies(script: Play) -> None:
        await script.add()
        await script.loop.advance(10)
        speak(script, "hello", HOME)
        await script.loop.advance(10)
        script.platform.standing_connect = "refuse"
        script.platform.cut()
        await script.loop.advance(2 * SLACK_SECONDS)
        script.platform.rest.add(HOME, "missed", EPOCH + script.loop.time())
        script.platform.rest.seconds["history"] = 10
        await script.loop.advance(2 * SLACK_SECONDS)
        script.platform.heal()
        asked = script.platform.rest.asked["history"]
        while script.platform.rest.asked["history"] == asked:
            await script.loop.advance(1)
        script.platform.standing_connect = "refuse"
        script.platform.cut()
        await script.loop.advance(2 * SLACK_SECONDS)
        script.platform.heal()
        await script.loop.advance(120)
        assert script.answers == ["Echo: hello", "Echo: missed"]

    play(tmp_path, dies)


def test_after_a_restart_the_gap_begins_no_later_because_no_list_has_come_yet(tmp_path: Path) -> None:
    async def restarts(script: Play) -> None:
        rest = script.platform.rest
        script.platform.keeps_ids = False
        script.platform.conversations = []
        await script.add()
        await script.loop.advance(400)
        await script.loop.complete(script.fleet.stop(0))
        await script.loop.advance(2 * SLACK_SECONDS)
        script.platform.conversations = [TALK]
        rest.add(TALK, "first", EPOCH + script.loop.time())
        rest.statuses["conversations"] = 503
        await script.loop.complete(script.fleet.begin())
        await script.loop.advance(2 * SLACK_SECONDS)
        assert rest.asked["conversations"] > 1
        script.platform.cut()
        rest.statuses.clear()
        await script.loop.advance(180)
        assert script.answers == ["Echo: first"]

    play(tmp_path, restarts)


def test_a_conversation_that_is_joined_before_it_is_read_is_not_silent_for_longer(tmp_path: Path) -> None:
    async def slow(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.conversations = [TALK]
        script.platform.rest.seconds["conversations"] = 14
        await script.add()
        while not joins(script)[TALK]:
            await script.loop.advance(1)
        speak(script, "now")
        await script.loop.advance(HOLD_SECONDS + 1)
        assert script.answers == ["Echo: now"]

    play(tmp_path, slow)


def test_known_conversations_are_not_silent_while_slow_joins_go_on(tmp_path: Path) -> None:
    async def slow(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.conversations = LISTED
        await script.add()
        await script.loop.advance(30)
        assert is_complete(script)
        script.platform.deaf_to.add(JOIN)
        script.platform.cut()
        while not script.platform.sockets:
            await script.loop.advance(1)
        speak(script, "now", LISTED[0])
        await script.loop.advance(HOLD_SECONDS + 1)
        assert [row.body for row in script.fleet.inbox()] == ["now"], "the handler need not wait for the connection"
        await script.loop.advance(60)
        assert script.answers == ["Echo: now"]

    play(tmp_path, slow, ack_seconds=60)


def test_nor_are_they_where_a_second_connection_takes_over_and_joins_slowly(tmp_path: Path) -> None:
    async def slow(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.conversations = LISTED
        await script.add()
        await script.loop.advance(30)
        script.platform.deaf_to.add(JOIN)
        script.runner().reload()
        await script.loop.advance(0.01)
        [first, _] = script.platform.sockets
        first.lose("server disconnect")
        await script.loop.advance(0.5)
        speak(script, "now", LISTED[0])
        await script.loop.advance(HOLD_SECONDS)
        assert script.answers == ["Echo: now"]

    play(tmp_path, slow, ack_seconds=60)


def test_joins_that_are_never_acknowledged_are_learned_for_the_host_and_not_waited_for(tmp_path: Path) -> None:
    async def silent(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.deaf_to.add(JOIN)
        script.platform.conversations = LISTED
        await script.add()
        await script.loop.advance(120)
        assert (is_complete(script), set(joins(script))) == (True, set(LISTED)), "each was asked for all the same"
        # What one agent has found out the next one need not.
        script.platform.asked.clear()
        await script.add(OTHER)
        await script.loop.advance(3)
        assert (is_complete(script, OTHER), set(joins(script))) == (True, set(LISTED))
        # A platform that is rebuilt acknowledges them: then they are waited for again.
        script.platform.deaf_to.clear()
        script.platform.cut()
        await script.loop.advance(30)
        assert connection(script).facts.acks(JOIN) is True
        assert is_complete(script)

    play(tmp_path, silent, ack_seconds=5)


def test_where_agents_are_put_into_their_conversations_none_is_asked_for_and_none_is_given_up(tmp_path: Path) -> None:
    async def gateway(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.conversations = LISTED
        await script.add()
        await script.loop.advance(10)
        assert connection(script).at_agents_gateway
        assert (is_complete(script), joins(script)) == (True, Counter())
        conversations = script.runner().agent.pipeline.inbox.conversations
        assert [one for one in LISTED if one not in conversations] == []

    play(tmp_path, gateway, ws_namespace="/ws/agent")


def test_a_conversation_that_the_platform_calls_malformed_is_asked_for_once(tmp_path: Path) -> None:
    async def refuses(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.conversations = LISTED[:3]
        ill, malformed, well = LISTED[:3]
        script.platform.refused_joins = {malformed: "Invalid ID format: no", ill: "Database is down"}
        await script.add()
        await script.loop.advance(2000)
        assert joins(script)[malformed] == 1
        assert joins(script)[ill] > 5, "that may pass"
        script.platform.refused_joins.clear()
        await script.loop.advance(400)
        assert {ill, well} <= set(connection(script).members)
        assert joins(script)[malformed] == 1

    play(tmp_path, refuses)


@pytest.mark.parametrize("ahead", [-60.0, 60.0], ids=["behind", "ahead"])
def test_whether_somebody_wrote_after_the_agent_left_is_no_question_of_clocks(tmp_path: Path, ahead: float) -> None:
    """The platform's clock differs from ours by a minute."""
    leaves = "async def on_message(message, ctx):\n    await ctx.leave(message.conversation_id)\n    return 'bye'\n"

    async def left(script: Play) -> None:
        rest = script.platform.rest
        script.platform.keeps_ids = False
        script.platform.conversations = [TALK]
        await script.add(handler="leaves")
        await script.loop.advance(30)
        assert joins(script)[TALK] == 1

        def platform_time() -> float:
            return EPOCH + script.loop.time() + ahead

        assert script.platform.say(AGENT, {"conversationId": TALK, **rest.add(TALK, "go", platform_time())})
        await script.loop.advance(1)
        rest.add(TALK, "bye", platform_time(), by=AGENT)
        await script.loop.advance(1000)
        assert (script.answers, joins(script)[TALK]) == (["bye"], 1), "nobody has written since"
        assert script.platform.say(AGENT, {"conversationId": TALK, **rest.add(TALK, "again", platform_time())})
        await script.loop.advance(10)
        rest.add(TALK, "one more thing", platform_time())
        await script.loop.advance(400)
        assert (script.answers, joins(script)[TALK]) == (["bye"] * 3, 2)

    play(tmp_path, left, handlers={"leaves": leaves})
