"""Which of an agent's waiting messages are in memory, and reading the rest from the journal once there is room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from supervisor.core.clock import Clock
from supervisor.core.owners import own_context
from supervisor.core.records import JournaledMessage
from supervisor.core.tasks import TaskSet, kept
from supervisor.messages.memory import Memory, size_of
from supervisor.telemetry.logs import get_logger

#: Messages of one agent kept in memory; further ones stay in the journal until there is room.
MEMORY_LIMIT = 1000
#: How many are read at once when there is room again.
PAGE = MEMORY_LIMIT // 2
#: How long to wait before the journal is read again when it could not be.
RETRY_SECONDS = 1.0

#: Loads waiting messages with ids above the given one, in order, at most so many.
ReadPage = Callable[[int, int], Awaitable[list[JournaledMessage]]]


class Backlog:
    """One agent's unsettled messages: those in memory, and where those begin that are in the journal only.

    Args:
        memory: the fleet's bound in bytes.
        read: reads further messages from the journal.
        take: given the messages that were read and are in memory now.
    """

    def __init__(
        self, memory: Memory, clock: Clock, *, read: ReadPage, take: Callable[[Sequence[JournaledMessage]], None]
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._read = read
        self._take = take
        #: The task that reads, while one does.
        self.tasks = TaskSet()
        # Messages that wait, run or are between attempts: their sizes in bytes by id.
        self._sizes: dict[int, int] = {}
        self._own_bytes = 0
        # What waits in the journal with an id up to this one is in memory too.
        self._last_id = 0
        # Whether messages may wait in the journal that are not in memory.
        self._spilled = False
        # The lowest id that was left in the journal since the last refill began.
        self._missed: int | None = None
        # Ids that left memory while a refill reads: the page may bring them again.
        self._ended: dict[int, None] = {}
        self._reading = False
        self._log = get_logger("supervisor.dispatcher")

    @property
    def in_memory(self) -> int:
        """How many unsettled messages are in memory."""
        return len(self._sizes)

    @property
    def complete(self) -> bool:
        """Whether every waiting message is in memory."""
        return not self._spilled

    def admit(self, row: JournaledMessage) -> bool:
        """Whether a message that waits is to be queued now: it is new here and there is room.

        What is left out is read from the journal later.
        """
        if row.id in self._sizes:
            # A refill read it between its commit and this call.
            return False
        if self._spilled or not self._has_room(row):
            self._spilled = True
            self._missed = row.id if self._missed is None else min(self._missed, row.id)
            self._refill_soon()
            return False
        self.add(row)
        return True

    def add(self, row: JournaledMessage) -> None:
        """A message is in memory, whether or not there is room."""
        if row.id not in self._sizes:
            size = self._sizes[row.id] = size_of(row.message)
            self._own_bytes += size
            self._memory.add(size)
        if not self._spilled:
            # Else messages with lower ids wait in the journal, and the next refill must find them.
            self._last_id = max(self._last_id, row.id)

    def remove(self, row: JournaledMessage) -> None:
        """A message is over; what waits in the journal may take its room."""
        size = self._sizes.pop(row.id, 0)
        self._own_bytes -= size
        self._memory.remove(size)
        if self._reading:
            self._ended[row.id] = None
        self._refill_soon()

    def refill(self) -> None:
        """Read what waits in the journal."""
        self._spilled = True
        self._refill_soon()

    def stop(self) -> None:
        """Begin no further refill."""
        self._spilled = False

    def clear(self) -> None:
        """Forget what is in memory; no task of ours runs any more."""
        freed, self._own_bytes = self._own_bytes, 0
        self._sizes.clear()
        self._memory.forget(self._refill_soon)
        self._memory.remove(freed)
        self._ended.clear()
        self._last_id = 0
        self._spilled = False
        self._missed = None
        self._reading = False

    def _has_room(self, row: JournaledMessage) -> bool:
        """Whether a message may be kept. One may be always, whatever the other agents have in memory."""
        count = len(self._sizes)
        return count == 0 or (count < MEMORY_LIMIT and self._memory.fits(size_of(row.message), self._own_bytes))

    def _refill_soon(self) -> None:
        if self._spilled and not self._reading and (room := self._reserve_room()):
            self._reading = True
            # In a context of its own: the end of a message starts it, and it goes on for others.
            self.tasks.spawn(self._refill_now(room), "refill", context=own_context())

    def _reserve_room(self) -> int:
        """How many messages may be read now; where there is no room the memory says when there is some."""
        if not self._sizes:
            return self._memory.reserve(PAGE, 1, self._refill_soon)
        most = min(PAGE, self._memory.left_of_share(self._own_bytes))
        if most == 0 or len(self._sizes) > MEMORY_LIMIT - PAGE:
            # The agent's own messages fill its share: the end of one of them asks again.
            return 0
        return self._memory.reserve(most, 0, self._refill_soon)

    async def _refill_now(self, room: int) -> None:
        """Read pages while there is room for them and more may wait in the journal."""
        while room:
            try:
                await self._refill_page(room)
            finally:
                self._memory.release(room)
            room = self._reserve_room() if self._spilled else 0
        # No await since the last look: whoever finds messages left in the journal from here on starts the next refill.
        self._reading = False

    async def _refill_page(self, limit: int) -> None:
        self._turn_back()
        self._ended.clear()
        rows = await self._read_page(limit)
        new = [row for row in rows if row.id not in self._sizes and row.id not in self._ended]
        for row in new:
            self.add(row)
        if rows:
            self._last_id = max(self._last_id, rows[-1].id)
        # A full page, or a row that came while we read: there may be more.
        self._spilled = self._missed is not None or len(rows) == limit
        self._take(new)

    def _turn_back(self) -> None:
        """Read again from below what was left in the journal: a replayed message has an old id."""
        if self._missed is not None:
            self._last_id = min(self._last_id, self._missed - 1)
            self._missed = None

    async def _read_page(self, limit: int) -> list[JournaledMessage]:
        while True:
            try:
                return await kept(partial(self._read, self._last_id, limit))
            except Exception as error:  # noqa: BLE001  the messages are in the journal, whatever keeps us from it
                self._log.warning("refill_failed", reason=str(error))
                await kept(partial(self._clock.sleep, RETRY_SECONDS))
