"""What a person may tell an agent in its chat, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog

from supervisor.core.records import JournaledMessage
from supervisor.core.states import AgentState, MessageState
from supervisor.messages.commands import (
    NOTHING_TO_STOP,
    RELOAD_FAILED,
    RELOAD_SECONDS,
    RELOADED,
    STOPPED,
    AgentActions,
    Commands,
    Situation,
)
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.inbox import Inbox, Intake
from supervisor.messages.lanes import Lanes
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.clock import ManualClock
from tests.support.journaling import add
from tests.support.lanes import beginning
from tests.support.messaging import Works, until, works


class Chat:
    """One agent's commands; whoever runs the agent answers as the test says."""

    def __init__(self, scope: Scope, made: Works) -> None:
        self.made = made
        self.journal: Journal = scope.journal
        self.reload: Callable[[], str] = lambda: ""
        self.never = False  # whether a reload never ends
        self.running = False  # whether an answer is being made
        self.asked_to_stop: list[tuple[str, int]] = []
        self.settled: list[int] = []
        self._number = 0
        dispatcher = Dispatcher(1)
        lanes = Lanes(dispatcher, scope.clock, concurrency=lambda: 1, begin=beginning(self._nothing), refill=self._none)
        inbox = Inbox(
            scope,
            lanes,
            dispatcher.memory,
            handler=lambda: "stage",
            intake=lambda: Intake(("user",), 10, 0, commands=True),
            on_full=lambda _: None,
            on_command=lambda _: None,
        )
        situation = Situation("stage", AgentState.ONLINE, 1_800_000_000.0)
        self.commands = Commands(
            made.profile,
            inbox,
            made.outbox,
            AgentActions(lambda: situation, self._reload),
            stop_answer=self._stop_answer,
            on_settled=lambda row: self.settled.append(row.id),
        )

    async def _nothing(self, row: JournaledMessage) -> None:
        return None

    async def _none(self, after_id: int, limit: int) -> list[JournaledMessage]:
        return []

    async def _reload(self) -> str:
        if self.never:
            await asyncio.Event().wait()
        return self.reload()

    async def _stop_answer(self, conversation_id: str, before_id: int) -> bool:
        self.asked_to_stop.append((conversation_id, before_id))
        return self.running

    async def say(self, word: str) -> str:
        """Give a command; what the agent answers."""
        self._number += 1
        row = await add(self.journal, f"k{self._number}", content=word, claim=True)
        self.commands.start(row)
        await until(lambda: row.id in self.settled)
        assert (await self.made.row(row.id)).state is MessageState.DONE
        [said] = await self.made.said(row.id)
        return said


async def silent(message: Any, ctx: Any) -> None:
    return None


@pytest.fixture
async def chat(scope: Scope) -> AsyncIterator[Chat]:
    async with works(scope, silent, model="s3cret-of-ann\x00 model") as made:
        opened = Chat(scope, made)
        yield opened
        await opened.commands.close()


async def test_stop_asks_for_what_came_before_it(chat: Chat) -> None:
    assert await chat.say("/stop") == NOTHING_TO_STOP
    chat.running = True
    assert await chat.say(" /STOP ") == STOPPED
    assert [conversation for conversation, _ in chat.asked_to_stop] == ["c1", "c1"]
    assert [before for _, before in chat.asked_to_stop] == chat.settled


async def test_reload_is_answered_when_it_is_done_and_not_twice_in_a_row(chat: Chat, clock: ManualClock) -> None:
    assert await chat.say("/reload") == RELOADED
    await clock.advance(10)
    assert await chat.say("/reload") == f"I was reloaded a moment ago; please try again in {RELOAD_SECONDS - 10:g} s."
    await clock.advance(RELOAD_SECONDS)
    chat.reload = lambda: "/etc/agents/ann.yaml cannot be read"
    assert await chat.say("/reload") == RELOAD_FAILED, "the reason is for operators"


async def test_status_tells_how_the_agent_is_and_no_secret(chat: Chat) -> None:
    assert (await chat.say("/status")).splitlines() == [
        "Name: Ann",
        "Model: [redacted] model",
        "Handler: stage",
        "State: online",
        "Since: 2027-01-15 08:00:00 UTC",
        "Waiting messages: 0",
    ]


async def test_a_command_that_fails_is_answered_all_the_same(chat: Chat) -> None:
    def broken() -> str:
        raise OSError("a defect")

    chat.reload = broken
    with structlog.testing.capture_logs() as log:
        assert await chat.say("/reload") == "Sorry, that did not work."
    assert "command_failed" in [line["event"] for line in log]


async def test_a_command_of_an_earlier_process_is_carried_out_when_its_turn_comes(chat: Chat) -> None:
    row = await add(chat.journal, "left", content="/stop")
    await chat.commands.work(row)
    assert await chat.made.said(row.id) == [NOTHING_TO_STOP]
    late = await add(chat.journal, "late", content="/stop")
    await chat.journal.claim(await chat.made.row(late.id))
    await chat.commands.work(late)
    assert await chat.made.said(late.id) == [], "somebody else has claimed it"


async def test_what_has_no_answer_yet_when_the_agent_stops_is_left_for_the_next_start(chat: Chat) -> None:
    chat.never = True
    row = await add(chat.journal, "m1", content="/reload", claim=True)
    chat.commands.start(row)
    await asyncio.sleep(0)
    await chat.commands.close()
    assert (await chat.made.row(row.id)).state is MessageState.RUNNING
    assert await chat.made.said(row.id) == []
