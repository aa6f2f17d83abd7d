"""Runs one message through its agent's handler and settles it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from supervisor.core.backoff import Backoff
from supervisor.core.errors import InvalidReplyError
from supervisor.core.records import JournaledMessage, NewReply
from supervisor.core.states import FINAL_MESSAGE_STATES, MessageState
from supervisor.core.tasks import is_cancelled, to_the_end
from supervisor.handler import Permanent, Reply
from supervisor.handlers import MountedHandler, to_outbound
from supervisor.handlers.foreign import escaped, foreign_context, is_readable
from supervisor.handlers.threads import TimeLimit, call_in_loop
from supervisor.messages.attempt import Attempt
from supervisor.messages.lanes import INTERRUPTED
from supervisor.messages.notices import APOLOGY, APOLOGY_TIMEOUT
from supervisor.messages.outbox import Outbox
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile
from supervisor.messages.reply_ids import with_reply_id
from supervisor.messages.settling import until_journaled
from supervisor.messages.under_way import AllUnderWay, UnderWay
from supervisor.telemetry.failures import describe, describe_fully

#: How long a cancelled handler may take to end before its lane goes on without it.
CANCEL_GRACE_SECONDS = 5.0

_T = TypeVar("_T")

#: Why a message that a person stopped is cancelled.
STOP_REASON = "stopped by /stop"


class HandlerTimeoutError(Exception):
    """The handler did not answer within its time-out; it is not tried again."""


class AnswerStoppedError(Exception):
    """Somebody does not want the answer any more; its text is the reason."""


class AnswerInterruptedError(Exception):
    """The answer is to begin again, for later messages too."""


class HandlerCancelledError(Exception):
    """The handler ended by a cancellation that was not ours."""


#: How an attempt ended, by what its message became.
#: Outcomes of attempts that failed.
_FAILURES = frozenset({"retried", "dead", "timeout"})
_OUTCOMES = {
    MessageState.DONE: "done",
    MessageState.DEAD: "dead",
    MessageState.CANCELLED: "cancelled",
    MessageState.RETRYABLE: "retried",
}


class MessageExecutor:
    """Works on the messages of one agent; :meth:`work` is what its lanes call.

    Args:
        backoff: seconds before the next attempt, by the number of the one that failed.
        cancel_grace_seconds: how long a cancelled handler may take to end.
    """

    def __init__(
        self,
        profile: Profile,
        participation: Participation,
        outbox: Outbox,
        *,
        backoff: Callable[[int], float] | None = None,
        cancel_grace_seconds: float = CANCEL_GRACE_SECONDS,
    ) -> None:
        self._profile = profile
        self._participation = participation
        self._outbox = outbox
        self._scope = scope = profile.scope
        self._journal = scope.journal
        self._metrics = scope.metrics
        self._activity = scope.activity
        self._clock = scope.clock
        self._traces = scope.traces
        self._delay = backoff or _delay
        self._cancel_grace_seconds = cancel_grace_seconds
        #: What the handler has in its hands.
        self.under_way = AllUnderWay()
        # The numbers of messages that are being cancelled before their handler has begun.
        self._unwanted: dict[int, str] = {}

    @property
    def abandoned(self) -> int:
        """How many handlers go on though nobody waits for them."""
        return self.under_way.left_behind

    async def stop(self, conversation_id: str, before_id: int) -> bool:
        """Cancel the answer that is being made in a conversation, for good, if its message came before ``before_id``.

        Returns:
            False where none is, or where it was ready in that moment.
        """
        running = self.under_way.of(conversation_id)
        return running is not None and running.message.id <= before_id and await running.stop(STOP_REASON)

    def came_behind(self, row: JournaledMessage) -> None:
        """A message waits behind one whose answer is being made: where the row says so, that one begins again."""
        running = self.under_way.of(row.conversation_id)
        if running and self._profile.settings.when_busy == "interrupt" and self._profile.collects(row):
            running.interrupt()

    async def cancel(self, row: JournaledMessage, reason: str) -> bool:
        """Cancel a message for good, whether its handler runs or has not begun; whether it was in time.

        Args:
            row: as the journal has it.

        Raises:
            RegistryError: the database refused it.
        """
        running = self.under_way.of(row.conversation_id)
        if running is not None and running.message.id == row.id:
            return await running.stop(reason)
        # What is claimed in this moment is met before its handler begins.
        self._unwanted[row.id] = reason
        try:
            if await to_the_end(self._journal.settle(row, MessageState.CANCELLED, error=reason)) is not None:
                return True
            running = self.under_way.of(row.conversation_id)
            return running is not None and running.message.id == row.id and await running.stop(reason)
        finally:
            del self._unwanted[row.id]

    async def work(self, row: JournaledMessage) -> float | None:
        """Claim, run and settle one message.

        Returns:
            None when it is settled or no longer ours, else when it is to be tried again (seconds since the epoch).
        """
        if row.state in FINAL_MESSAGE_STATES:
            # Stopped while it waited for its next attempt.
            return None
        running = self.under_way.begin(row, self._clock.now())
        if (unwanted := self._unwanted.get(row.id)) is not None:
            running.asked = unwanted
        try:
            if row.state is not MessageState.RUNNING and not await to_the_end(self._journal.claim(row)):
                return None
            if row.attempts > self._profile.settings.max_attempts:
                reason = row.error or "the process died each time"
                await self._bury(row, f"given up after {row.attempts - 1} attempts: {reason}")
                return None
            return await self._try_once(row, running)
        except asyncio.CancelledError:
            if row.state is MessageState.RUNNING:
                await to_the_end(self._journal.release(row))
            raise
        finally:
            self.under_way.end(running, stopped=row.state is MessageState.CANCELLED)

    async def _try_once(self, row: JournaledMessage, running: UnderWay) -> float | None:
        """Run the handler once; the time of the next attempt, if there is to be one."""
        handler = self._profile.handler
        trace = self._traces.attempt(row)
        attempt = Attempt(self._profile, self._participation, self._outbox, row, trace)
        started = self._clock.monotonic()
        self._metrics.queued(handler.reference, max(0.0, self._clock.now() - row.received_at))
        outcome, ended = "", started
        try:
            try:
                await self._within_time(attempt, handler, running)
            finally:
                # What the journal takes afterwards is no time of the handler's.
                ended = self._clock.monotonic()
        except AnswerStoppedError as stopped:
            reason = str(stopped)
            await self._settle(lambda: self._journal.settle(row, MessageState.CANCELLED, error=reason))
            outcome = "cancelled"
            return None
        except AnswerInterruptedError:
            return INTERRUPTED if await self._settle(lambda: self._journal.release(row)) else None
        except Exception as error:  # noqa: BLE001  a handler may raise anything; it is journaled with its traceback
            trace.fail(error)
            outcome, again_at = await self._failed(row, attempt, error)
            return again_at
        else:
            await self._settle(attempt.finish)
            outcome = "done"
            self._profile.health.succeeded()
            return None
        finally:
            # Where the attempt was cancelled, the row's state says what was written in that moment.
            outcome = outcome or _OUTCOMES.get(row.state, "released")
            self._metrics.handled(handler.reference, outcome, ended - started)
            if outcome in _FAILURES:
                self._activity.failed()
            trace.end(outcome)

    async def _within_time(self, attempt: Attempt, handler: MountedHandler, running: UnderWay) -> None:
        if running.asked is not None:
            attempt.time_limit.close()
            raise AnswerStoppedError(running.asked)
        limit = attempt.time_limit
        agent_id = attempt.row.agent_id
        task = asyncio.create_task(
            attempt.consume(handler), name=f"handler {agent_id}", context=foreign_context(agent_id)
        )
        running.task, running.limit, running.redact = task, limit, attempt.redact
        running.withdraw = attempt.withdraw
        task.add_done_callback(lambda _: running.woken.set())
        limit.on_reached = running.woken.set
        try:
            await running.woken.wait()
            if not task.done():
                if running.asked is None and not running.interrupted:
                    self._report_timeout(running, handler)
                await self._stop(task, attempt, handler, running)
                raise _cut_short(running, limit)
        except asyncio.CancelledError:
            told = is_cancelled()
            await self._stop(task, attempt, handler, running)
            if told:
                raise
            raise HandlerCancelledError("its message's task was cancelled by foreign code") from None
        finally:
            limit.close()
        if task.cancelled():
            # Something that the handler awaited was cancelled, and not by us: an error like any other.
            raise HandlerCancelledError("the handler was cancelled from within")
        try:
            task.result()
        except BaseException as error:
            if is_readable(error) and isinstance(error, Exception):
                raise
            # Out of a part's own methods, say, when we looked at it.
            raise escaped(error, "the handler") from error

    def _report_timeout(self, running: UnderWay, handler: MountedHandler) -> None:
        """Say where a handler stands whose time is up, before anything is done about it."""
        self._scope.log.warning(
            "handler_timeout", handler=handler.reference, number=running.message.id, stack=running.stack
        )

    async def _stop(
        self, task: asyncio.Task[None], attempt: Attempt, handler: MountedHandler, running: UnderWay
    ) -> None:
        """Cancel a handler; one that goes on all the same is left behind and what it still makes is discarded."""
        attempt.give_up()
        task.cancel()
        await asyncio.wait({task}, timeout=self._cancel_grace_seconds)
        thread = attempt.time_limit.thread
        if not task.done():
            task.add_done_callback(lambda _: self._returned(running))
        elif thread is not None and not thread.done():
            # A thread cannot be cancelled, so there is nothing to wait for.
            loop = asyncio.get_running_loop()
            thread.add_done_callback(lambda _: call_in_loop(loop, self._returned, running))
        else:
            return
        self.under_way.leave_behind(running)
        self._metrics.watchdog("handler_abandoned")
        self._scope.log.error("handler_abandoned", handler=handler.reference, abandoned=self.abandoned)

    def _returned(self, running: UnderWay) -> None:
        self.under_way.returned(running)
        if running.task is not None and running.task.done() and not running.task.cancelled():
            running.task.exception()

    async def _failed(self, row: JournaledMessage, attempt: Attempt, error: Exception) -> tuple[str, float | None]:
        """Retry or bury a message whose handler failed; the metric's outcome and the time of the next attempt."""
        reason, report = describe(error, attempt.redact), describe_fully(error, attempt.redact)
        self._profile.health.failed(reason)
        final = isinstance(error, (HandlerTimeoutError, Permanent, InvalidReplyError)) or attempt.visible
        if not final and row.attempts < self._profile.settings.max_attempts:
            again_at = self._clock.now() + self._delay(row.attempts)
            self._scope.log.warning(
                "handler_failed", reason=reason, attempt=row.attempts, **self._told_traceback(report)
            )
            if await self._settle(lambda: self._journal.retry(row, report, again_at)):
                row.not_before = again_at
                return "retried", again_at
            return "lost", None
        timed_out = isinstance(error, HandlerTimeoutError)
        apology = APOLOGY_TIMEOUT if timed_out else (isinstance(error, Permanent) and error.apology) or APOLOGY
        told = self._told_traceback(report)
        await self._settle(lambda: self._bury(row, report, apology=apology, next_part=attempt.next_part, told=told))
        return "timeout" if timed_out else "dead", None

    def _told_traceback(self, report: str) -> dict[str, str]:
        """What a line about a failed attempt has besides: to whoever writes the handler, its traceback."""
        return {"exception": report.rstrip()} if self._profile.deployment.shows_tracebacks else {}

    async def _settle(self, write: Callable[[], Awaitable[_T]]) -> _T:
        """Journal what came of an attempt, whatever happens meanwhile: the handler must not run again."""
        return await until_journaled(self._scope, lambda: to_the_end(write()))

    async def _bury(
        self,
        row: JournaledMessage,
        error: str,
        *,
        apology: str = APOLOGY,
        next_part: int = 0,
        told: Mapping[str, str] | None = None,
    ) -> None:
        """Make a dead letter and tell the person, once, in one commit.

        Args:
            next_part: the first number that no part of this attempt has: one may still be on its way into the journal.
            told: what the log's line has besides.
        """
        self._scope.log.error("dead_letter", number=row.id, reason=error.strip().rpartition("\n")[2], **(told or {}))
        replies = [await self._apology(row, apology, next_part)] if row.message.said else []
        for reply in await self._journal.settle(row, MessageState.DEAD, error=error, replies=replies) or ():
            self._outbox.push(reply, row)

    async def _apology(self, row: JournaledMessage, apology: str, next_part: int) -> NewReply:
        message = to_outbound(
            Reply(apology, type="error", error=apology), conversation_id=row.conversation_id, agent_id=row.agent_id
        )
        part = max([next_part, *(reply.part + 1 for reply in await self._journal.replies(row.id))])
        return NewReply(part, with_reply_id(message, row, part))


def _cut_short(running: UnderWay, limit: TimeLimit) -> Exception:
    """Why a handler was stopped before it had ended."""
    if running.asked is not None:
        return AnswerStoppedError(running.asked)
    if running.interrupted:
        return AnswerInterruptedError()
    return HandlerTimeoutError(f"the handler took longer than {limit.seconds:g} s")


def _delay(attempt: int) -> float:
    """Seconds before the next attempt at a message: full jitter, 1 s doubling to 60 s."""
    backoff = Backoff()
    backoff.failures = attempt - 1
    return backoff.next_delay()
