"""One attempt at one message: what its handler is given, and how the parts it makes reach the outbox (DESIGN §4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from supervisor import protocol
from supervisor.core.clock import Clock
from supervisor.core.errors import InvalidReplyError
from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.records import Reply as SentReply
from supervisor.core.states import MessageState
from supervisor.handler import Part, Reply
from supervisor.handlers import MountedHandler, TimeLimit, to_outbound
from supervisor.messages.answer_time import AnswerTime
from supervisor.messages.context import AgentView, MessageContext
from supervisor.messages.outbox import Outbox
from supervisor.messages.scope import Scope
from supervisor.telemetry.redaction import REDACTED
from supervisor.telemetry.tracing import AttemptTrace

#: Room for the frame around a message: packet type, namespace, ack id, event name.
FRAME_ROOM_BYTES = 1024
DEFAULT_MAX_PAYLOAD = 1_000_000
#: The types of a reply that are an answer, and no step on the way to one.
_ANSWERS = (None, "text", "error")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Limits:
    """One agent's bounds on a message: seconds and attempts."""

    timeout_seconds: float
    max_attempts: int


class ExecutionView(AgentView, Protocol):
    """What running a message needs of an agent's runner, besides what contexts need."""

    @property
    def handler(self) -> MountedHandler: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def shows_typing(self) -> bool: ...
    @property
    def marks_read(self) -> bool: ...
    def redact(self, text: str) -> str: ...
    def handler_failed(self, reason: str) -> None: ...
    def handler_succeeded(self) -> None: ...


class _RunContext(MessageContext):
    """A message's context that knows how long the handler has still, and whether the person sees "typing …"."""

    def __init__(
        self,
        agent: AgentView,
        row: JournaledMessage,
        clock: Clock,
        time_limit: TimeLimit,
        send: Callable[[Part], Awaitable[None]],
        *,
        attempt: AttemptTrace,
    ) -> None:
        super().__init__(agent, row, 0.0, send, attempt)
        self._clock = clock
        self._time_limit = time_limit
        self._ending = False
        # Both in the order of the calls, which come from threads too: written by callbacks of the loop only.
        self._shown = False
        self._ended = False

    @property
    def deadline(self) -> float:
        return self._clock.now() + self._time_limit.left

    def typing(self, on: bool = True) -> None:
        self._loop.call_soon_threadsafe(self._show_typing, on)

    def _show_typing(self, on: bool) -> None:
        if (on and not self._ended) or (not on and self._shown):
            self._shown = on
            super().typing(on)

    def end(self) -> None:
        """The handler is over: whatever shows "typing …" is taken back, and nothing shows it again."""
        if not self._ending:
            self._ending = True
            self._loop.call_soon_threadsafe(self._end_typing)

    def _end_typing(self) -> None:
        self._ended = True
        self._show_typing(False)


class Run:
    """One attempt at one message: collects the handler's parts and journals them."""

    def __init__(self, agent: ExecutionView, row: JournaledMessage, scope: Scope, attempt: AttemptTrace) -> None:
        self.row = row
        self.visible = False
        self.over = False
        self.next_part = 0
        self._agent = agent
        self._journal = scope.journal
        self._clock = scope.clock
        self._held: NewReply | None = None
        reference = agent.handler.reference
        self._answer_time = AnswerTime(scope.clock, row.received_at, partial(scope.metrics.answered, reference))
        self._made: frozenset[int] = frozenset()
        self._started = scope.clock.monotonic()
        self._token = agent.grant.token if agent.grant else ""
        self.time_limit = TimeLimit(agent.limits.timeout_seconds)
        self._context = _RunContext(agent, row, scope.clock, self.time_limit, self._send_now, attempt=attempt)

    def redact(self, text: str) -> str:
        """``text`` without secrets, the token included that the agent had when the handler began."""
        if self._token:
            for form in (self._token, quote(self._token, safe="")):
                text = text.replace(form, REDACTED)
        return self._agent.redact(text)

    def give_up(self) -> None:
        """Nobody waits for the handler any more: what it still makes is discarded, what it shows is not true."""
        self.over = True
        self._context.end()

    async def consume(self, handler: MountedHandler) -> None:
        """Run the handler to its end. A single answer is held back for :meth:`finish`, parts are sent as they come."""
        if not self.row.fresh:
            # A reply that an earlier attempt put into the outbox is sent from there, not made again (DESIGN §4). Not
            # so one of before a replay, or of an erased message of the same number: those have other ids.
            found = await self._journal.replies(self.row.id)
            self._made = frozenset(reply.part for reply in found if reply.message.id == _id(self.row, reply.part))
        self.row.fresh = False
        with handler.working():
            if self._agent.marks_read:
                self._context.mark_read()
            if self._agent.shows_typing:
                self._context.typing()
            try:
                parts: AsyncGenerator[Part, None] = handler.parts(self.row.message, self._context, self.time_limit)
                async with aclosing(parts):
                    async for part in parts:
                        await self._take(part, streams=handler.streams)
            finally:
                self._context.end()

    async def _take(self, part: Part, *, streams: bool) -> None:
        if streams:
            await self._send_now(part)
            return
        # More than one after all, from a function that returned something that yields: all but the last go now.
        held, self._held = self._held, None
        if held is not None:
            await self._commit(held)
        self._held = self._new(part)

    def _new(self, part: Part) -> NewReply:
        """Check a part and give it its number and ``_id``.

        Raises:
            InvalidReplyError: the platform would refuse it.
        """
        latency_ms = (self._clock.monotonic() - self._started) * 1000
        carries_usage = isinstance(part, str) or (isinstance(part, Reply) and part.usage is None)
        usage = self._context.take_usage() if carries_usage else None
        message = to_outbound(
            part,
            conversation_id=self.row.conversation_id,
            agent_id=self.row.agent_id,
            latency_ms=latency_ms,
            usage=usage,
        )
        message = with_id(message, self.row, self.next_part)
        connection = self._agent.connection
        limit = connection.max_payload if connection and connection.connected else DEFAULT_MAX_PAYLOAD
        try:
            protocol.check_outbound(message, limit - FRAME_ROOM_BYTES)
        except protocol.InvalidMessageError as error:
            raise InvalidReplyError(f"the handler's reply cannot be sent: {error}") from error
        if isinstance(part, Reply) and part.usage:
            self._agent.count_usage(part.usage)
        new = NewReply(self.next_part, message)
        self.next_part += 1
        if message.type in _ANSWERS:
            self._answer_time.ready(new.part)
        return new

    async def _send_now(self, part: Part) -> None:
        await self._commit(self._new(part))

    async def _commit(self, new: NewReply) -> None:
        """Journal a part and send it, unless an earlier attempt did or nobody waits for this one any more."""
        if not self.over and new.part not in self._made:
            # Committed and not pushed, it would lie in the outbox until the next start.
            await to_the_end(self._commit_and_push(new))

    async def _commit_and_push(self, new: NewReply) -> None:
        reply = await self._journal.add_reply(self.row.agent_id, self.row.id, new)
        self.visible = True
        self._agent.outbox.push(reply, self.row, self._note_ack)

    async def finish(self) -> None:
        """Settle the message as done, its held answer in the same commit."""
        replies = [self._held] if self._held and self._held.part not in self._made else []
        committed = await self._journal.settle(self.row, MessageState.DONE, replies=replies)
        for reply in committed or ():
            self._agent.outbox.push(reply, self.row, self._note_ack)
        self._answer_time.finished()

    def _note_ack(self, reply: SentReply) -> None:
        self._answer_time.acked(reply.part)


def with_id(message: protocol.OutboundMessage, row: JournaledMessage, part: int) -> protocol.OutboundMessage:
    """The message with the ``_id`` that the reply's n-th part has."""
    return msgspec.structs.replace(message, id=_id(row, part), parent_id=None)


def _id(row: JournaledMessage, part: int) -> str:
    return protocol.reply_id(row.agent_id, row.key, part, row.replay)


async def to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Await ``work`` to its end, also when cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            # Nobody is left to hear of its failure: retrieved, or asyncio complains of it.
            task.exception()
        raise
