"""Conversations whose new messages wait: until they are let go, and no longer than so much time with a connection."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from supervisor.core.records import JournaledMessage
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.holds import HOLD_SECONDS, Holds
from supervisor.messages.inbox import Inbox, Intake
from supervisor.messages.lanes import Lanes
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT
from tests.support.lanes import beginning
from tests.support.messaging import CONVERSATION, until

OTHER = "d" * 24


class Desk:
    """Holds of an inbox over a real journal; nothing that is journaled is worked on."""

    def __init__(self, scope: Scope) -> None:
        dispatcher = Dispatcher(10)
        lanes = Lanes(dispatcher, scope.clock, concurrency=lambda: 1, begin=beginning(self._work), refill=self._refill)
        self.inbox = Inbox(
            scope,
            lanes,
            dispatcher.memory,
            handler=lambda: "echo",
            intake=lambda: Intake(("user",), 1000, 0, commands=False),
            on_full=lambda _: None,
            on_command=lambda _: None,
        )
        self.holds = Holds(self.inbox, scope.clock)
        self.connections: list[Connection] = []

    async def _work(self, row: JournaledMessage) -> None:
        raise AssertionError(row)

    async def _refill(self, after_id: int, limit: int) -> list[JournaledMessage]:
        return []

    def connect(self) -> Connection:
        self.connections.append(Connection(AGENT, on_event=lambda *_: None))
        self.holds.count(self.connections[-1])
        return self.connections[-1]

    def say(self, conversation: str = CONVERSATION) -> None:
        payload = {"conversationId": conversation, "role": "user", "content": "hi"}
        self.inbox.receive(payload, Connection(AGENT, on_event=lambda *_: None))


@pytest.fixture
async def desk(scope: Scope) -> AsyncIterator[Desk]:
    made = Desk(scope)
    yield made
    for connection in made.connections:
        await connection.close()
    await made.inbox.close()


async def test_only_time_with_a_connection_counts(desk: Desk, clock: ManualClock) -> None:
    desk.holds.begin(CONVERSATION)
    desk.say()
    for seconds in (HOLD_SECONDS / 2, HOLD_SECONDS / 2 - 1):
        await clock.advance(3600)
        connection = desk.connect()
        await clock.advance(seconds)
        await connection.close()
        # That it waits already makes it wait no longer.
        desk.holds.begin(CONVERSATION)
        assert (list(desk.holds), desk.inbox.unsettled) == ([CONVERSATION], 0)
    desk.connect()
    await clock.advance(1)
    assert list(desk.holds) == []
    await until(lambda: desk.inbox.unsettled == 1)


async def test_two_connections_do_not_count_double(desk: Desk, clock: ManualClock) -> None:
    desk.holds.begin(CONVERSATION)
    first = desk.connect()
    await clock.advance(2)
    desk.connect()
    await clock.advance(2)
    await first.close()
    await clock.advance(HOLD_SECONDS - 5)
    assert list(desk.holds) == [CONVERSATION]
    await clock.advance(1)
    assert list(desk.holds) == []


async def test_each_has_its_own_time_and_may_be_let_go_before(desk: Desk, clock: ManualClock) -> None:
    desk.connect()
    desk.holds.begin(CONVERSATION)
    await clock.advance(1)
    desk.holds.begin(OTHER, 3)
    await clock.advance(3)
    assert list(desk.holds) == [CONVERSATION]
    desk.say()
    desk.say(OTHER)
    await until(lambda: desk.inbox.unsettled == 1)
    desk.holds.end([CONVERSATION, OTHER])
    await until(lambda: desk.inbox.unsettled == 2)
    # The next time is a new one.
    desk.holds.begin(CONVERSATION)
    await clock.advance(HOLD_SECONDS - 1)
    desk.inbox.fill(CONVERSATION, [])
    desk.holds.filled(CONVERSATION)
    assert list(desk.holds) == []
