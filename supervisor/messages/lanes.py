"""Decides which message runs next: lanes, per-agent concurrency, one limit for all agents (DESIGN §4).

A lane is one conversation of one agent: strictly in order, one message at a time. Lanes of an agent take turns, and so
do agents, so that a busy one never starves another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field

from supervisor.core.clock import Clock
from supervisor.core.records import JournaledMessage
from supervisor.messages.memory import DEFAULT_MEMORY_BYTES, Memory, size_of
from supervisor.telemetry.logs import get_logger

#: Messages of one agent kept in memory; further ones stay in the journal until there is room.
MEMORY_LIMIT = 1000
#: How many are read at once when there is room again.
PAGE = MEMORY_LIMIT // 2
#: How often a message that may kill the process looks whether it is its turn.
SUSPECT_WAIT_SECONDS = 0.2
#: One that kills the process mostly does so at once; after so long the next one may start beside it.
SUSPECT_SECONDS = 10.0
#: How long to wait before the journal is read again when it could not be.
REFILL_RETRY_SECONDS = 1.0

#: Works on one message. Returns None when it is settled, or the time (seconds since the epoch) of the next attempt.
Work = Callable[[JournaledMessage], Awaitable[float | None]]
#: Loads waiting messages with ids above the given one, in order, at most so many.
Refill = Callable[[int, int], Awaitable[list[JournaledMessage]]]


class Dispatcher:
    """The fleet's one limit on running handlers, and whose turn it is.

    Args:
        limit: handlers running at once, in all.
        memory_bytes: what the lanes of all agents may hold in memory.
    """

    def __init__(self, limit: int, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        self.limit = limit
        self.memory = Memory(memory_bytes)
        self.running = 0
        self._ready: deque[Lanes] = deque()
        self._suspect: tuple[int, float] | None = None  # the one that runs, and since when

    def offer(self, lanes: Lanes) -> None:
        """An agent has a message that could run."""
        if not lanes.queued:
            lanes.queued = True
            self._ready.append(lanes)
        self.pump()

    def reserve(self) -> bool:
        """Take a place at once, if one is free and no agent waits for its turn."""
        if self.running >= self.limit or self._ready:
            return False
        self.running += 1
        return True

    def alone(self, message_id: int, now: float) -> bool:
        """Whether a message that may kill the process may start now: one at a time begins (RELIABILITY R24).

        So the one that does it is found out, and the others are not buried with it for deaths that it caused. One that
        has run for a while without harm holds up the next no longer.
        """
        if self._suspect is None or now - self._suspect[1] >= SUSPECT_SECONDS:
            self._suspect = (message_id, now)
            return True
        return False

    def note_survived(self, message_id: int) -> None:
        """A message ran and the process lives: the next suspect may run."""
        if self._suspect is not None and self._suspect[0] == message_id:
            self._suspect = None

    def release(self) -> None:
        """Give a place back."""
        self.running -= 1
        self.pump()

    def pump(self) -> None:
        """Start what may start, one message an agent in turn."""
        while self._ready and self.running < self.limit:
            lanes = self._ready.popleft()
            lanes.queued = False
            if lanes.can_start:
                self.running += 1
                lanes.start_next()
            if lanes.can_start:
                lanes.queued = True
                self._ready.append(lanes)


@dataclass(slots=True)
class _Lane:
    """One conversation: ``busy`` while a message of it runs or waits for its next attempt.

    Args:
        waiting: in the order of their ids.
        again: the message whose next attempt is due, before all of those.
        later: the one whose next attempt is not due yet; ``timer`` waits for it.
    """

    waiting: deque[JournaledMessage] = field(default_factory=deque)
    again: JournaledMessage | None = None
    later: JournaledMessage | None = None
    busy: bool = False
    timer: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing of it runs or waits."""
        return not (self.busy or self.waiting or self.again)

    def add(self, row: JournaledMessage) -> None:
        """Put a message where its id belongs: a dead letter that is replayed comes before what came after it."""
        place = len(self.waiting)
        while place and self.waiting[place - 1].id > row.id:
            place -= 1
        self.waiting.insert(place, row)

    def take(self) -> JournaledMessage:
        """The next message to start."""
        row, self.again = self.again, None
        return row or self.waiting.popleft()


class Lanes:
    """One agent's lanes.

    Args:
        concurrency: asked each time, since the agent's settings may change.
        work: runs one message to its end; must not raise.
        refill: reads further messages from the journal once those in memory are done.
    """

    def __init__(
        self, dispatcher: Dispatcher, clock: Clock, *, concurrency: Callable[[], int], work: Work, refill: Refill
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._concurrency = concurrency
        self._work = work
        self._refill = refill
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._memory = dispatcher.memory
        self._in_memory: dict[int, int] = {}  # ids, waiting, running or between attempts, and their bytes
        self._own_bytes = 0
        # What did not fit: everything that waits in the journal with an id up to _last_id is in memory too.
        self._last_id = 0
        self._spilled = False
        self._missed: int | None = None  # the lowest id that was left in the journal since the last refill began
        self._ended: set[int] = set()  # ids that left memory while a refill reads: it may bring them again
        self._refill_task: asyncio.Task[None] | None = None
        self._log = get_logger("supervisor.dispatcher")
        self.queued = False  # written by the dispatcher only
        self.running = 0
        self.held = True

    @property
    def oldest_at(self) -> float | None:
        """When the longest-waiting message was received, seconds since the epoch; None when none waits."""
        heads = [lane.again or (lane.waiting[0] if lane.waiting else None) for lane in self._lanes.values()]
        return min((row.received_at for row in heads if row is not None), default=None)

    # ── what may run ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def can_start(self) -> bool:
        """Whether a message could start now, the fleet's limit aside."""
        return bool(self._ready) and not self.held and self.running < self._concurrency()

    def hold(self) -> None:
        """Start nothing from now on: paused, draining, or not ready yet."""
        self.held = True

    def go(self) -> None:
        """Start messages again."""
        self.held = False
        self._offer()

    def reserve(self, conversation_id: str) -> bool:
        """Whether a message that is about to be journaled may run at once: then it is written as claimed.

        A place is taken for it, which :meth:`run_reserved` uses or :meth:`cancel_reserved` gives back.
        """
        if self.held or self._spilled or self.running >= self._concurrency():
            return False
        lane = self._lanes.get(conversation_id)
        if (lane and not lane.idle) or not self._dispatcher.reserve():
            return False
        self._lanes.setdefault(conversation_id, _Lane()).busy = True
        self.running += 1
        return True

    def run_reserved(self, row: JournaledMessage) -> None:
        """Run a message for which a place was reserved."""
        self._note(row)
        self._spawn(self._lanes.setdefault(row.conversation_id, _Lane(busy=True)), row)

    def cancel_reserved(self, conversation_id: str) -> None:
        """Give a reserved place back: the message was a duplicate or could not be journaled."""
        lane = self._lanes.setdefault(conversation_id, _Lane())
        self.running -= 1
        self._next(conversation_id, lane)
        self._give_back()

    def put(self, row: JournaledMessage) -> None:
        """Take a journaled message that waits: a new one, or an old one that a person replays."""
        if row.id in self._in_memory:
            # A refill read it between its commit and this call.
            return
        if self._spilled or not self._has_room(row):
            self._spilled = True
            self._missed = row.id if self._missed is None else min(self._missed, row.id)
            self._refill_soon()
            return
        self._keep(row)
        self._offer()

    def _has_room(self, row: JournaledMessage) -> bool:
        """Whether a message may be kept. One may be always, whatever the other agents hold."""
        count = len(self._in_memory)
        return count == 0 or (count < MEMORY_LIMIT and self._memory.fits(size_of(row.message), self._own_bytes))

    def _note(self, row: JournaledMessage) -> None:
        if row.id not in self._in_memory:
            size = self._in_memory[row.id] = size_of(row.message)
            self._own_bytes += size
            self._memory.hold(size)
        if not self._spilled:
            # Else messages with lower ids wait in the journal, and the next refill must find them.
            self._last_id = max(self._last_id, row.id)

    def _keep(self, row: JournaledMessage) -> None:
        self._note(row)
        lane = self._lanes.setdefault(row.conversation_id, _Lane())
        if lane.idle:
            self._ready.append(lane)
        lane.add(row)

    def restore(self) -> None:
        """Read what an earlier run left in the journal."""
        self._spilled = True
        self._refill_soon()

    def _offer(self) -> None:
        if self.can_start:
            self._dispatcher.offer(self)

    # ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_next(self) -> None:
        """Start the next message; the dispatcher has taken a place for it."""
        lane = self._ready.popleft()
        lane.busy = True
        self.running += 1
        self._spawn(lane, lane.take())

    def _spawn(self, lane: _Lane, row: JournaledMessage) -> None:
        # In a context of its own, as the refill below: it is the end of another message that starts the next.
        task = asyncio.create_task(self._run(lane, row), name=f"message {row.agent_id}", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, lane: _Lane, row: JournaledMessage) -> None:
        again_at: float | None = None
        try:
            now = self._clock.now()
            if row.not_before > now:
                again_at = row.not_before
            elif row.suspect and not self._dispatcher.alone(row.id, now):
                again_at = now + SUSPECT_WAIT_SECONDS
            else:
                again_at = await self._work(row)
        except Exception:  # noqa: BLE001  a defect of ours: its lane goes on, the journal has the message
            ids = {"agent": row.agent_id, "conversation": row.conversation_id, "message_id": row.key}
            self._log.exception("work_failed", **ids)
        finally:
            self._dispatcher.note_survived(row.id)
            self.running -= 1
            if again_at is None:
                size = self._in_memory.pop(row.id, 0)
                self._own_bytes -= size
                self._memory.let_go(size)
                if self._refill_task is not None:
                    self._ended.add(row.id)
                self._next(row.conversation_id, lane)
                self._refill_soon()
            else:
                lane.later = row
                lane.timer = asyncio.create_task(self._again(lane, row, again_at), name=f"retry {row.agent_id}")
            self._give_back()

    def _give_back(self) -> None:
        """A place is free: this agent's next lane may want it, whether or not this lane has more."""
        if self.can_start:
            self._dispatcher.offer(self)
        self._dispatcher.release()

    async def _again(self, lane: _Lane, row: JournaledMessage, at: float) -> None:
        """Put a message back at the head of its lane when its next attempt is due; later ones wait for it."""
        await self._clock.sleep(max(0.0, at - self._clock.now()))
        self._due(lane, row)

    def between_attempts(self, conversation_id: str) -> JournaledMessage | None:
        """The message of a conversation that was tried and waits to be tried again."""
        lane = self._lanes.get(conversation_id)
        return (lane.later or lane.again) if lane else None

    def hurry(self, conversation_id: str) -> None:
        """Let the message that waits for its next attempt be due now; nothing happens where none does."""
        lane = self._lanes.get(conversation_id)
        if lane is not None and lane.later is not None and lane.timer is not None:
            lane.timer.cancel()
            lane.later.not_before = 0.0
            self._due(lane, lane.later)

    def _due(self, lane: _Lane, row: JournaledMessage) -> None:
        lane.timer = lane.later = None
        lane.busy = False
        lane.again = row
        self._ready.append(lane)
        self._offer()

    def _next(self, conversation_id: str, lane: _Lane) -> None:
        lane.busy = False
        if lane.waiting:
            self._ready.append(lane)
        elif self._lanes.get(conversation_id) is lane:
            del self._lanes[conversation_id]

    # ── what did not fit into memory ─────────────────────────────────────────────────────────────────────────────────

    def _refill_soon(self) -> None:
        if self._spilled and self._refill_task is None and (room := self._reserve_room()):
            self._refill_task = asyncio.create_task(self._refill_now(room), name="refill", context=Context())

    def _reserve_room(self) -> int:
        """How many messages may be read now; where there is no room the memory says when there is some."""
        if not self._in_memory:
            return self._memory.reserve(PAGE, 1, self._refill_soon)
        most = min(PAGE, self._memory.left_of_share(self._own_bytes))
        if most == 0 or len(self._in_memory) > MEMORY_LIMIT - PAGE:
            # Not for the others' sake: the end of one of its own messages brings it here again.
            return 0
        return self._memory.reserve(most, 0, self._refill_soon)

    async def _refill_now(self, room: int) -> None:
        """Read pages while there is room for them and more may wait in the journal."""
        while room:
            try:
                await self._refill_page(room)
            finally:
                self._memory.give_back(room)
            room = self._reserve_room() if self._spilled else 0
        # No await since the last look: whoever finds it spilled from here on starts the next refill.
        self._refill_task = None

    async def _refill_page(self, limit: int) -> None:
        self._turn_back()
        self._ended.clear()
        rows = await self._read_page(limit)
        for row in rows:
            if row.id not in self._in_memory and row.id not in self._ended:
                self._keep(row)
        if rows:
            self._last_id = max(self._last_id, rows[-1].id)
        # A full page, or a row that came while we read: there may be more.
        self._spilled = self._missed is not None or len(rows) == limit
        self._offer()

    def _turn_back(self) -> None:
        """Read again from below what was left in the journal: a replayed message has an old id."""
        if self._missed is not None:
            self._last_id = min(self._last_id, self._missed - 1)
            self._missed = None

    async def _read_page(self, limit: int) -> list[JournaledMessage]:
        while True:
            try:
                return await self._refill(self._last_id, limit)
            except Exception as error:  # noqa: BLE001  the messages are in the journal, whatever keeps us from it
                self._log.warning("refill_failed", reason=str(error))
                await self._clock.sleep(REFILL_RETRY_SECONDS)

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def drain(self, timeout: float | None) -> bool:
        """Start nothing more and wait for what runs, for ``timeout`` seconds at most if given; whether all ended."""
        self.hold()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)
        return not self._tasks

    async def close(self) -> None:
        """Cancel what runs, forget what waits: it is all in the journal, from where :meth:`restore` takes it up."""
        self.hold()
        # Nothing is read any more while what runs is cancelled.
        self._spilled = False
        # A task that is cancelled before its first step never runs: its place would be lost and its claim kept.
        await asyncio.sleep(0)
        while tasks := self._under_way():
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._lanes.clear()
        self._ready.clear()
        held, self._own_bytes = self._own_bytes, 0
        self._in_memory.clear()
        self._memory.forget(self._refill_soon)
        self._memory.let_go(held)
        self._ended.clear()
        self._last_id = 0
        self._spilled = False
        self._missed = None
        self._refill_task = None

    def _under_way(self) -> list[asyncio.Task[None]]:
        """Messages, waits for further attempts, and a refill, that are not over."""
        timers = [lane.timer for lane in self._lanes.values()]
        return [task for task in (*self._tasks, *timers, self._refill_task) if task is not None and not task.done()]
