"""The signal that something else is wanted of an agent, and the ways to wait for it beside other things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from supervisor.core.clock import Clock
from supervisor.core.flags import Flag
from supervisor.core.tasks import first_done

_T = TypeVar("_T")


class Changed(Exception):  # noqa: N818  a signal, not an error
    """What the agent was doing no longer fits what is wanted of it; look again."""


class Change:
    """Set by whoever wants something else; cleared by the agent's task before it looks what that is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flag = Flag()

    def set(self) -> None:
        """Something else is wanted."""
        self._flag.set()

    def is_set(self) -> bool:
        """Whether something else is wanted that nobody has looked at."""
        return self._flag.is_set()

    def clear(self) -> None:
        """It is being looked at."""
        self._flag.clear()

    async def wait(self) -> None:
        """Return once something else is wanted."""
        await self._flag.wait()

    async def unless(self, work: Awaitable[_T]) -> _T:
        """Do ``work``, but drop it when something else is wanted.

        Raises:
            Changed: it was.
        """
        task = asyncio.ensure_future(work)
        try:
            await self.or_first_of(task)
            if task.done():
                return task.result()
            raise Changed
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            elif not task.cancelled():
                # Retrieved, because asyncio complains of an error that nobody asks for.
                task.exception()

    async def or_first_of(self, *events: asyncio.Future[Any], within: float | None = None) -> None:
        """Wait for the change or the first of ``events``, for ``within`` seconds at most; none of them is cancelled."""
        # Futures and no task: each agent that is online waits so all the time.
        changed = self._flag.waiter()
        timer = None if within is None else self._clock.call_later(within, changed.cancel)
        try:
            await first_done(*events, changed)
        finally:
            changed.cancel()
            if timer is not None:
                timer.cancel()
