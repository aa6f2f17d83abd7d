"""An agent's part in its conversations beside answering: over the connection that there is, and remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.errors import ConnectionLostError
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.conversations import Conversations
from supervisor.messages.participation import Participation
from supervisor.messages.recall import Recall
from tests.support.journaling import add, answer, settle
from tests.support.messaging import no_upload
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_play import AGENT, Play, play

ROOM = "c" * 24
HANDLERS = {"diary": DIARY}


def participation(script: Play, paper: PaperAgent) -> Participation:
    """One of a test's own, on the agent's journal."""
    scope = paper.agent.profile.scope
    history = AgentHistory(scope, script.shared.history, paper.agent.profile.access)
    return Participation(scope, Conversations(scope), Recall(history, lambda: True), 5.0, no_upload)


def test_offline_nothing_is_asked_and_what_nobody_waits_for_is_lost(tmp_path: Path) -> None:
    async def offline(script: Play) -> None:
        async with paper_agent(script) as paper:
            part = participation(script, paper)
            part.emit("message:typing", {"isTyping": True})
            assert part.connection is None
            for asked in (part.join(ROOM), part.leave(ROOM), part.online_users(ROOM)):
                with pytest.raises(ConnectionLostError, match="the agent is not online"):
                    await asked
        assert script.platform.asked == []

    play(tmp_path, offline, handlers=HANDLERS)


def test_a_conversation_that_was_joined_is_a_member_of_its_connection_and_in_the_journal(tmp_path: Path) -> None:
    async def joins(script: Play) -> None:
        async with paper_agent(script) as paper:
            connection = await script.loop.complete(paper.come_online())
            part = participation(script, paper)
            part.use(connection)
            asked = len(script.platform.asked)
            await script.loop.complete(part.join(ROOM))
            assert [event for event, _ in script.platform.asked[asked:]] == ["conversation:join"]
            assert connection.member_since(ROOM) == script.shared.clock.monotonic()
            assert ROOM in await rooms(script)
            await script.loop.complete(part.leave(ROOM))
            assert script.platform.asked[-1][0] == "conversation:leave"
            assert ROOM not in await rooms(script)
            assert await script.loop.complete(part.online_users(ROOM)) == []
            part.use(None)
            with pytest.raises(ConnectionLostError):
                await part.join(ROOM)

    async def rooms(script: Play) -> list[str]:
        found = await script.loop.complete(script.shared.journal.conversations(AGENT, since=0.0, limit=10))
        return [name for name, _ in found]

    play(tmp_path, joins, handlers=HANDLERS)


def test_what_was_said_comes_from_the_journal_offline_too(tmp_path: Path) -> None:
    async def reads(script: Play) -> None:
        async with paper_agent(script) as paper:
            part, journal = participation(script, paper), script.shared.journal
            row = await script.loop.complete(add(journal, "k", agent=AGENT, claim=True, conversation=ROOM))
            await script.loop.complete(settle(journal, row, answer("hi", conversation=ROOM)))
            said = await script.loop.complete(part.history(ROOM, 5))
            assert [(item.role, item.content) for item in said] == [("user", "hello"), ("assistant", "hi")]
            assert [item.content for item in await script.loop.complete(part.history(ROOM, 1))] == ["hi"]

    play(tmp_path, reads, handlers=HANDLERS)
