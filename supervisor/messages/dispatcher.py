"""The fleet's one limit on running handlers, and which agent may start a message next.

Agents take turns, one message each, so that a busy one never starves another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.messages.memory import DEFAULT_MEMORY_BYTES, Memory

#: A message that kills the process mostly does so at once; after so long the next suspect may start beside it.
SUSPECT_SECONDS = 10.0


@dataclass(eq=False, slots=True)
class Contender:
    """One agent in the dispatcher's round.

    Attributes:
        can_start: whether the agent has a message that could start now, the fleet's limit aside.
        start_next: starts that message; the dispatcher has taken a place for it.
        queued: whether the agent waits for its turn; written by the dispatcher only.
    """

    can_start: Callable[[], bool]
    start_next: Callable[[], None]
    queued: bool = False


class Dispatcher:
    """Gives places to running messages, to the agents in turn.

    Args:
        limit: messages running at once, in all.
        memory_bytes: how much of all agents' messages may be in memory.
    """

    def __init__(self, limit: int, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        self.limit = limit
        self.memory = Memory(memory_bytes)
        self.running = 0
        self._waiting: deque[Contender] = deque()
        self._starting = False
        # The suspect that started last: its number, and when it started.
        self._suspect: tuple[int, float] | None = None

    def offer(self, contender: Contender) -> None:
        """An agent has a message that could run."""
        if not contender.queued:
            contender.queued = True
            self._waiting.append(contender)
        self._start_what_may()

    def reserve(self) -> bool:
        """Take a place at once, if one is free and no agent waits for its turn."""
        if self.running >= self.limit or self._waiting:
            return False
        self.running += 1
        return True

    def release(self) -> None:
        """Give a place back."""
        self.running -= 1
        self._start_what_may()

    def may_start_suspect(self, message_id: int, now: float) -> bool:
        """Whether a message that may have killed the process may start now: suspects start one after the other.

        Together they would all be counted a death that one of them caused (docs/faults.md#r24). A suspect that has
        run for :data:`SUSPECT_SECONDS` without harm no longer holds up the next.

        Args:
            now: monotonic seconds.
        """
        if self._suspect is None or now - self._suspect[1] >= SUSPECT_SECONDS:
            self._suspect = (message_id, now)
            return True
        return False

    def survived(self, message_id: int) -> None:
        """A message ran and the process lives: the next suspect may start."""
        if self._suspect is not None and self._suspect[0] == message_id:
            self._suspect = None

    def _start_what_may(self) -> None:
        """Start one message of each agent in turn while there are places."""
        if self._starting or not self._waiting:
            # One that ends as it starts makes room for the next: whoever starts them goes on.
            return
        self._starting = True
        try:
            self._start_in_turn()
        finally:
            self._starting = False

    def _start_in_turn(self) -> None:
        while self._waiting and self.running < self.limit:
            contender = self._waiting.popleft()
            contender.queued = False
            if contender.can_start():
                self.running += 1
                contender.start_next()
            if contender.can_start():
                contender.queued = True
                self._waiting.append(contender)
