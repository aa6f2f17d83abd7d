"""Runs one message through its agent's handler and settles it (DESIGN §4: claim, run, settle)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from supervisor import protocol
from supervisor.backoff import Backoff
from supervisor.clock import Clock
from supervisor.context import AgentView, MessageContext
from supervisor.errors import InvalidReplyError, RegistryError
from supervisor.failures import describe, describe_fully
from supervisor.handler import Part, Permanent, Reply
from supervisor.handlers import MountedHandler
from supervisor.logs import REDACTED
from supervisor.metrics import Metrics
from supervisor.outbox import Outbox
from supervisor.parts import to_outbound
from supervisor.records import JournaledMessage, NewReply
from supervisor.records import Reply as SentReply
from supervisor.registry import Journal
from supervisor.states import FINAL_MESSAGE_STATES, MessageState
from supervisor.threads import TimeLimit, tell

#: Room for the frame around a message: packet type, namespace, ack id, event name.
FRAME_ROOM_BYTES = 1024
DEFAULT_MAX_PAYLOAD = 1_000_000
#: How long a cancelled handler may take to end before its lane goes on without it (RELIABILITY R12).
CANCEL_GRACE_SECONDS = 5.0
#: When to try again to journal what came of an attempt, where the database refused it.
SETTLE_RETRY_SECONDS = 5.0

_T = TypeVar("_T")

APOLOGY = "Sorry, I could not answer this message."
#: Why a message that a person stopped is cancelled.
STOP_REASON = "stopped by /stop"
APOLOGY_TIMEOUT = "Sorry, this took too long and I had to stop."


class HandlerTimeoutError(Exception):
    """The handler did not answer within its time-out; final (DESIGN §4)."""


class AnswerStoppedError(Exception):
    """A person does not want the answer any more."""


class HandlerCancelledError(Exception):
    """The handler ended by a cancellation that was not ours."""


@dataclass(frozen=True, slots=True)
class Limits:
    """One agent's bounds on a message: seconds and attempts."""

    timeout_seconds: float
    max_attempts: int


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class _Stop:
    """A wish that a message's answer be stopped, and whether it was once the message is out of our hands."""

    message_id: int
    asked: asyncio.Future[None] = field(default_factory=_future)
    over: asyncio.Future[bool] = field(default_factory=_future)


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


class Executor:
    """Works on the messages of one agent; :meth:`work` is what its lanes call."""

    def __init__(
        self,
        agent: ExecutionView,
        journal: Journal,
        metrics: Metrics,
        clock: Clock,
        *,
        backoff: Callable[[int], float] | None = None,
    ) -> None:
        self._agent = agent
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._delay = backoff or _delay
        self.abandoned = 0
        # By conversation, of which one message runs at a time.
        self._stops: dict[str, _Stop] = {}

    async def stop(self, conversation_id: str, before_id: int) -> bool:
        """Cancel the answer that is being made in a conversation, for good, if its message came before ``before_id``.

        Returns:
            False where none is, or where it was ready in that moment.
        """
        stop = self._stops.get(conversation_id)
        if stop is None or stop.message_id > before_id:
            return False
        if not stop.asked.done():
            stop.asked.set_result(None)
        # Waited for, not awaited: whoever gives up waiting must not cancel it for the others.
        await asyncio.wait([stop.over])
        return stop.over.result()

    async def work(self, row: JournaledMessage) -> float | None:
        """Claim, run and settle one message.

        Returns:
            None when it is settled or no longer ours, else when it is to be tried again (seconds since the epoch).
        """
        if row.state in FINAL_MESSAGE_STATES:
            # Stopped while it waited for its next attempt.
            return None
        stop = self._stops[row.conversation_id] = _Stop(row.id)
        try:
            if row.state is not MessageState.RUNNING and not await _to_the_end(self._journal.claim(row)):
                return None
            if row.attempts > self._agent.limits.max_attempts:
                reason = row.error or "the process died each time"
                await self._bury(row, f"given up after {row.attempts - 1} attempts: {reason}")
                return None
            return await self._attempt(row, stop)
        except asyncio.CancelledError:
            if row.state is MessageState.RUNNING:
                await _to_the_end(self._journal.release(row))
            raise
        finally:
            self._stops.pop(row.conversation_id, None)
            stop.over.set_result(row.state is MessageState.CANCELLED)

    async def _attempt(self, row: JournaledMessage, stop: _Stop) -> float | None:
        """Run the handler once; the time of the next attempt, if there is to be one."""
        run = Run(self._agent, row, self._journal, self._metrics, self._clock)
        handler = self._agent.handler
        started = self._clock.monotonic()
        self._metrics.queued(handler.reference, max(0.0, self._clock.now() - row.received_at))
        outcome = "released"
        try:
            await self._within_time(run, handler, stop)
        except AnswerStoppedError:
            await self._owed(row, lambda: self._journal.settle(row, MessageState.CANCELLED, error=STOP_REASON))
            outcome = "cancelled"
            return None
        except Exception as error:  # noqa: BLE001  a handler may raise anything; it is journaled with its traceback
            outcome, again_at = await self._failed(row, run, error)
            return again_at
        else:
            await self._owed(row, run.finish)
            outcome = "done"
            self._agent.handler_succeeded()
            return None
        finally:
            self._metrics.handled(handler.reference, outcome, self._clock.monotonic() - started)

    async def _within_time(self, run: Run, handler: MountedHandler, stop: _Stop) -> None:
        limit = run.time_limit
        task = asyncio.create_task(run.consume(handler), name=f"handler {run.row.agent_id}")
        try:
            await asyncio.wait([task, limit.reached, stop.asked], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await self._stop(task, run, handler)
                if stop.asked.done():
                    raise AnswerStoppedError
                raise HandlerTimeoutError(f"the handler took longer than {limit.seconds:g} s")
        except asyncio.CancelledError:
            await self._stop(task, run, handler)
            raise
        finally:
            limit.close()
        if task.cancelled():
            # Not we: something it awaited was cancelled. As an error it is tried again like any other.
            raise HandlerCancelledError("the handler was cancelled from within")
        task.result()

    async def _stop(self, task: asyncio.Task[None], run: Run, handler: MountedHandler) -> None:
        """Cancel a handler; one that goes on all the same is left behind and what it still makes is discarded."""
        run.give_up()
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_GRACE_SECONDS)
        thread = run.time_limit.thread
        if not task.done():
            task.add_done_callback(self._note_return)
        elif thread is not None and not thread.done():
            # It cannot even be told, so there is nothing to wait for.
            loop = asyncio.get_running_loop()
            thread.add_done_callback(lambda _: tell(loop, self._note_return))
        else:
            return
        self.abandoned += 1
        self._metrics.watchdog("handler_abandoned")
        self._agent.log.error(
            "handler_abandoned", handler=handler.reference, message_id=run.row.key, abandoned=self.abandoned
        )

    def _note_return(self, task: asyncio.Task[None] | None = None) -> None:
        self.abandoned -= 1
        if task is not None and not task.cancelled():
            task.exception()

    async def _failed(self, row: JournaledMessage, run: Run, error: Exception) -> tuple[str, float | None]:
        """Retry or bury a message whose handler failed; the metric's outcome and the time of the next attempt."""
        reason, report = describe(error, run.redact), describe_fully(error, run.redact)
        self._agent.handler_failed(reason)
        final = isinstance(error, (HandlerTimeoutError, Permanent, InvalidReplyError)) or run.visible
        if not final and row.attempts < self._agent.limits.max_attempts:
            again_at = self._clock.now() + self._delay(row.attempts)
            self._agent.log.warning("handler_failed", reason=reason, attempt=row.attempts, message_id=row.key)
            if await self._owed(row, lambda: self._journal.retry(row, report, again_at)):
                row.not_before = again_at
                return "retried", again_at
            return "lost", None
        timed_out = isinstance(error, HandlerTimeoutError)
        apology = APOLOGY_TIMEOUT if timed_out else APOLOGY
        await self._owed(row, lambda: self._bury(row, report, apology=apology, next_part=run.next_part))
        return "timeout" if timed_out else "dead", None

    async def _owed(self, row: JournaledMessage, write: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Journal what came of an attempt, however often the database refuses it: the handler must not run again.

        The lane waits meanwhile, as it does while the disk takes nothing at all.
        """
        while True:
            try:
                return await _to_the_end(write())
            except RegistryError as error:
                self._agent.log.warning("message_not_settled", message_id=row.key, reason=str(error))
                await self._clock.sleep(SETTLE_RETRY_SECONDS)

    async def _bury(self, row: JournaledMessage, error: str, *, apology: str = APOLOGY, next_part: int = 0) -> None:
        """Make a dead letter and tell the person, once, in one commit.

        Args:
            next_part: the first number that no part of this attempt has: one may still be on its way into the journal.
        """
        self._agent.log.error(
            "dead_letter", number=row.id, message_id=row.key, reason=error.strip().rpartition("\n")[2]
        )
        message = to_outbound(
            Reply(apology, type="error", error=apology), conversation_id=row.conversation_id, agent_id=row.agent_id
        )
        part = max([next_part, *(reply.part + 1 for reply in await self._journal.replies(row.id))])
        message = with_id(message, row, part)
        replies = await self._journal.settle(row, MessageState.DEAD, error=error, replies=[NewReply(part, message)])
        for reply in replies or ():
            self._agent.outbox.push(reply)


class _RunContext(MessageContext):
    """A message's context that knows how long the handler has still, and whether the person sees "typing …"."""

    def __init__(
        self,
        agent: AgentView,
        row: JournaledMessage,
        clock: Clock,
        time_limit: TimeLimit,
        send: Callable[[Part], Awaitable[None]],
    ) -> None:
        super().__init__(agent, row, 0.0, send)
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

    def __init__(
        self, agent: ExecutionView, row: JournaledMessage, journal: Journal, metrics: Metrics, clock: Clock
    ) -> None:
        self.row = row
        self.visible = False
        self.over = False
        self.next_part = 0
        self._agent = agent
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._held: NewReply | None = None
        self._made: frozenset[int] = frozenset()
        self._started = clock.monotonic()
        self._token = agent.grant.token if agent.grant else ""
        self.time_limit = TimeLimit(agent.limits.timeout_seconds)
        self._context = _RunContext(agent, row, clock, self.time_limit, self._send_now)

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
        return new

    async def _send_now(self, part: Part) -> None:
        await self._commit(self._new(part))

    async def _commit(self, new: NewReply) -> None:
        """Journal a part and send it, unless an earlier attempt did or nobody waits for this one any more."""
        if not self.over and new.part not in self._made:
            # Committed and not pushed, it would lie in the outbox until the next start.
            await _to_the_end(self._commit_and_push(new))

    async def _commit_and_push(self, new: NewReply) -> None:
        reply = await self._journal.add_reply(self.row.agent_id, self.row.id, new)
        self.visible = True
        self._agent.outbox.push(reply, self._note_answer)

    async def finish(self) -> None:
        """Settle the message as done, its held answer in the same commit."""
        replies = [self._held] if self._held and self._held.part not in self._made else []
        committed = await self._journal.settle(self.row, MessageState.DONE, replies=replies)
        for reply in committed or ():
            self._agent.outbox.push(reply, self._note_answer)

    def _note_answer(self, reply: SentReply) -> None:
        """Measure received → acked, once a part that is an answer is with the platform."""
        if reply.message.type in (None, "text", "error"):
            self._metrics.answered(self._agent.handler.reference, max(0.0, self._clock.now() - self.row.received_at))


def with_id(message: protocol.OutboundMessage, row: JournaledMessage, part: int) -> protocol.OutboundMessage:
    """The message with the ``_id`` that the reply's n-th part has."""
    return msgspec.structs.replace(message, id=_id(row, part), parent_id=None)


def _id(row: JournaledMessage, part: int) -> str:
    return protocol.reply_id(row.agent_id, row.key, part, row.replay)


def _delay(attempt: int) -> float:
    """Seconds before the next attempt at a message: full jitter, 1 s doubling to 60 s."""
    backoff = Backoff()
    backoff.failures = attempt - 1
    return backoff.next_delay()


async def _to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
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
