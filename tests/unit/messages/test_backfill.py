"""What was said while an agent was away: which of it was missed, and that it comes before what is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.states import MessageState
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.backfill import ATTEMPTS, Backfill, Reach
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.inbox import Inbox, Intake
from supervisor.messages.lanes import Lanes
from supervisor.messages.reply_ids import with_reply_id
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT, answer
from tests.support.lanes import beginning
from tests.support.messaging import CONVERSATION, HistoryServer, history_for, row_id, until

DAY = 86_400.0


class Desk:
    """A backfill that fills a real inbox from a history over HTTP; messages wait in lanes that are paused."""

    def __init__(
        self,
        scope: Scope,
        history: AgentHistory,
        platform: HistoryServer,
        *,
        messages: int = 50,
        urgent: AgentHistory | None = None,
    ) -> None:
        self.scope = scope
        self.platform = platform
        dispatcher = Dispatcher(10)
        self.lanes = Lanes(
            dispatcher, scope.clock, concurrency=lambda: 1, begin=beginning(self._work), refill=self._refill
        )
        self.inbox = Inbox(
            scope,
            self.lanes,
            dispatcher.memory,
            handler=lambda: "echo",
            intake=lambda: Intake(("user",), 1000, 0, commands=True),
            on_full=lambda _: None,
            on_command=lambda _: None,
        )
        self.backfill = Backfill(history, self.inbox, Reach(DAY, messages), urgent=urgent)

    async def _work(self, row: JournaledMessage) -> None:
        await self.scope.journal.claim(row)

    async def _refill(self, after_id: int, limit: int) -> list[JournaledMessage]:
        return []

    def say(self, content: str, number: int) -> None:
        payload = {"conversationId": CONVERSATION, "role": "user", "content": content, "_id": row_id(number)}
        self.inbox.receive(payload, Connection(AGENT, on_event=lambda *_: None))

    async def journaled(self) -> list[str]:
        await until(lambda: self.inbox.waiting == self.inbox.unsettled)
        rows = await self.scope.journal.messages(agent_id=AGENT, states=list(MessageState), limit=1000)
        return [row.message.content for row in sorted(rows, key=lambda row: row.id)]

    async def answered(self, content: str, number: int, reply: str) -> None:
        """A message that came and was answered; the platform keeps our ids."""
        at = self.scope.clock.now()
        self.platform.add(content, at=at, number=number)
        payload = {"conversationId": CONVERSATION, "role": "user", "content": content, "_id": row_id(number)}
        self.inbox.receive(payload, Connection(AGENT, on_event=lambda *_: None))
        await until(lambda: self.inbox.waiting == self.inbox.unsettled)
        [row] = await self.scope.journal.messages(agent_id=AGENT, states=[MessageState.AVAILABLE], limit=1)
        await self.scope.journal.claim(row)
        message = with_reply_id(answer(reply, conversation=CONVERSATION).message, row, 0)
        await self.scope.journal.settle(row, MessageState.DONE, replies=[NewReply(0, message)])
        self.platform.add(reply, at=at, by=AGENT, _id=message.id)


@pytest.fixture
async def desk(scope: Scope) -> AsyncIterator[Desk]:
    async with history_for(scope) as (history, platform):
        made = Desk(scope, history, platform)
        yield made
        await made.inbox.close()
        await made.lanes.close()


def always(_: str) -> bool:
    return True


async def catch_up(desk: Desk) -> None:
    await desk.backfill.run(desk.backfill.begin(), always)


async def test_what_came_without_an_id_is_taken_once_however_many_ask_at_once(desk: Desk, clock: ManualClock) -> None:
    """The list of conversations asks about one, and so does a stranger's first message in it."""
    source = Connection(AGENT, on_event=lambda *_: None)
    desk.backfill.hold(CONVERSATION)
    desk.inbox.receive({"conversationId": CONVERSATION, "role": "user", "content": "hello"}, source)
    desk.platform.add("hello", at=clock.now(), number=1)
    asking = [desk.backfill.run([CONVERSATION], always) for _ in range(3)]
    await asyncio.gather(*asking)
    assert await desk.journaled() == ["hello"]


async def test_missed_messages_come_in_order_before_what_is_new(desk: Desk, clock: ManualClock) -> None:
    await desk.answered("hello", 1, "hi")
    for number in (11, 12):
        desk.platform.add(str(number), at=clock.now(), number=number)
    held = desk.backfill.begin()
    assert held == [CONVERSATION]
    desk.say("13", 13)
    desk.platform.add("13", at=clock.now(), number=13)
    with structlog.testing.capture_logs() as log:
        await desk.backfill.run(held, always)
    assert await desk.journaled() == ["hello", "11", "12", "13"]
    assert [line["messages"] for line in log if line["event"] == "backfilled"] == [2]


@pytest.mark.parametrize("waits", ["before it is asked for", "while it is asked for at leisure"])
async def test_where_somebody_waits_what_is_missed_is_asked_for_at_once(
    scope: Scope, clock: ManualClock, waits: str
) -> None:
    async with history_for(scope) as (at_leisure, behind_others), history_for(scope) as (urgent, platform):
        behind_others.slow = True
        desk = Desk(scope, at_leisure, platform, urgent=urgent)
        desk.inbox.conversations.touch(CONVERSATION)
        for number in (11, 12, 13):
            platform.add(str(number), at=clock.now(), number=number)
        held = desk.backfill.begin()
        # More than are asked about at once stand before it.
        others = [str(number) * 24 for number in range(1, 8)]
        before = waits.startswith("before")
        if before:
            desk.say("13", 13)
        running = asyncio.create_task(desk.backfill.run([*others, *held], always))
        await until(lambda: behind_others.asked >= (3 if before else 4))
        if not before:
            assert platform.asked == 0
            desk.say("13", 13)
        await until(lambda: not desk.inbox.holds_back(CONVERSATION))
        assert await desk.journaled() == ["11", "12", "13"]
        running.cancel()
        await asyncio.wait([running])
        await desk.inbox.close()
        await desk.lanes.close()


async def test_what_somebody_answered_meanwhile_is_not_answered_again(desk: Desk, clock: ManualClock) -> None:
    await desk.answered("hello", 1, "hi")
    desk.platform.add("while you were away", at=clock.now(), number=11)
    desk.platform.add("an earlier life of the agent answered", at=clock.now(), number=12, by=AGENT)
    await catch_up(desk)
    assert await desk.journaled() == ["hello"]


async def test_a_conversation_that_is_new_to_the_agent_begins_when_it_joined(desk: Desk, clock: ManualClock) -> None:
    desk.platform.add("long ago", at=clock.now() - 1000)
    desk.platform.add("why it was put there", at=clock.now() - 1)
    await desk.inbox.conversations.joined(CONVERSATION)
    await clock.advance(10)
    desk.platform.add("later", at=clock.now())
    await catch_up(desk)
    assert await desk.journaled() == ["why it was put there", "later"]


async def test_only_so_much_is_asked_for(desk: Desk, clock: ManualClock) -> None:
    await desk.answered("hello", 1, "hi")
    for number in range(100, 200):
        desk.platform.add(str(number), at=clock.now(), number=number)
    with structlog.testing.capture_logs() as log:
        await catch_up(desk)
    assert await desk.journaled() == ["hello", *map(str, range(150, 200))]
    assert "backfill_cut" in [line["event"] for line in log]


async def test_what_is_older_than_the_reach_is_left(desk: Desk, clock: ManualClock) -> None:
    await desk.answered("hello", 1, "hi")
    desk.platform.add("two days ago", at=clock.now())
    await clock.advance(2 * DAY)
    desk.platform.add("today", at=clock.now())
    await catch_up(desk)
    assert await desk.journaled() == ["hello", "today"]


async def test_after_a_gap_is_closed_only_the_next_gap_is_asked_about(desk: Desk, clock: ManualClock) -> None:
    await desk.answered("hello", 1, "hi")
    await catch_up(desk)
    # A message that the journal forgot and the platform keeps: what was complete is not looked at again.
    desk.platform.add("old", at=clock.now(), number=11)
    await clock.advance(3600)
    desk.backfill.lost()
    await clock.advance(60)
    desk.platform.add("missed", at=clock.now(), number=12)
    await catch_up(desk)
    assert await desk.journaled() == ["hello", "missed"]


async def test_a_conversation_that_the_connection_is_not_in_stays_incomplete(desk: Desk, clock: ManualClock) -> None:
    await desk.answered("hello", 1, "hi")
    await desk.backfill.run(desk.backfill.begin(), lambda _: False)
    desk.platform.add("missed", at=clock.now(), number=11)
    await clock.advance(3600)
    desk.backfill.lost()
    await catch_up(desk)
    assert await desk.journaled() == ["hello", "missed"]


async def test_a_platform_in_trouble_is_asked_a_few_times(desk: Desk, clock: ManualClock) -> None:
    await desk.answered("hello", 1, "hi")
    desk.platform.add("missed", at=clock.now(), number=11)
    desk.platform.failures = [500] * (ATTEMPTS - 1)
    under_way = asyncio.create_task(catch_up(desk))
    while not under_way.done():
        await clock.advance(1)
        await asyncio.sleep(0.01)
    assert await desk.journaled() == ["hello", "missed"]


async def test_what_waits_waits_on_where_its_connection_goes_while_the_platform_is_asked(
    desk: Desk, clock: ManualClock
) -> None:
    await desk.answered("hello", 1, "hi")
    desk.platform.add("missed", at=clock.now(), number=11)
    desk.platform.slow = True
    under_way = asyncio.create_task(catch_up(desk))
    await until(lambda: desk.platform.asked)
    desk.say("new", 12)
    under_way.cancel()
    await asyncio.gather(under_way, return_exceptions=True)
    desk.platform.slow = False
    assert list(desk.backfill.holds) == desk.backfill.begin() == [CONVERSATION]
    await catch_up(desk)
    assert await desk.journaled() == ["hello", "missed", "new"]


async def test_what_waits_at_the_stop_is_left_to_the_history_and_no_double_then(desk: Desk) -> None:
    await desk.answered("hello", 1, "hi")
    desk.backfill.begin()
    desk.say("new", 11)
    desk.backfill.stop()
    assert await desk.journaled() == ["hello"]
    desk.say("new", 11)
    assert await desk.journaled() == ["hello", "new"]


async def test_what_waits_at_the_stop_is_journaled_where_there_is_no_history(desk: Desk) -> None:
    await desk.answered("hello", 1, "hi")
    held = desk.backfill.begin()
    desk.say("new", 11)
    desk.platform.failures = [404] * 10
    looking = asyncio.create_task(desk.backfill.is_news(CONVERSATION))
    assert await looking is False
    assert held == list(desk.backfill.holds)
    desk.backfill.stop()
    assert await desk.journaled() == ["hello", "new"]


async def test_backfill_that_is_turned_off_holds_nothing(scope: Scope) -> None:
    async with history_for(scope) as (history, platform):
        made = Desk(scope, history, platform, messages=0)
        await made.inbox.conversations.joined(CONVERSATION)
        assert made.backfill.begin() == []
        await made.lanes.close()
