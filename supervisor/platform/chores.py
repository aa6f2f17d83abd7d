"""What is done beside one connection of an agent's, and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from supervisor.core.clock import Clock
from supervisor.core.rounds import Rounds, Turn
from supervisor.core.tasks import TaskSet, ended_untold
from supervisor.telemetry.logs import AgentLog


class Chores:
    """Tasks, and what comes round again and again.

    Args:
        on_broken: called when foreign code has ended one of them: with the next connection all of them begin anew.
    """

    _log = AgentLog("supervisor.connection")

    def __init__(self, agent_id: str, on_broken: Callable[[], object]) -> None:
        self._agent_id = agent_id
        self._on_broken = on_broken
        self._tasks = TaskSet()
        self._at_end: list[Callable[[], object]] = []
        self._closing = False

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Do ``work`` until it is over, or all of them are; after that nothing is begun: it is cancelled at once."""
        task = self._tasks.spawn(work, f"{name} {self._agent_id}")
        task.add_done_callback(self._ended)
        if self._closing:
            task.cancel()
        return task

    def repeat(
        self, clock: Clock, turn: Turn, seconds: float, name: str, *, at_end: Callable[[], object] = lambda: None
    ) -> None:
        """Have ``turn`` come round, first after so many seconds, as :class:`Rounds` do; the tasks have the name."""
        rounds = Rounds(clock, turn, lambda work: self.start(work, name), at_end)
        rounds.begin(seconds)
        self.at_end(rounds.end)

    def at_end(self, callback: Callable[[], object]) -> None:
        """Have something called when all of them end; at once where they have ended."""
        if self._closing:
            callback()
        else:
            self._at_end.append(callback)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if ended_untold(task):
            # By foreign code (docs/faults.md#r25).
            self._log.error("chore_cancelled", chore=task.get_name())
            self._on_broken()
        elif not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("chore_failed", chore=task.get_name(), exc_info=error)

    async def end(self) -> None:
        """End all of them; idempotent."""
        self._closing = True
        ending, self._at_end = self._at_end, []
        for callback in ending:
            callback()
        await self._tasks.cancel()
