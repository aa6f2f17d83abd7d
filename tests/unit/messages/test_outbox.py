"""A reply whose fate is known is never sent again because the journal could not take it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor.core.clock import SystemClock
from supervisor.core.errors import AckTimeoutError, AlreadyStoredError, SendRefusedError, Verdict
from supervisor.core.records import AgentRecord, JournaledMessage, NewReply, Reply
from supervisor.core.states import MessageState, ReplyState
from supervisor.messages.outbox import Outbox
from supervisor.messages.reply_sender import GIVE_UP_SECONDS, RETRY_SECONDS, Terms
from supervisor.messages.scope import Scope
from supervisor.platform.hosts.deliveries import Deliveries
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.store import Registry
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.tracing import NO_TRACES
from tests.support.clock import ManualClock

AGENT, CONVERSATION = "64b5f0c2a1d2e3f405060708", "c1"
HOST = "platform.example"
ASKED = JournaledMessage(
    id=1,
    agent_id=AGENT,
    key="m1",
    message=InboundMessage(conversation_id=CONVERSATION, role="user", content="hello"),
    state=MessageState.RUNNING,
    attempts=1,
    received_at=0.0,
)


class Line:
    """A connection whose platform answers as the test says, and as well as can be after that."""

    connected = True

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.answers: list[Exception] = []
        self.known_as: str | None = None  # the id that the platform makes, where it does not keep ours

    async def send(self, message_id: str, conversation_id: str, body: bytes, timeout: float) -> str:
        self.sent.append(message_id)
        if self.answers:
            raise self.answers.pop(0)
        return self.known_as or message_id

    def send_soon(self, message_id: str, conversation_id: str, body: bytes, timeout: float, then: Any) -> None:
        self.sent.append(message_id)
        loop = asyncio.get_running_loop()
        if self.answers:
            loop.call_soon(then, None, self.answers.pop(0))
        else:
            loop.call_soon(then, self.known_as or message_id, None)


class Desk:
    """An outbox on a real journal, which can be made to refuse."""

    def __init__(self, path: Path, registry: Registry, clock: ManualClock, *, at_most_once: bool) -> None:
        self.line = Line()
        self.clock = clock
        self.journal = registry.journal
        self.at_most_once = at_most_once
        self._path = path
        self.asked_about: list[Reply] = []
        self.platform_has: set[str] = set()
        self.deliveries = Deliveries(clock)
        terms = Terms(
            self.deliveries,
            lambda: HOST,
            ack_seconds=5.0,
            at_most_once=lambda: self.at_most_once,
            on_sending=lambda _: None,
            was_delivered=self.was_delivered,
        )
        self.outbox = Outbox(Scope(AGENT, get_logger("test"), registry.journal, Metrics(), clock, NO_TRACES), terms)
        self.outbox.use(self.line)  # type: ignore[arg-type]

    async def was_delivered(self, reply: Reply) -> bool:
        self.asked_about.append(reply)
        return reply.message.content in self.platform_has

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self._path, timeout=5)) as database:
            database.execute(statement)
            database.commit()

    def refuse(self, condition: str) -> None:
        """Let the database refuse some changes of replies."""
        self.sql(f"CREATE TRIGGER no BEFORE UPDATE ON outbox WHEN {condition} BEGIN SELECT RAISE(ABORT, 'no'); END")

    def allow(self) -> None:
        self.sql("DROP TRIGGER no")

    async def push(self, part: int = 0) -> Reply:
        message = OutboundMessage(role="assistant", content="hi", conversation_id=CONVERSATION, id=f"{part:024x}")
        reply = await self.journal.add_reply(AGENT, None, NewReply(part, message))
        self.outbox.push(reply, ASKED)
        return reply

    async def until(self, condition: Any) -> None:
        """Wait for what the journal's thread does; the outbox's own waits pass only when the clock is advanced."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    async def asleep(self) -> None:
        await self.until(lambda: self.clock.sleepers)

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock, then let the journal's thread write what came of it."""
        await self.clock.advance(seconds)
        await self.journal.flush()
        await self.clock.settle()


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite+aiosqlite:///{tmp_path}/supervisor.db", upgrade=True, clock=SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
async def desk(
    request: pytest.FixtureRequest, registry: Registry, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Desk]:
    made = Desk(tmp_path / "supervisor.db", registry, clock, at_most_once=request.param)
    yield made
    await made.outbox.close()
    await made.deliveries.close()


once = pytest.mark.parametrize("desk", [True], indirect=True, ids=["at_most_once"])
both = pytest.mark.parametrize("desk", [True, False], indirect=True, ids=["at_most_once", "at_least_once"])
SENT, ACKED, UNKNOWN, DEAD = 1, 2, 3, 4


@both
async def test_an_acked_reply_is_settled_later_and_not_sent_again(desk: Desk) -> None:
    desk.refuse(f"NEW.state = {ACKED}")
    first, second = await desk.push(0), await desk.push(1)
    await desk.asleep()
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.asleep()
    assert len(desk.line.sent) == 1
    desk.allow()
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.until(lambda: not desk.outbox.waiting)
    assert desk.line.sent == [first.message.id, second.message.id]
    assert (first.state, second.state) == (ReplyState.ACKED, ReplyState.ACKED)


@once
async def test_an_unknown_fate_is_settled_later_and_does_not_block_the_conversation(desk: Desk) -> None:
    desk.refuse(f"NEW.state = {UNKNOWN}")
    desk.line.answers = [AckTimeoutError("message:send was not acknowledged within 5 s")]
    first, second = await desk.push(0), await desk.push(1)
    await desk.asleep()
    assert first.state is ReplyState.SENT
    desk.allow()
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.until(lambda: not desk.outbox.waiting)
    assert desk.line.sent == [first.message.id, second.message.id]
    assert (first.state, second.state) == (ReplyState.UNKNOWN, ReplyState.ACKED)
    assert "not acknowledged" in (first.error or "")


@once
async def test_a_reply_whose_attempt_broke_off_is_not_repeated(desk: Desk) -> None:
    desk.line.answers = [RuntimeError("a defect of ours")]
    first, second = await desk.push(0), await desk.push(1)
    await desk.asleep()
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.until(lambda: not desk.outbox.waiting)
    assert desk.line.sent == [first.message.id, second.message.id]
    assert (first.state, second.state) == (ReplyState.UNKNOWN, ReplyState.ACKED)


@both
async def test_a_refusal_that_may_pass_is_deferred_even_when_the_journal_refuses_at_first(desk: Desk) -> None:
    desk.refuse("NEW.attempts > OLD.attempts")
    desk.line.answers = [SendRefusedError("Database is down", Verdict.RETRY)]
    reply = await desk.push()
    await desk.asleep()
    desk.allow()
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.until(lambda: not desk.outbox.waiting)
    assert len(desk.line.sent) == 2
    assert (reply.state, reply.attempts) == (ReplyState.ACKED, 1)


@both
async def test_a_final_refusal_is_a_dead_letter_sent_once(desk: Desk) -> None:
    desk.refuse(f"NEW.state = {DEAD}")
    desk.line.answers = [SendRefusedError("You do not have permission to create.", Verdict.REJECT)]
    reply = await desk.push()
    await desk.asleep()
    desk.allow()
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.until(lambda: not desk.outbox.waiting)
    assert len(desk.line.sent) == 1
    assert reply.state is ReplyState.DEAD


@both
async def test_a_replayed_reply_is_taken_once_and_not_while_it_is_held(desk: Desk) -> None:
    desk.line.answers = [SendRefusedError("You do not have permission to create.", Verdict.REJECT)]
    reply = await desk.push()
    assert desk.outbox.unsettled == {reply.id}
    desk.outbox.resend(reply)
    await desk.until(lambda: not desk.outbox.waiting)
    assert len(desk.line.sent) == 1
    again = replace(reply, state=ReplyState.PENDING)
    desk.outbox.resend(again)
    desk.outbox.resend(replace(again))
    assert desk.outbox.waiting == 1
    await desk.outbox.close()


@both
async def test_a_message_that_cannot_be_read_stops_no_reply(desk: Desk, registry: Registry) -> None:
    """What a reply answers is looked up for the log; the conversation goes on whatever is found."""
    await registry.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_SECRET"))
    asked = InboundMessage(conversation_id=CONVERSATION, role="user", content="hello", id="b" * 24)
    row = await desk.journal.add(AGENT, asked, key="b" * 24, received_at=1.0, claim=False)
    assert row is not None
    answer = OutboundMessage(role="assistant", content="hi", conversation_id=CONVERSATION, id="c" * 24)
    reply = await desk.journal.add_reply(AGENT, row.id, NewReply(0, answer))
    desk.sql("UPDATE inbox SET message_key = x'ff'")
    desk.outbox.resend(reply)
    await desk.push(1)
    await desk.until(lambda: not desk.outbox.waiting)
    assert desk.line.sent == ["c" * 24, f"{1:024x}"]


never = pytest.mark.parametrize("desk", [False], indirect=True, ids=["at_least_once"])


@never
async def test_a_doubtful_reply_that_the_platform_has_is_not_sent_again(desk: Desk) -> None:
    desk.line.answers = [AckTimeoutError("message:send was not acknowledged within 5 s")]
    desk.platform_has = {"hi"}
    reply = await desk.push()
    await desk.asleep()
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.until(lambda: not desk.outbox.waiting)
    assert desk.line.sent == [reply.message.id]
    assert desk.asked_about == [reply]
    assert reply.state is ReplyState.ACKED


@never
async def test_nobody_is_asked_where_the_platform_keeps_ids(desk: Desk) -> None:
    """A second send of an id is refused there as a duplicate, which settles it."""
    await desk.push(0)
    await desk.until(lambda: not desk.outbox.waiting)
    desk.line.answers = [AckTimeoutError("message:send was not acknowledged within 5 s")]
    reply = await desk.push(1)
    await desk.asleep()
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.until(lambda: not desk.outbox.waiting)
    assert [sent == reply.message.id for sent in desk.line.sent] == [False, True, True]
    assert desk.asked_about == []


@never
async def test_what_an_earlier_run_left_is_looked_for_first(desk: Desk) -> None:
    """It may have been sent in the moment in which the process died."""
    await desk.journal.add_reply(AGENT, None, NewReply(0, _said("first")))
    await desk.journal.add_reply(AGENT, None, NewReply(1, _said("second")))
    desk.platform_has = {"first"}
    desk.line.known_as = "f" * 24
    assert await desk.outbox.restore() == 2
    await desk.until(lambda: not desk.outbox.waiting)
    assert [reply.message.content for reply in desk.asked_about] == ["first", "second"]
    assert len(desk.line.sent) == 1


def _said(content: str) -> OutboundMessage:
    return OutboundMessage(role="assistant", content=content, conversation_id=CONVERSATION, id="0" * 24)


@both
async def test_a_reply_that_was_erased_while_it_waited_is_let_go(desk: Desk) -> None:
    desk.line.answers = [SendRefusedError("busy", Verdict.RETRY)] * 9
    await desk.push()
    await desk.asleep()
    await desk.journal.maintenance.purge(AGENT)
    await desk.clock.advance(RETRY_SECONDS[0])
    await desk.until(lambda: not desk.outbox.waiting)
    # Without a row to write to, no failure could be counted and no wait be kept.
    assert len(desk.line.sent) == (1 if desk.at_most_once else 2)


@never
async def test_an_outage_of_an_hour_costs_no_reply_and_its_end_is_found_soon(desk: Desk) -> None:
    """R36: nothing is acknowledged, so nobody can say that the reply is at fault."""
    desk.line.answers = [SendRefusedError("Database is down", Verdict.RETRY)] * 1000
    reply = await desk.push()
    await desk.asleep()
    for _ in range(360):
        await desk.pass_time(10)
    assert desk.outbox.unsettled == {reply.id}
    assert 60 < len(desk.line.sent) < 80, "once a minute at last"
    desk.line.answers.clear()
    for _ in range(7):
        await desk.pass_time(10)
    await desk.until(lambda: not desk.outbox.waiting)
    assert reply.state is ReplyState.ACKED


@never
async def test_a_reply_that_a_host_does_not_take_while_it_takes_others_ends_as_before(desk: Desk) -> None:
    desk.line.answers = [SendRefusedError("odd", Verdict.RETRY)] * 1000
    reply = await desk.push()
    await desk.asleep()
    for _ in range(80):
        await desk.pass_time(10)
        desk.deliveries.acked(HOST)
    await desk.until(lambda: not desk.outbox.waiting)
    assert reply.state is ReplyState.DEAD
    assert len(desk.line.sent) < 15, "it is not tried whenever another one is acknowledged"


@never
async def test_a_reply_that_nobody_can_judge_is_given_up_at_last(desk: Desk) -> None:
    desk.line.answers = [SendRefusedError("odd", Verdict.RETRY)] * 1000
    reply = await desk.push()
    await desk.asleep()
    for _ in range(round(GIVE_UP_SECONDS / 30) + 5):
        await desk.pass_time(30)
    await desk.until(lambda: not desk.outbox.waiting)
    assert reply.state is ReplyState.DEAD


@pytest.mark.parametrize(
    ("answers", "sent"),
    [
        pytest.param(["refused", "stored"], ["old", "old", "new"], id="only in the history: shown under another id"),
        pytest.param(["lost", "stored"], ["old", "old"], id="it arrived"),
        pytest.param(["lost", "refused", "stored"], ["old"] * 3, id="nobody knows"),
        pytest.param(["refused", "stored", "lost", "stored"], ["old", "old", "new", "new"], id="the second arrived"),
        pytest.param(
            ["refused", "stored", "refused", "stored"], ["old", "old", "new", "new", "newer"], id="refused again"
        ),
    ],
)
@never
async def test_what_the_platform_stored_and_refused_is_sent_so_that_people_see_it(
    desk: Desk, answers: list[str], sent: list[str]
) -> None:
    errors: dict[str, Exception] = {
        "refused": SendRefusedError("Database is down", Verdict.RETRY),
        "lost": AckTimeoutError("not acknowledged"),
        "stored": AlreadyStoredError("E11000 duplicate key error"),
    }
    desk.line.answers = [errors[answer] for answer in answers]
    reply = await desk.push()
    while desk.outbox.waiting:
        await desk.until(lambda: desk.clock.sleepers or not desk.outbox.waiting)
        await desk.pass_time(RETRY_SECONDS[-1])
    assert reply.state is ReplyState.ACKED
    names = dict(zip(dict.fromkeys(desk.line.sent), ("old", "new", "newer"), strict=False))
    assert [names[one] for one in desk.line.sent] == sent
    assert desk.line.sent[0] == reply.message.id
