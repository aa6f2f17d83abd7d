"""The order of one agent's waiting messages. Pure, no I/O.

A lane is one conversation: strictly in order, one message at a time. Lanes take turns, so that a long one never starves
another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from supervisor.core.records import JournaledMessage
from supervisor.messages.memory import LARGEST_MESSAGE_BYTES, size_of

#: How many messages are answered together at most.
MOST_TOGETHER: Final = 50

#: Whether a message may be answered together with others of its conversation.
Collects = Callable[[JournaledMessage], bool]


class Lane(msgspec.Struct, eq=False):
    """One conversation's messages in memory; only :class:`LaneQueue` writes it.

    Attributes:
        waiting: in the order of their ids.
        again: the message whose next attempt is due; it comes before all of ``waiting``.
        later: the message whose next attempt is not due yet; ``timer`` waits for it.
        busy: a message of the lane runs or waits for its next attempt.
    """

    waiting: deque[JournaledMessage] = msgspec.field(default_factory=deque)
    again: JournaledMessage | None = None
    later: JournaledMessage | None = None
    busy: bool = False
    timer: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing of the lane runs or waits."""
        return not (self.busy or self.waiting or self.again)

    @property
    def head(self) -> JournaledMessage | None:
        """The message that may start next."""
        return self.again or (self.waiting[0] if self.waiting else None)

    def add(self, row: JournaledMessage) -> None:
        """Put a message where its id belongs: a dead letter that is replayed comes before what came after it."""
        place = len(self.waiting)
        while place and self.waiting[place - 1].id > row.id:
            place -= 1
        self.waiting.insert(place, row)

    def take(self, collects: Collects) -> JournaledMessage:
        """Remove the next message to start, with those before it that are answered together with it.

        One that was tried before is tried with the same ones: parts of its answer may be on their way.
        """
        row, self.again = self.again, None
        if row is not None:
            return row
        row = self.waiting.popleft()
        earlier: list[JournaledMessage] = []
        room = LARGEST_MESSAGE_BYTES - size_of(row.message)
        while self.waiting and len(earlier) + 1 < MOST_TOGETHER and not row.attempts and collects(row):
            following = self.waiting[0]
            room -= size_of(following.message)
            if room < 0 or not collects(following):
                break
            earlier.append(row)
            row = self.waiting.popleft()
        row.earlier = tuple(earlier)
        return row


class LaneQueue:
    """One agent's lanes, and which of them is next.

    Args:
        collects: asked of messages that wait one behind the other.
    """

    def __init__(self, collects: Collects = lambda _row: False) -> None:
        self._collects = collects
        self._lanes: dict[str, Lane] = {}
        self._ready: list[Lane] = []

    @property
    def ready(self) -> bool:
        """Whether a message could start as far as its lane is concerned."""
        return bool(self._ready)

    @property
    def oldest_at(self) -> float | None:
        """When the longest-waiting message was received, seconds since the epoch; None when none waits."""
        heads = [lane.head for lane in self._lanes.values()]
        return min((row.received_at for row in heads if row is not None), default=None)

    def add(self, row: JournaledMessage) -> None:
        """Take a message that waits."""
        lane = self._lanes.setdefault(row.conversation_id, Lane())
        if lane.idle:
            self._ready.append(lane)
        lane.add(row)

    def take(self) -> tuple[Lane, JournaledMessage]:
        """The next message to start, and its lane, which is busy from now on; there must be one."""
        lane = self._ready.pop(0)
        lane.busy = True
        return lane, lane.take(self._collects)

    def is_idle(self, conversation_id: str) -> bool:
        """Whether nothing of a conversation runs or waits."""
        lane = self._lanes.get(conversation_id)
        return lane is None or lane.idle

    def occupy(self, conversation_id: str) -> None:
        """Make a lane busy for a message that comes later."""
        self._lanes.setdefault(conversation_id, Lane()).busy = True

    def occupied(self, conversation_id: str) -> Lane:
        """The lane that :meth:`occupy` made busy."""
        return self._lanes.setdefault(conversation_id, Lane(busy=True))

    def end(self, conversation_id: str, lane: Lane) -> None:
        """A lane's message is over: the next one may start."""
        lane.busy = False
        if lane.waiting:
            self._ready.append(lane)
        elif self._lanes.get(conversation_id) is lane:
            del self._lanes[conversation_id]

    def give_back(self, lane: Lane, row: JournaledMessage) -> None:
        """A lane's message was interrupted: it waits again, with those that were to be answered together with it."""
        earlier, row.earlier = row.earlier, ()
        lane.waiting.extendleft(reversed([*earlier, row]))
        lane.busy = False
        self._ready.append(lane)

    def postpone(self, lane: Lane, row: JournaledMessage, timer: asyncio.Task[None]) -> None:
        """A lane's message is to be tried again: ``timer`` calls :meth:`retry` when it is time."""
        lane.later, lane.timer = row, timer

    def retry_now(self, conversation_id: str) -> bool:
        """Let the message that waits for its next attempt be due now; whether one did wait."""
        lane = self._lanes.get(conversation_id)
        if lane is None or lane.later is None or lane.timer is None:
            return False
        lane.timer.cancel()
        lane.later.not_before = 0.0
        self.retry(lane)
        return True

    def retry(self, lane: Lane) -> None:
        """The next attempt at a lane's message is due: it comes before all others of the lane."""
        lane.timer, lane.busy = None, False
        lane.again, lane.later = lane.later, None
        self._ready.append(lane)

    def find(self, conversation_id: str) -> Lane | None:
        """A conversation's lane, where something of it runs or waits."""
        return self._lanes.get(conversation_id)

    def clear(self) -> None:
        """Forget all lanes."""
        self._lanes.clear()
        self._ready.clear()
