"""One attempt at one message: what its handler is given, and how the parts it makes reach the outbox."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from urllib.parse import quote

from supervisor import protocol
from supervisor.core import records
from supervisor.core.errors import InvalidReplyError
from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.states import MessageState
from supervisor.core.tasks import to_the_end
from supervisor.handler import Part, Reply
from supervisor.handlers import MountedHandler, TimeLimit, to_outbound
from supervisor.messages.answer_time import AnswerTime
from supervisor.messages.context import MessageContext
from supervisor.messages.outbox import Outbox
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile
from supervisor.messages.reply_ids import reply_id
from supervisor.messages.scope import Scope
from supervisor.messages.visibility import visible
from supervisor.protocol.inbound import collected
from supervisor.telemetry.redaction import REDACTED
from supervisor.telemetry.tracing import AttemptTrace

#: Room for the frame around a message: packet type, namespace, ack id, event name.
FRAME_ROOM_BYTES = 1024
DEFAULT_MAX_PAYLOAD = 1_000_000
#: Told what came of a settling: the replies as they are in the outbox, or why the journal refused.
Settled = Callable[[list[records.Reply] | None, Exception | None], object]
#: The types of a reply that are an answer, and no step on the way to one.
_ANSWERS = (None, "text", "error")


class Attempt:
    """Runs a handler for one message once: collects the parts of its answer and journals them."""

    def __init__(
        self,
        profile: Profile,
        participation: Participation,
        outbox: Outbox,
        row: JournaledMessage,
        trace: AttemptTrace,
    ) -> None:
        scope = profile.scope
        self.row = row
        #: Whether a part was journaled: the person sees it, or will.
        self.visible = False
        #: The first number that no part has.
        self.next_part = 0
        self._abandoned = False
        # Whether a part went on its way into the journal.
        self._showing = False
        self._profile = profile
        self._participation = participation
        self._outbox = outbox
        self._journal = scope.journal
        self._clock = scope.clock
        # The last part of a handler that does not stream: it is committed when the message is settled.
        self._last: NewReply | None = None
        report = partial(_count_answer, scope, profile.handler.reference, trace.trace_id)
        self._answer_time = AnswerTime(scope.clock, row.received_at, report)
        # Parts that an earlier attempt made.
        self._already_made: frozenset[int] = frozenset()
        self._started = scope.clock.monotonic()
        self._token = profile.token
        self.time_limit = TimeLimit(profile.settings.timeout_seconds)
        self._context = MessageContext(
            profile,
            participation,
            row,
            time_limit=self.time_limit,
            send=self._send_now,
            sending=lambda: outbox.is_sending(row.conversation_id),
            trace=trace,
        )

    def redact(self, text: str) -> str:
        """``text`` without secrets, the token included that the agent had when the handler began."""
        if self._token:
            for form in (self._token, quote(self._token, safe="")):
                text = text.replace(form, REDACTED)
        return self._profile.secrecy.redact(text)

    def withdraw(self) -> bool:
        """Give up, unless a part is out, or is on its way, or the handler is in a thread; whether that was done."""
        thread = self.time_limit.thread
        if self._showing or (thread is not None and not thread.done()):
            return False
        self.give_up()
        return True

    def go_on(self) -> None:
        """The handler has not ended at once: its time runs, and what it shows is repeated."""
        self.time_limit.begin()
        self._context.indicator.go_on()

    def give_up(self) -> None:
        """Nobody waits for the handler any more: what it still makes is discarded, what it shows is taken back."""
        self._abandoned = True
        self._context.end()

    async def consume(self, handler: MountedHandler) -> None:
        """Run the handler to its end. A single answer is kept for :meth:`finish`, parts are sent as they come.

        Raises:
            InvalidReplyError: the platform would refuse a part.
        """
        if not self.row.fresh:
            # A part that an earlier attempt put into the outbox is sent from there, not made again. Parts of before a
            # replay, or of an erased message of the same number, have other ids.
            found = await self._journal.replies(self.row.id)
            self._already_made = frozenset(
                reply.part for reply in found if reply.message.id == reply_id(self.row, reply.part)
            )
        self.row.fresh = False
        with handler.working():
            settings = self._profile.settings
            if settings.mark_read:
                self._context.mark_read()
            if settings.typing:
                self._context.typing()
            try:
                message = self.row.message
                if self.row.earlier:
                    message = collected(message, [one.message for one in self.row.earlier])
                answer = await handler.answer(message, self._context, self.time_limit)
                if not isinstance(answer, AsyncGenerator):
                    # As most do.
                    self._last = self._new(answer)
                else:
                    async with aclosing(answer):
                        async for part in answer:
                            await self._take(part, streams=handler.streams)
            finally:
                self._context.end()

    async def _take(self, part: Part, *, streams: bool) -> None:
        if streams:
            await self._send_now(part)
            return
        # More than one after all, from a function that returned something that yields: all but the last go now.
        before = self._last
        self._last = None
        if before is not None:
            await self._commit(before)
        self._last = self._new(part)

    def _new(self, part: Part) -> NewReply | None:
        """Check a part and give it its number and ``_id``; None where people are not to see it.

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
            message_id=reply_id(self.row, self.next_part),
            latency_ms=latency_ms,
            usage=usage,
        )
        connection = self._participation.connection
        limit = connection.max_payload if connection and connection.connected else DEFAULT_MAX_PAYLOAD
        try:
            body = protocol.check_outbound(message, limit - FRAME_ROOM_BYTES)
        except protocol.InvalidMessageError as error:
            raise InvalidReplyError(f"the handler's reply cannot be sent: {error}") from error
        if isinstance(part, Reply) and part.usage:
            self._profile.spending.count(part.usage)
        # A part that is hidden has a number too: another attempt may be at a time when it is shown.
        number = self.next_part
        self.next_part += 1
        shown = visible(message, self._profile.settings.show, bridged=self.row.message.bridged)
        if shown is None:
            return None
        if message.type in _ANSWERS:
            self._answer_time.ready(number)
        return NewReply(number, shown, body if shown is message else b"")

    @property
    def _is_heard(self) -> bool:
        """Whether an answer can be sent: nobody listens where a work or a reminder came from."""
        return self.row.message.said

    async def _send_now(self, part: Part) -> None:
        new = self._new(part)
        if new is not None:
            await self._commit(new)

    async def _commit(self, new: NewReply) -> None:
        """Journal a part and send it, unless an earlier attempt did or nobody waits for this one any more."""
        if self._is_heard and not self._abandoned and new.part not in self._already_made:
            self._showing = True
            # A part that is committed and not pushed would lie in the outbox until the next start.
            await to_the_end(self._commit_and_push(new))

    async def _commit_and_push(self, new: NewReply) -> None:
        reply = await self._journal.add_reply(self.row.agent_id, self.row.id, new)
        self.visible = True
        is_answer = new.message.type in _ANSWERS
        self._outbox.push(reply, self.row, self._acked, on_send=self._context.indicator.answer if is_answer else None)

    def finish(self, then: Settled) -> None:
        """Settle the message as done, its last part in the same commit, after which it goes out.

        Args:
            then: told once, after the commit: the replies, None where the message was no longer ours; or the error.

        Raises:
            RegistryError: the database refused it.
        """
        last = self._last if self._is_heard else None
        replies = [last] if last and last.part not in self._already_made else []
        self._journal.settle_then(self.row, MessageState.DONE, replies=replies, then=partial(self._finished, then))

    def _finished(self, then: Settled, replies: list[records.Reply] | None, error: Exception | None) -> None:
        if error is None:
            for reply in replies or ():
                self._outbox.push(reply, self.row, self._acked)
            self._answer_time.finished()
        then(replies, error)

    def _acked(self, reply: records.Reply) -> None:
        self._answer_time.acked(reply.part)


def _count_answer(scope: Scope, handler: str, trace_id: str, latency_seconds: float, send_seconds: float) -> None:
    scope.metrics.answered(handler, latency_seconds, send_seconds, trace_id)
    scope.activity.answered(latency_seconds)
