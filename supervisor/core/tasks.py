"""Owns tasks that run beside something else, until they end or their owner does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextvars import Context
from typing import Any


class TaskSet:
    """Tasks of one owner. The event loop keeps only weak references: a task that nobody owns may vanish."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(
        self, work: Coroutine[Any, Any, None], name: str, *, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Start ``work`` as a task; the set forgets it once it has ended.

        Args:
            context: what the task runs in; a copy of the caller's by default.
        """
        task = asyncio.create_task(work, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def __len__(self) -> int:
        """How many have not ended."""
        return len(self._tasks)

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        """Those that have not ended, as they are now."""
        return iter(list(self._tasks))

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for those that run now, for ``timeout`` seconds at most if given; whether none is left."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)
        return not self._tasks

    async def cancel(self) -> None:
        """Cancel those that run now and wait for their ends; what they raise is not told."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
