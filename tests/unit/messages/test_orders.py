"""The platform's commands: each once, whichever socket brings it, and none that is not allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from supervisor.core.states import AgentState
from supervisor.messages.commands import RELOAD_SECONDS, AgentActions, Situation
from supervisor.messages.duties import Duties
from supervisor.messages.orders import TWICE_SECONDS
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT
from tests.support.messaging import CONVERSATION, Works, counted, ended, works
from tests.support.work_desk import WorkDesk


class Post:
    """One agent's duties; whoever runs the agent counts what is asked of it."""

    def __init__(self, scope: Scope, made: Works) -> None:
        self.scope = scope
        self.stopped: list[str] = []
        self.reloads = 0
        self.desk = WorkDesk(scope)
        situation = Situation("stage", AgentState.ONLINE, 1_800_000_000.0)
        self.duties = Duties(
            made.profile,
            self.desk.inbox,
            made.outbox,
            made.participation,
            AgentActions(lambda: situation, self._reload),
            self._stop,
        )
        self.sockets = [Connection(AGENT, on_event=lambda *_: None) for _ in range(2)]

    async def _reload(self) -> str:
        self.reloads += 1
        return ""

    async def _stop(self, conversation_id: str, _before: int) -> bool:
        self.stopped.append(conversation_id)
        return True

    async def order(self, payload: Any, *, socket: int = 0) -> None:
        self.duties.orders.receive(payload, self.sockets[socket])
        await ended(f"order {AGENT}")


@pytest.fixture
async def post(scope: Scope) -> AsyncIterator[Post]:
    async with works(scope, lambda message, ctx: None) as made:
        here = Post(scope, made)
        yield here
        await here.duties.close()


async def test_a_command_that_both_sockets_bring_is_obeyed_once(post: Post, clock: ManualClock) -> None:
    stop = {"type": "stop", "conversationId": CONVERSATION}
    await post.order(stop, socket=0)
    await post.order(dict(stop), socket=1)
    assert post.stopped == [CONVERSATION]
    # The same socket says it twice only where it was said twice.
    await post.order(stop, socket=0)
    assert post.stopped == [CONVERSATION] * 2
    await clock.advance(TWICE_SECONDS + 1)
    await post.order(stop, socket=1)
    assert post.stopped == [CONVERSATION] * 3


async def test_reloads_come_no_faster_than_from_a_chat(post: Post, clock: ManualClock) -> None:
    """Those that come too soon are one reload later: something may have been edited after the first."""
    await post.order({"type": "reload"})
    for _ in range(2):
        await clock.advance(RELOAD_SECONDS / 4)
        post.duties.orders.receive({"type": "reload"}, post.sockets[0])
        await clock.settle()
    assert post.reloads == 1
    await clock.advance(RELOAD_SECONDS / 2)
    assert post.reloads == 2
    await clock.advance(RELOAD_SECONDS)
    assert post.reloads == 2
    await post.order({"type": "reload"})
    assert post.reloads == 3


@pytest.mark.parametrize("payload", [None, [], "stop", {}, {"type": None}, {"type": {}}, {"type": "dance"}])
async def test_what_is_no_command_is_counted_and_harms_nothing(post: Post, payload: Any) -> None:
    await post.order(payload)
    assert counted(post.scope.metrics, "supervisor_unknown_total", "kind") == {"event": 1}


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "stop", "conversationId": 7},
        {"type": "inspect", "conversationId": "\n"},
        {"type": "sleep", "until": "2001-01-01T00:00:00Z"},
    ],
)
async def test_a_command_that_makes_no_sense_is_not_obeyed(post: Post, payload: Any) -> None:
    await post.order(payload)
    assert post.stopped == []
    assert post.duties.sleeping.current is None


async def test_a_sleeping_agent_says_so_in_its_heartbeats(post: Post) -> None:
    await post.order({"type": "sleep", "reason": "night token=s3cret-of-ann", "until": "2999-01-01T00:00:00Z"})
    beat = post.duties.pulse.payload()
    assert (beat["status"], beat["sleep"]["until"]) == ("sleep", "2999-01-01T00:00:00.000Z")
    assert "s3cret-of-ann" not in str(beat)
    await post.order({"type": "wake"})
    assert post.duties.pulse.payload() == {"status": "idle", "mcpConnected": False}
    await ended(f"sleep {AGENT}")
