"""Work on many conversations, a few at a time, in which one can be put first."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from supervisor.core.tasks import TaskSet


class Round:
    """Works on each of some conversations once.

    Args:
        work: does it for one; must not raise.
        at_once: how many at a time, those aside that are put first.
        name: of its tasks.
    """

    def __init__(
        self, conversations: Iterable[str], work: Callable[[str], Coroutine[Any, Any, None]], *, at_once: int, name: str
    ) -> None:
        self._waiting = dict.fromkeys(conversations)
        self._work = work
        self._at_once = at_once
        self._name = name
        self._tasks = TaskSet()

    async def run(self) -> None:
        """Return once all are done; cancelled, it cancels what is under way and begins nothing more."""
        try:
            for _ in range(min(self._at_once, len(self._waiting))):
                self._tasks.spawn(self._take_turns(), self._name)
            while not await self._tasks.wait():
                pass
        finally:
            self._waiting.clear()
            await self._tasks.cancel()

    def put_first(self, conversation_id: str) -> None:
        """Begin with a conversation at once, whatever else is under way; nothing happens where it does not wait."""
        if self._tasks and conversation_id in self._waiting:
            del self._waiting[conversation_id]
            self._tasks.spawn(self._work(conversation_id), self._name)

    async def _take_turns(self) -> None:
        while self._waiting:
            conversation_id = next(iter(self._waiting))
            del self._waiting[conversation_id]
            await self._work(conversation_id)
