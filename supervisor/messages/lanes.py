"""Runs one agent's messages: in order within a conversation, several conversations at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Protocol

from supervisor.core.backoff import Backoff
from supervisor.core.clock import Clock
from supervisor.core.owners import own_context
from supervisor.core.records import JournaledMessage
from supervisor.core.tasks import TaskSet, kept
from supervisor.messages.backlog import Backlog, ReadPage
from supervisor.messages.dispatcher import Contender, Dispatcher
from supervisor.messages.lane_queue import Collects, Lane, LaneQueue
from supervisor.telemetry.logs import get_logger

#: How often a message that may kill the process looks whether it is its turn.
SUSPECT_WAIT_SECONDS = 0.2

#: When to try a message again that was interrupted: it may be answered together with what has come since.
INTERRUPTED = 0.0

#: Told once what came of a message: None when it is settled, or the time (seconds since the epoch) of the next attempt.
Ended = Callable[[float | None], None]


class Work(Protocol):
    """One message that is worked on."""

    def cancel(self) -> object:
        """Have it ended soon, and not settled; whoever is told of its end is told all the same."""


class _NoWork:
    def cancel(self) -> None: ...


#: The work of a message whose end is told as it begins.
NO_WORK: Final[Work] = _NoWork()

#: Begins to work on one message; returns at once. Where it raises, nothing has begun.
Begin = Callable[[JournaledMessage, Ended], Work]


class Lanes:
    """One agent's lanes; they start paused.

    Args:
        concurrency: how many messages may run at once; asked each time, since the agent's settings may change.
        begin: has one message worked on.
        refill: reads further messages from the journal once those in memory are done.
        collects: whether a message may be answered together with those that wait behind it.
        on_behind: told of each message that comes to wait behind one that runs.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        clock: Clock,
        *,
        concurrency: Callable[[], int],
        begin: Begin,
        refill: ReadPage,
        collects: Collects = lambda _row: False,
        on_behind: Callable[[JournaledMessage], None] = lambda _row: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._concurrency = concurrency
        self._begin = begin
        self._contender = Contender(self._can_start, self._start_next)
        self._on_behind = on_behind
        self._queue = LaneQueue(collects)
        self._backlog = Backlog(dispatcher.memory, clock, read=refill, take=self._enqueue)
        # What is worked on, by the identity of its row.
        self._works: dict[int, Work] = {}
        # While somebody waits until nothing is worked on.
        self._idle: asyncio.Future[None] | None = None
        self._timers = TaskSet()
        self._log = get_logger("supervisor.dispatcher")
        self._paused = True
        self.running = 0

    @property
    def oldest_at(self) -> float | None:
        """When the longest-waiting message was received, seconds since the epoch; None when none waits."""
        return self._queue.oldest_at

    @property
    def in_memory(self) -> int:
        """How many messages wait, run or are between attempts, without those that are in the journal only."""
        return self._backlog.in_memory

    def pause(self) -> None:
        """Start nothing from now on: the agent is paused, drains, or is not ready yet."""
        self._paused = True

    def resume(self) -> None:
        """Start messages again."""
        self._paused = False
        self._offer()

    def restore(self) -> None:
        """Read what an earlier run left in the journal."""
        self._backlog.refill()

    def put(self, row: JournaledMessage) -> None:
        """Take a journaled message that waits: a new one, or an old one that a person replays."""
        if self._backlog.admit(row):
            self._enqueue([row])

    def reserve(self, conversation_id: str) -> bool:
        """Whether a message that is about to be journaled may run at once: then it is written as claimed.

        A place is taken for it, which :meth:`run_reserved` uses or :meth:`cancel_reserved` gives back.
        """
        if self._paused or not self._backlog.complete or self.running >= self._concurrency():
            return False
        if not self._queue.is_idle(conversation_id) or not self._dispatcher.reserve():
            return False
        self._queue.occupy(conversation_id)
        self.running += 1
        return True

    def run_reserved(self, row: JournaledMessage) -> None:
        """Run a message for which a place was reserved."""
        self._backlog.add(row)
        self._run(self._queue.occupied(row.conversation_id), row)

    def cancel_reserved(self, conversation_id: str) -> None:
        """Give a reserved place back: the message was a duplicate or could not be journaled."""
        self.running -= 1
        self._queue.end(conversation_id, self._queue.occupied(conversation_id))
        self._give_back()

    def between_attempts(self, conversation_id: str) -> JournaledMessage | None:
        """The message of a conversation that was tried and waits to be tried again."""
        lane = self._queue.find(conversation_id)
        return (lane.later or lane.again) if lane else None

    def retry_now(self, conversation_id: str) -> None:
        """Let the message that waits for its next attempt be due now; nothing happens where none does."""
        if self._queue.retry_now(conversation_id):
            self._offer()

    async def drain(self, timeout: float | None) -> bool:
        """Start nothing more and wait for what runs, for ``timeout`` seconds at most if given; whether all ended."""
        self.pause()
        await self._until_idle(timeout)
        return not self._works

    async def _until_idle(self, timeout: float | None = None) -> None:
        if self._works:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle], timeout=timeout)

    async def close(self) -> None:
        """Cancel what runs, forget what waits: it is all in the journal, from where :meth:`restore` takes it up."""
        self.pause()
        # Nothing is read any more while what runs is cancelled.
        self._backlog.stop()
        while self._works or len(self._timers) or len(self._backlog.tasks):
            # All are cancelled before the first wait: who cancels this close leaves none of them running.
            for work in [*self._works.values(), *self._timers, *self._backlog.tasks]:
                work.cancel()
            await asyncio.gather(*self._timers, *self._backlog.tasks, return_exceptions=True)
            await self._until_idle()
        self._queue.clear()
        self._backlog.clear()

    def _can_start(self) -> bool:
        """Whether a message could start now, the fleet's limit aside."""
        return self._queue.ready and not self._paused and self.running < self._concurrency()

    def _offer(self) -> None:
        if self._can_start():
            self._dispatcher.offer(self._contender)

    def _enqueue(self, rows: Sequence[JournaledMessage]) -> None:
        """Queue messages that wait and are in memory."""
        for row in rows:
            self._queue.add(row)
            if (lane := self._queue.find(row.conversation_id)) is not None and lane.busy:
                self._on_behind(row)
        self._offer()

    def _start_next(self) -> None:
        """Start the next message; the dispatcher has taken a place for it."""
        lane, row = self._queue.take()
        self.running += 1
        self._run(lane, row)

    def _run(self, lane: Lane, row: JournaledMessage) -> None:
        """Have a message worked on if it is its turn."""
        now = self._clock.now()
        if row.not_before > now:
            self._end(lane, row, min(row.not_before, now + _longest_wait(row.attempts)))
        elif row.suspect and not self._dispatcher.may_start_suspect(row.id, self._clock.monotonic()):
            self._end(lane, row, now + SUSPECT_WAIT_SECONDS)
        else:
            ended = partial(self._ended, lane, row)
            # Whoever ends it at once finds it here.
            self._works[id(row)] = NO_WORK
            try:
                work = self._begin(row, ended)
            except Exception:  # noqa: BLE001  a defect of ours: its lane goes on, the journal has the message
                ids = {"agent": row.agent_id, "conversation": row.conversation_id, "message_id": row.key}
                self._log.exception("work_failed", **ids)
                ended(None)
            else:
                if id(row) in self._works:
                    self._works[id(row)] = work

    def _ended(self, lane: Lane, row: JournaledMessage, again_at: float | None) -> None:
        """What came of a message is known."""
        self._works.pop(id(row), None)
        self._dispatcher.survived(row.id)
        self._end(lane, row, again_at)
        if self._idle is not None and not self._works:
            idle, self._idle = self._idle, None
            if not idle.done():
                idle.set_result(None)

    def _end(self, lane: Lane, row: JournaledMessage, again_at: float | None) -> None:
        """A message's turn is over."""
        self.running -= 1
        if again_at is None:
            for one in (*row.earlier, row) if row.earlier else (row,):
                self._backlog.remove(one)
            self._queue.end(row.conversation_id, lane)
        elif again_at == INTERRUPTED:
            self._queue.give_back(lane, row)
        else:
            retry = kept(partial(self._retry_in, lane, row, max(0.0, again_at - self._clock.now())))
            # In a context of its own: the end of a message starts it.
            timer = self._timers.spawn(retry, f"retry {row.agent_id}", context=own_context())
            self._queue.postpone(lane, row, timer)
        self._give_back()

    def _give_back(self) -> None:
        """A place is free: this agent's next lane may want it, whether or not this lane has more."""
        self._offer()
        self._dispatcher.release()

    async def _retry_in(self, lane: Lane, row: JournaledMessage, seconds: float) -> None:
        """Put a message back at the head of its lane when its next attempt is due; later ones wait for it."""
        await self._clock.sleep(seconds)
        # It is due, whatever has become of the wall clock.
        row.not_before = 0.0
        self._queue.retry(lane)
        self._offer()


def _longest_wait(attempts: int) -> float:
    """What a message waits at most after so many attempts: the clock that noted its time may have been wrong."""
    backoff = Backoff()
    backoff.failures = max(0, attempts - 1)
    return backoff.longest


def tasked(work: Coroutine[Any, Any, float | None], name: str, ended: Ended) -> asyncio.Task[float | None]:
    """Work that is a coroutine: what it returns is what comes of its message.

    One that is cancelled, by whomever, waits again; one that raises is over.
    """

    def over(task: asyncio.Task[float | None]) -> None:
        if task.cancelled():
            ended(INTERRUPTED)
        elif (error := task.exception()) is not None:
            get_logger("supervisor.dispatcher").error("work_failed", work=name, exc_info=error)
            ended(None)
        else:
            ended(task.result())

    task = asyncio.create_task(work, name=name, context=own_context())
    task.add_done_callback(over)
    return task
