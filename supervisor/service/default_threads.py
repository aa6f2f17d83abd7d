"""The event loop's default threads, which ``asyncio.to_thread()`` and look-ups of names use: to each owner its own.

asyncio has a handful for the whole process. A handler that hangs in them would keep every other one, and the
supervisor, from finding any host (docs/faults.md#r25).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final, TypeVar

from supervisor.core.owners import OURS, owner
from supervisor.handlers.threads import IDLE_SECONDS, DaemonThreads

_T = TypeVar("_T")

#: As many as asyncio's own pool has.
THREADS: Final = min(32, (os.cpu_count() or 1) + 4)


class DefaultThreads:
    """Stands in for the default executor of ``loop``, whose functions for it then reach the caller's own alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._run_in_executor = loop.run_in_executor
        self._of: dict[str | None, Executor] = {}
        loop.run_in_executor = self._run  # type: ignore[method-assign,assignment]
        loop.set_default_executor = self._set  # type: ignore[method-assign]
        loop.shutdown_default_executor = self._shut_down  # type: ignore[method-assign]

    def _run(self, executor: Executor | None, func: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:
        return self._run_in_executor(executor or self._own(), func, *args)

    def _own(self) -> Executor:
        who = owner.get()
        threads = self._of.get(who)
        if threads is None:
            name = "own" if who == OURS else f"default {who}"
            threads = self._of[who] = DaemonThreads(THREADS, name, idle_seconds=IDLE_SECONDS)
        return threads

    def _set(self, executor: Executor) -> None:
        self._of[owner.get()] = executor

    async def _shut_down(self, timeout: float | None = None) -> None:  # noqa: ARG002  as the loop's has it
        """Waits for nobody: what has not ended by then may never do."""
        if (threads := self._of.pop(owner.get(), None)) is not None:
            threads.shutdown(wait=False)
