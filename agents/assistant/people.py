"""How much one person may ask of an agent in a minute."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from supervisor.handler import Message

MINUTE_SECONDS: Final = 60.0
#: People of whom it is remembered when they wrote.
MAX_PEOPLE: Final = 10_000


class People:
    """When each person was answered, in memory.

    Args:
        now: monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()

    def may_ask(self, message: Message, limit: int | None) -> bool:
        """Whether the sender of a message has asked for less than ``limit`` answers within the last minute."""
        if limit is None:
            return True
        now = self._now()
        times = self._asked.setdefault(_person(message), deque())
        self._asked.move_to_end(_person(message))
        if len(self._asked) > MAX_PEOPLE:
            self._asked.popitem(last=False)
        while times and times[0] <= now - MINUTE_SECONDS:
            times.popleft()
        if len(times) >= limit:
            return False
        times.append(now)
        return True


def _person(message: Message) -> str:
    """Who wrote it; where the platform does not say, whoever is in that conversation."""
    if message.sender_user_id:
        return f"user {message.sender_user_id}"
    if message.external_username:
        return f"name {message.conversation_id} {message.external_username}"
    return f"conversation {message.conversation_id}"
