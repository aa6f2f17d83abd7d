"""What an agent takes in, in which order, and what is refused, aloud."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.core.status import InboxCounts
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.inbox import COMMAND_ROOM, LOOP_REASON, NOTICE_SECONDS, Inbox, Intake
from supervisor.messages.lanes import Lanes
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.protocol import InboundMessage
from supervisor.store import Journal
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT
from tests.support.lanes import beginning
from tests.support.messaging import CONVERSATION, counted, dropped, row_id, until

OTHER_AGENT = "b" * 24


class Desk:
    """An inbox before real lanes, over a real journal; each message runs until :meth:`finish`."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.journal: Journal = scope.journal
        self.intake = Intake(roles=("user",), limit=100, loop_limit=0, commands=True)
        self.full: list[str] = []
        self.commands: list[JournaledMessage] = []
        self.worked: list[str] = []
        self.fresh: list[bool] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        dispatcher = Dispatcher(10)
        self.memory = dispatcher.memory
        self.lanes = Lanes(
            dispatcher, scope.clock, concurrency=lambda: 10, begin=beginning(self._work), refill=self._refill
        )
        self.inbox = Inbox(
            scope,
            self.lanes,
            dispatcher.memory,
            handler=lambda: "echo",
            intake=lambda: self.intake,
            on_full=self.full.append,
            on_command=self.commands.append,
        )
        self.socket = Connection(AGENT, on_event=lambda *_: None)

    async def _work(self, row: JournaledMessage) -> None:
        self.worked.append(row.message.content)
        self.fresh.append(row.fresh)
        if row.state is not MessageState.RUNNING:
            await self.journal.claim(row)
        await self.may_end.wait()
        await self.journal.settle(row, MessageState.DONE)
        self.inbox.settled(dead=False)

    async def _refill(self, after_id: int, limit: int) -> list[JournaledMessage]:
        return await self.journal.unsettled(AGENT, after_id=after_id, limit=limit)

    def say(self, content: str, number: int | None = None, **more: Any) -> None:
        payload = {"conversationId": CONVERSATION, "role": "user", "content": content, **more}
        if number is not None:
            payload["_id"] = row_id(number)
        self.inbox.receive(payload, self.socket)

    async def journaled(self) -> list[JournaledMessage]:
        every = list(MessageState)
        rows = await self.journal.messages(agent_id=AGENT, states=every, limit=1000)
        return sorted(rows, key=lambda row: row.id)

    async def close(self) -> None:
        await self.inbox.close()
        await self.lanes.close()


@pytest.fixture
async def desk(scope: Scope) -> AsyncIterator[Desk]:
    made = Desk(scope)
    made.lanes.resume()
    yield made
    await made.close()


def missed(content: str, number: int) -> InboundMessage:
    return InboundMessage(id=row_id(number), conversation_id=CONVERSATION, role="user", content=content)


# Kept in step with docs/protocol.md#5-receiving.
UNWANTED: list[tuple[dict[str, Any], str]] = [
    ({"participantId": AGENT}, "own_echo"),
    ({"createdBy": {"agentId": AGENT}}, "own_echo"),
    ({"role": "assistant"}, "role"),
    ({"role": "narrator"}, "unknown_role"),
    ({"content": "  \n"}, "empty"),
    # v3 names the agent in what comes back of its own.
    ({"role": "assistant", "agentId": AGENT, "platform": "portal", "isFinal": True}, "own_echo"),
    ({"type": "system"}, "type"),
    ({"content": 7}, "mistyped_content"),
    ({"conversationId": None}, "missing_conversationId"),
]


@pytest.mark.parametrize(("fields", "reason"), UNWANTED, ids=[reason for _, reason in UNWANTED])
async def test_what_does_not_run_the_handler_is_dropped_and_counted(
    desk: Desk, fields: dict[str, Any], reason: str
) -> None:
    desk.inbox.receive({"conversationId": CONVERSATION, "role": "user", "content": "hi", **fields}, desk.socket)
    assert dropped(desk.scope.metrics) == {reason: 1}
    assert desk.inbox.waiting == 0


async def test_a_payload_that_is_no_object_is_dropped(desk: Desk) -> None:
    desk.inbox.receive(["hi"], desk.socket)
    assert dropped(desk.scope.metrics) == {"not_an_object": 1}


async def test_a_foreign_type_is_counted_and_not_answered(desk: Desk) -> None:
    desk.say("a vote", type="hologram")
    for plain in (None, "text", "message"):
        desk.say(f"hi {plain}", type=plain)
    await until(lambda: desk.worked == ["hi None", "hi text", "hi message"])
    assert counted(desk.scope.metrics, "supervisor_unknown_total", "kind") == {"message_type": 1}
    assert dropped(desk.scope.metrics) == {"type": 1}


async def test_malformed_extras_are_counted_and_the_message_is_answered_all_the_same(desk: Desk) -> None:
    desk.say("hi", latency="soon", references="here", attachments=[{"type": "file"}])
    await until(lambda: desk.worked == ["hi"])
    assert dropped(desk.scope.metrics) == {
        "malformed_latency": 1,
        "malformed_references": 1,
        "malformed_attachments": 1,
    }


async def test_a_person_who_names_the_agent_is_answered(desk: Desk) -> None:
    desk.say("hi", agentId=AGENT)
    await until(lambda: desk.worked == ["hi"])


async def test_a_repeated_id_is_a_double_whatever_comes_with_it(desk: Desk) -> None:
    desk.say("hi", 1, platform="discord")
    desk.say("hi", 1, platform="discord", fullname="Ann")
    await until(lambda: desk.worked == ["hi"])
    assert dropped(desk.scope.metrics) == {"duplicate": 1}


@pytest.mark.parametrize(
    ("asleep", "fields", "error", "reason"),
    [
        (True, {}, "asleep", "asleep"),
        (True, {"skipAgent": True}, "asleep", "asleep"),
        (True, {"content": "/status"}, "asleep", "asleep"),
        (False, {"skipAgent": True}, "the platform says that the agent is not to answer (skipAgent)", "skip_agent"),
    ],
)
async def test_who_is_not_to_be_answered_is_journaled_as_cancelled_and_counted(
    desk: Desk, asleep: bool, fields: dict[str, Any], error: str, reason: str
) -> None:
    desk.intake = replace(desk.intake, asleep=asleep)
    desk.say(**{"content": "hi", "number": 1, **fields})
    await until(lambda: dropped(desk.scope.metrics) == {reason: 1})
    rows: list[JournaledMessage] = []

    async def settled() -> bool:
        rows[:] = await desk.journaled()
        return [row.state for row in rows] == [MessageState.CANCELLED]

    while not await settled():
        await asyncio.sleep(0)
    assert [row.error for row in rows] == [error]
    assert (desk.inbox.waiting, desk.inbox.dead, desk.worked, desk.commands) == (0, 0, [], [])


async def test_a_sleeping_agent_tells_nobody_that_its_inbox_is_full(desk: Desk) -> None:
    desk.intake = replace(desk.intake, asleep=True, limit=0)
    desk.say("hi", 1)
    assert dropped(desk.scope.metrics) == {"inbox_full": 1}
    assert desk.full == []


async def test_messages_are_journaled_in_order_and_claimed_where_they_may_run(desk: Desk) -> None:
    desk.may_end.clear()
    for number in range(1, 6):
        desk.say(str(number), number)
    await until(lambda: desk.inbox.unsettled == 5)
    rows = await desk.journaled()
    assert [row.message.content for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row.state for row in rows] == [MessageState.RUNNING, *[MessageState.AVAILABLE] * 4]
    assert desk.inbox.counts == InboxCounts(4, 1, 0)
    desk.may_end.set()
    await until(lambda: desk.inbox.waiting == 0)
    assert desk.worked == ["1", "2", "3", "4", "5"]
    assert desk.fresh == [True] * 5, "none has been tried before"
    assert counted(desk.scope.metrics, "supervisor_messages_received_total", "handler") == {"echo": 5}
    assert desk.memory.used_bytes == 0


async def test_a_message_that_comes_twice_counts_once(desk: Desk) -> None:
    desk.say("hi", 1)
    desk.say("hi", 1)
    await until(lambda: desk.worked)
    assert dropped(desk.scope.metrics) == {"duplicate": 1}


async def test_the_journal_knows_duplicates_from_before_a_restart(desk: Desk) -> None:
    desk.say("hi", 1)
    await until(lambda: desk.worked and not desk.inbox.waiting)
    later = Desk(desk.scope)
    later.lanes.resume()
    later.say("hi", 1)
    await until(lambda: not later.inbox.waiting)
    assert later.worked == []
    assert dropped(desk.scope.metrics) == {"duplicate": 1}
    assert later.lanes.running == 0, "the place that was reserved is free again"
    await later.close()


async def test_a_message_without_an_id_counts_once_over_two_sockets(desk: Desk, clock: ManualClock) -> None:
    second = Connection(AGENT, on_event=lambda *_: None)
    second.record_member(CONVERSATION, clock.monotonic())
    payload = {"conversationId": CONVERSATION, "role": "user", "content": "hi"}
    desk.inbox.receive(payload, desk.socket)
    desk.inbox.receive(payload, second)
    desk.inbox.receive(payload, second)
    await until(lambda: len(desk.worked) == 2 and not desk.inbox.waiting)
    assert dropped(desk.scope.metrics) == {"duplicate": 1}
    assert desk.socket.member_since(CONVERSATION) == clock.monotonic(), "who brings a message is in the conversation"


async def test_the_echo_of_an_own_send_is_no_message(desk: Desk) -> None:
    desk.inbox.remember_own(row_id(7))
    desk.say("what we said", 7)
    assert dropped(desk.scope.metrics) == {"duplicate": 1}


async def test_a_full_inbox_refuses_aloud_now_and_then(desk: Desk, clock: ManualClock) -> None:
    desk.intake = replace(desk.intake, limit=2)
    desk.lanes.pause()
    with structlog.testing.capture_logs() as log:
        for number in range(1, 6):
            desk.say("hi", number)
        await clock.advance(NOTICE_SECONDS)
        desk.say("hi", 6)
        desk.say("hi", 7)
        desk.inbox.tell_refused()
        await clock.advance(NOTICE_SECONDS)
        desk.inbox.tell_refused()
        desk.inbox.tell_refused()
    assert desk.full == [CONVERSATION] * 2
    told = [(line.get("message_id"), line.get("refused")) for line in log if line["event"] == "inbox_full"]
    assert told == [(row_id(3), None), (row_id(6), None), (None, 3)], "two are named, and the other three counted"
    assert dropped(desk.scope.metrics) == {"inbox_full": 5}
    await until(lambda: desk.inbox.unsettled == 2)


async def test_a_command_goes_past_the_lane_and_into_a_full_inbox(desk: Desk) -> None:
    desk.intake = replace(desk.intake, limit=1)
    desk.may_end.clear()
    desk.say("a long one", 1)
    for number in range(2, COMMAND_ROOM + 4):
        desk.say("/stop", number)
    await until(lambda: len(desk.commands) == COMMAND_ROOM)
    assert {row.state for row in desk.commands} == {MessageState.RUNNING}
    assert dropped(desk.scope.metrics) == {"inbox_full": 2}
    desk.may_end.set()
    await until(lambda: desk.worked == ["a long one"])


async def test_commands_are_ordinary_messages_where_the_row_says_so(desk: Desk) -> None:
    desk.intake = replace(desk.intake, commands=False)
    desk.say("/stop")
    await until(lambda: desk.worked == ["/stop"])
    assert desk.commands == []


async def test_agents_that_answer_each_other_are_stopped_and_their_messages_are_dead_letters(desk: Desk) -> None:
    desk.intake = replace(desk.intake, roles=("user", "assistant"), loop_limit=2)
    with structlog.testing.capture_logs() as log:
        for number in range(1, 5):
            desk.say(str(number), number, role="assistant", createdBy={"agentId": OTHER_AGENT})
        await until(lambda: desk.inbox.dead == 2)
    await until(lambda: desk.worked == ["1", "2"])
    dead = [row for row in await desk.journaled() if row.state is MessageState.DEAD]
    assert [(row.message.content, row.error) for row in dead] == [("3", LOOP_REASON), ("4", LOOP_REASON)]
    assert [line["limit"] for line in log if line["event"] == "loop_guard"] == [2]


async def test_missed_messages_come_before_new_ones_that_were_held_back(desk: Desk) -> None:
    desk.inbox.hold(CONVERSATION)
    desk.say("3", 3)
    desk.say("elsewhere", 9, conversationId="d" * 24)
    await until(lambda: desk.worked == ["elsewhere"] and desk.inbox.waiting == 1)
    assert desk.inbox.fill(CONVERSATION, [missed("1", 1), missed("2", 2), missed("3", 3)]) == 2
    await until(lambda: not desk.inbox.waiting)
    assert desk.worked == ["elsewhere", "1", "2", "3"]


async def test_what_was_missed_between_two_that_were_held_back_comes_between_them(desk: Desk) -> None:
    desk.inbox.hold(CONVERSATION)
    for content, number in (("2", 2), ("nobody's", None), ("3", None), ("5", 5)):
        desk.say(content, number)
    history = [missed(str(number), number) for number in range(1, 7)]
    assert desk.inbox.fill(CONVERSATION, history) == 3
    await until(lambda: not desk.inbox.waiting)
    assert desk.worked == ["1", "2", "nobody's", "3", "4", "5", "6"]


async def test_a_missed_message_that_came_without_an_id_meanwhile_is_not_taken_twice(desk: Desk) -> None:
    desk.inbox.hold(CONVERSATION)
    desk.say("hi")
    assert desk.inbox.fill(CONVERSATION, [missed("hi", 1), missed("hi", 2)]) == 1
    await until(lambda: len(desk.worked) == 2 and not desk.inbox.waiting)


async def test_a_missed_message_is_no_other_conversations_that_waits_with_the_same_words(desk: Desk) -> None:
    desk.say("hi", conversationId="d" * 24)
    assert desk.inbox.fill(CONVERSATION, [missed("hi", 1)]) == 1
    await until(lambda: len(desk.worked) == 2 and not desk.inbox.waiting)


async def test_what_was_held_back_goes_on_when_nothing_is_to_be_had(desk: Desk) -> None:
    desk.inbox.hold(CONVERSATION)
    desk.say("hi")
    desk.inbox.release(CONVERSATION)
    desk.inbox.release(CONVERSATION)
    await until(lambda: desk.worked == ["hi"])


async def test_counts_are_corrected_only_while_nothing_is_on_its_way(desk: Desk) -> None:
    desk.inbox.correct(unsettled=3, dead=2)
    assert desk.inbox.counts == InboxCounts(3, 0, 2)
    desk.lanes.pause()
    desk.say("hi")
    desk.inbox.correct(unsettled=0, dead=0)
    assert desk.inbox.counts == InboxCounts(4, 0, 0), "the journal may have the message or not"


async def test_a_message_that_the_database_refuses_is_refused_aloud_and_may_come_again(
    desk: Desk, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "supervisor.db")) as database:
        database.execute("CREATE TRIGGER no BEFORE INSERT ON inbox BEGIN SELECT RAISE(ABORT, 'no'); END")
        database.commit()
        desk.say("hi", 1)
        await until(lambda: desk.full)
        assert (desk.inbox.waiting, desk.lanes.running, desk.memory.used_bytes) == (0, 0, 0)
        database.execute("DROP TRIGGER no")
        database.commit()
    desk.say("hi", 1)
    await until(lambda: desk.worked == ["hi"])


async def test_closing_waits_for_the_journal_and_counts_what_it_does_not_take(scope: Scope, tmp_path: Path) -> None:
    desk = Desk(scope)
    desk.say("in time")
    await desk.inbox.close()
    assert [row.message.content for row in await desk.journaled()] == ["in time"]
    with closing(sqlite3.connect(tmp_path / "supervisor.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        desk.inbox.hold(CONVERSATION)
        desk.say("too late")
        with structlog.testing.capture_logs() as log:
            await desk.inbox.close(0.05)
        other.execute("ROLLBACK")
    assert dropped(scope.metrics) == {"not_journaled": 1}
    assert desk.inbox.left == 1
    assert [line["count"] for line in log if line["event"] == "messages_not_journaled"] == [1]
    await desk.lanes.close()
    # The journal has it in hand, and takes it once it can.
    await until(lambda: desk.memory.used_bytes == 0)
