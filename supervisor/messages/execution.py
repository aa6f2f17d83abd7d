"""One message from its claim to its end: the handler's task, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from supervisor.core.errors import InvalidReplyError, RegistryError
from supervisor.core.owners import own_context
from supervisor.core.records import JournaledMessage
from supervisor.core.records import Reply as JournaledReply
from supervisor.core.states import FINAL_MESSAGE_STATES, MessageState
from supervisor.core.tasks import to_the_end
from supervisor.handler import Permanent
from supervisor.handlers import MountedHandler
from supervisor.handlers.foreign import escaped, foreign_context, is_readable
from supervisor.handlers.threads import call_in_loop
from supervisor.messages.attempt import Attempt
from supervisor.messages.burial import bury
from supervisor.messages.lanes import INTERRUPTED, Ended
from supervisor.messages.notices import APOLOGY, APOLOGY_TIMEOUT
from supervisor.messages.outbox import Outbox
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile
from supervisor.messages.settling import RETRY_SECONDS, UNSETTLED_RETRY_SECONDS, until_journaled
from supervisor.messages.under_way import AllUnderWay
from supervisor.telemetry.failures import describe, describe_fully
from supervisor.telemetry.tracing import AttemptTrace

_T = TypeVar("_T")


class HandlerTimeoutError(Exception):
    """The handler did not answer within its time-out; it is not tried again.

    Args:
        stack: where it stood at that moment; source lines only, without secrets, the innermost last.
    """

    def __init__(self, text: str, stack: str) -> None:
        super().__init__(text)
        self.stack = stack


class AnswerStoppedError(Exception):
    """Somebody does not want the answer any more; its text is the reason."""


class AnswerInterruptedError(Exception):
    """The answer is to begin again, for later messages too."""


class CodeReplacedError(Exception):
    """The handler's code was changed while it answered, a part of which was out: it is not tried again."""


class HandlerCancelledError(Exception):
    """The handler ended by a cancellation that was not ours."""


#: Outcomes of attempts that failed.
_FAILURES = frozenset({"retried", "dead", "timeout"})
#: How an attempt ended, by what its message became.
_OUTCOMES = {
    MessageState.DONE: "done",
    MessageState.DEAD: "dead",
    MessageState.CANCELLED: "cancelled",
    MessageState.RETRYABLE: "retried",
}


@dataclass(frozen=True, slots=True)
class Means:
    """What one agent's executions work with.

    Args:
        under_way: what the handler has in its hands.
        backoff: seconds before the next attempt, by the number of the one that failed.
        cancel_grace_seconds: how long a cancelled handler may take to end.
    """

    profile: Profile
    participation: Participation
    outbox: Outbox
    backoff: Callable[[int], float]
    cancel_grace_seconds: float
    under_way: AllUnderWay = field(default_factory=AllUnderWay)


class Execution:
    """Works on one message.

    An answer that is made in time costs no task but its handler's: it goes on in callbacks. All else, what is claimed
    first, stopped, late, failed or refused, is done by one more task, begun where that shows.

    Args:
        ended: told once what came of it.
    """

    def __init__(self, means: Means, row: JournaledMessage, ended: Ended) -> None:
        self.row = row
        self._means = means
        self._profile = profile = means.profile
        self._scope = profile.scope
        self._ended = ended
        self._over = False
        self._running = means.under_way.begin(row, self._scope.clock.now())
        self._chore: asyncio.Task[float | None] | None = None
        self._releasing = False
        # From the handler's start on.
        self._handler: MountedHandler = profile.handler
        self._attempt: Attempt
        self._trace: AttemptTrace | None = None
        self._task: asyncio.Task[None] | None = None
        self._began = self._handled = 0.0
        self._outcome = ""

    def begin(self, unwanted: str | None) -> None:
        """Claim the message, where that is still to be done, and have its handler answer it.

        Args:
            unwanted: why it is to be cancelled before its handler begins; None where it is not.
        """
        self._running.asked = unwanted
        row = self.row
        if row.state is MessageState.RUNNING and row.attempts <= self._profile.settings.max_attempts:
            self._start()
        else:
            self._go_on(self._claim())

    def cancel(self) -> None:
        """Have it ended soon: what is not settled waits again, and the attempt is not counted."""
        if self._chore is not None:
            self._chore.cancel()
        elif self._task is not None and not self._task.done():
            self._go_on(self._release())

    def _go_on(self, work: Coroutine[Any, Any, float | None]) -> None:
        """Go on in a task: it returns what came of the message; or begins the handler, and its end tells nothing."""
        context = own_context()
        context.run(self._scope.bind_log, self.row)
        self._chore = asyncio.create_task(work, name=f"message {self.row.agent_id}", context=context)
        self._chore.add_done_callback(self._chore_over)

    def _chore_over(self, chore: asyncio.Task[float | None]) -> None:
        if self._chore is not chore:
            # The handler has begun.
            return
        self._chore = None
        row = self.row
        if chore.cancelled():
            # By us, or by foreign code (docs/faults.md#r25): the journal says what is left to do.
            if row.state is MessageState.RUNNING and not self._releasing:
                self._go_on(self._release())
            else:
                self._end(None if row.state in FINAL_MESSAGE_STATES else INTERRUPTED)
        elif (error := chore.exception()) is not None:
            self._look_again(error)
        else:
            self._end(chore.result())

    def _look_again(self, error: BaseException) -> None:
        """The journal refuses, or there is a defect of ours: the message is not settled, and is looked at again."""
        log = self._scope.log
        if isinstance(error, RegistryError):
            log.warning("message_not_settled", reason=str(error))
        else:
            log.error("message_not_settled", exc_info=error)
        self._end(self._scope.clock.now() + UNSETTLED_RETRY_SECONDS)

    async def _release(self) -> float | None:
        """Stop the handler and give the message back."""
        self._releasing = True
        await self._stop_handler()
        await to_the_end(self._scope.journal.release(self.row))
        return INTERRUPTED

    async def _claim(self) -> float | None:
        row = self.row
        is_running = row.state is MessageState.RUNNING
        tried = row.attempts - is_running
        gives_up = tried >= self._profile.settings.max_attempts
        if not is_running and not await to_the_end(self._scope.journal.claim(row, counted=not gives_up)):
            return None
        if gives_up:
            reason = row.error or "the process died each time"
            given_up = f"given up after {tried} attempt{'' if tried == 1 else 's'}: {reason}"
            await bury(self._scope, self._means.outbox, row, given_up)
            return None
        self._chore = None
        self._start()
        return None

    def _start(self) -> None:
        """Have the handler begin."""
        try:
            self._start_handler()
        except Exception as error:  # noqa: BLE001  a defect of ours, or of what the agent's row says
            self._look_again(error)

    def _start_handler(self) -> None:
        row, profile, scope, running = self.row, self._profile, self._scope, self._running
        self._handler = running.handler = handler = profile.handler
        context = foreign_context(row.agent_id)
        context.run(scope.bind_log, row)
        self._trace = context.run(scope.traces.attempt, row)
        self._attempt = attempt = Attempt(profile, self._means.participation, self._means.outbox, row, self._trace)
        self._began = self._handled = scope.clock.monotonic()
        scope.metrics.queued(handler.reference, max(0.0, scope.clock.now() - row.received_at))
        if running.asked is not None:
            attempt.time_limit.close()
            self._go_on(self._conclude(AnswerStoppedError(running.asked)))
            return
        running.limit, running.redact, running.withdraw = attempt.time_limit, attempt.redact, attempt.withdraw
        running.wake = attempt.time_limit.on_reached = self._look
        self._task = running.task = asyncio.create_task(
            attempt.consume(handler), name=f"handler {row.agent_id}", context=context
        )
        self._task.add_done_callback(self._handler_ended)
        # After its first step: most handlers that do not wait end with it, and need no timers.
        asyncio.get_running_loop().call_soon(self._go_on_handling)

    def _go_on_handling(self) -> None:
        if self._task is not None and not self._task.done():
            self._attempt.go_on()

    def _look(self) -> None:
        """The handler is to be waited for no longer: its time is up, or somebody wants its answer stopped."""
        if self._chore is None and self._task is not None and not self._task.done():
            self._go_on(self._cut_short())

    async def _cut_short(self) -> float | None:
        attempt, running = self._attempt, self._running
        if self._task is not None and self._task.done():
            # In the same moment.
            self._chore = None
            self._handler_ended(self._task)
            return None
        error: Exception
        if running.asked is not None:
            error = AnswerStoppedError(running.asked)
        elif running.interrupted or running.replaced:
            error = AnswerInterruptedError()
        else:
            # Where it stands, before anything is done about it.
            stack = running.stack
            self._scope.log.warning("handler_timeout", handler=self._handler.reference, number=self.row.id, stack=stack)
            error = HandlerTimeoutError(f"the handler took longer than {attempt.time_limit.seconds:g} s", stack)
        await self._stop_handler()
        if running.replaced and attempt.visible:
            error = CodeReplacedError("its code was changed while it answered, and a part of the answer was out")
        return await self._conclude(error)

    async def _stop_handler(self) -> None:
        """Cancel the handler; one that goes on all the same is left behind and what it still makes is discarded."""
        task = self._task
        if task is None:
            return
        attempt, running = self._attempt, self._running
        attempt.give_up()
        task.cancel()
        try:
            await asyncio.wait({task}, timeout=self._means.cancel_grace_seconds)
        finally:
            attempt.time_limit.close()
            self._handled = self._scope.clock.monotonic()
        thread = attempt.time_limit.thread
        if not task.done():
            task.add_done_callback(lambda _: self._returned())
        elif thread is not None and not thread.done():
            # A thread cannot be cancelled, so there is nothing to wait for.
            loop = asyncio.get_running_loop()
            thread.add_done_callback(lambda _: call_in_loop(loop, self._returned))
        else:
            return
        means = self._means
        means.under_way.leave_behind(running)
        self._scope.metrics.watchdog("handler_abandoned")
        left = means.under_way.left_behind
        self._scope.log.error("handler_abandoned", handler=self._handler.reference, abandoned=left)

    def _returned(self) -> None:
        self._means.under_way.returned(self._running)

    def _handler_ended(self, task: asyncio.Task[None]) -> None:
        # Asked for in any case: asyncio complains of an error that nobody asks for.
        # Where something that it awaited was cancelled, and not by us, that is an error like any other.
        cancelled = HandlerCancelledError("the handler was cancelled from within") if task.cancelled() else None
        error = cancelled or task.exception()
        if self._chore is not None or self._over:
            # It was stopped.
            return
        self._attempt.time_limit.close()
        # What the journal takes from here on is no time of the handler's.
        self._handled = self._scope.clock.monotonic()
        if error is None:
            self._settle()
        else:
            self._go_on(self._conclude(_caught(error)))

    def _settle(self) -> None:
        """The answer is made."""
        try:
            self._attempt.finish(self._settled)
        except RegistryError as error:
            self._settled(None, error)
        except Exception as error:  # noqa: BLE001  a defect of ours
            self._look_again(error)

    def _settled(self, _replies: list[JournaledReply] | None, error: Exception | None) -> None:
        if error is not None:
            self._go_on(self._settle_later(error))
            return
        self._outcome = "done"
        self._profile.health.succeeded()
        self._end(None)

    async def _settle_later(self, error: Exception) -> float | None:
        """The journal has refused the answer: it takes it later, and the handler does not run again."""
        self._scope.log.warning("message_not_settled", reason=str(error))
        await self._scope.clock.sleep(RETRY_SECONDS)
        self._chore = None
        self._settle()
        return None

    async def _conclude(self, error: Exception) -> float | None:
        """Settle a message whose answer was not made in time; when to try again, if that is to be."""
        journal, row = self._scope.journal, self.row
        if isinstance(error, AnswerStoppedError):
            reason = str(error)
            await self._journal(lambda: journal.settle(row, MessageState.CANCELLED, error=reason))
            self._outcome = "cancelled"
            return None
        if isinstance(error, AnswerInterruptedError):
            return INTERRUPTED if await self._journal(lambda: journal.release(row)) else None
        if self._trace is not None:
            self._trace.fail(error)
        self._outcome, again_at = await self._failed(error)
        return again_at

    async def _failed(self, error: Exception) -> tuple[str, float | None]:
        """Retry or bury a message whose handler failed; the metric's outcome and the time of the next attempt."""
        attempt, row, scope = self._attempt, self.row, self._scope
        reason, report = describe(error, attempt.redact), describe_fully(error, attempt.redact)
        if isinstance(error, HandlerTimeoutError) and error.stack:
            report = f"Where it stood when its time was up:\n{error.stack.rstrip()}\n{report}"
        self._profile.health.failed(reason)
        final = isinstance(error, (HandlerTimeoutError, Permanent, InvalidReplyError)) or attempt.visible
        if not final and row.attempts < self._profile.settings.max_attempts:
            delay, began = self._means.backoff(row.attempts), scope.clock.monotonic()
            again_at = scope.clock.now() + delay
            scope.log.warning("handler_failed", reason=reason, attempt=row.attempts, **self._told_traceback(report))
            if await self._journal(lambda: scope.journal.retry(row, report, again_at)):
                row.not_before = again_at
                # The wall clock may have been set while the journal wrote.
                return "retried", scope.clock.now() + max(0.0, delay - (scope.clock.monotonic() - began))
            return "lost", None
        timed_out = isinstance(error, HandlerTimeoutError)
        apology = APOLOGY_TIMEOUT if timed_out else (isinstance(error, Permanent) and error.apology) or APOLOGY
        told, outbox = self._told_traceback(report), self._means.outbox
        await self._journal(
            lambda: bury(scope, outbox, row, report, apology=apology, next_part=attempt.next_part, told=told)
        )
        return "timeout" if timed_out else "dead", None

    def _told_traceback(self, report: str) -> dict[str, str]:
        """What a line about a failed attempt has besides: to whoever writes the handler, its traceback."""
        return {"exception": report.rstrip()} if self._profile.deployment.shows_tracebacks else {}

    async def _journal(self, write: Callable[[], Awaitable[_T]]) -> _T:
        """Journal what came of an attempt, whatever happens meanwhile: the handler must not run again."""
        return await until_journaled(self._scope, lambda: to_the_end(write()))

    def _end(self, again_at: float | None) -> None:
        """It is out of our hands."""
        self._over = True
        row = self.row
        if self._trace is not None:
            # Where the attempt was cancelled, the row's state says what was written in that moment.
            outcome = self._outcome or _OUTCOMES.get(row.state, "released")
            seconds = self._handled - self._began
            self._scope.metrics.handled(self._handler.reference, outcome, seconds, self._trace.trace_id)
            if outcome in _FAILURES:
                self._scope.activity.failed()
            self._trace.end(outcome)
        self._means.under_way.end(self._running, stopped=row.state is MessageState.CANCELLED)
        self._ended(again_at)


def _caught(error: BaseException) -> Exception:
    """What a handler raised, as an error of its message."""
    if is_readable(error) and isinstance(error, Exception):
        return error
    # Out of a part's own methods, say, when we looked at it.
    made = escaped(error, "the handler")
    made.__cause__ = error
    return made
