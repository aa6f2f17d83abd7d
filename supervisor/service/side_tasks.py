"""The service's own loops: each that dies is counted, logged and begun again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from supervisor.core.clock import Clock
from supervisor.core.tasks import cancel_all, is_cancelled, kept
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics import Metrics

#: A side task that died is begun again after this long, twice as long each time it dies again, up to the cap.
RESTART_SECONDS = 1.0
RESTART_CAP_SECONDS = 30.0
#: One that dies this often within this time ends the service: what it needs is a restart of everything.
DEATHS, DEATHS_SECONDS = 5, 300.0


@dataclass(slots=True)
class _SideTask:
    """A side task and when it died of late, in monotonic seconds."""

    name: str
    work: Callable[[], Coroutine[Any, Any, None]]
    essential: bool
    task: asyncio.Task[None] | None = None
    deaths: deque[float] = field(default_factory=deque)
    problem: str = ""


class SideTasks:
    """The service's own loops. One that dies is begun again; an essential one that keeps dying ends the service.

    Attributes:
        failed: why it is of no use to go on, once an essential task keeps dying. Half a supervisor is worse than a
            restart of all of it.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._tasks: list[_SideTask] = []
        self._log = get_logger("supervisor.service")
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]], *, essential: bool = False) -> None:
        """Run what ``work`` makes, again and again should it end, until :meth:`stop`.

        Args:
            essential: whether the supervisor is of no use without it.
        """
        side = _SideTask(name, work, essential)
        side.task = asyncio.create_task(self._keep(side), name=name)
        self._tasks.append(side)

    def give_up(self, reason: str) -> None:
        """It is of no use to go on, for a reason; the first one counts."""
        if not self.failed.done():
            self.failed.set_result(reason)

    async def _keep(self, side: _SideTask) -> None:
        while True:
            error: BaseException | None = None
            try:
                await side.work()
            except BaseException as died:
                if isinstance(died, asyncio.CancelledError) and is_cancelled():
                    raise
                error = died
            delay = self._record_death(side, error)
            if delay is None:
                return
            await kept(partial(self._clock.sleep, delay))
            side.problem = ""

    def _record_death(self, side: _SideTask, error: BaseException | None) -> float | None:
        """Count and log a death; the seconds until the task is begun again, None where it is not."""
        now = self._clock.monotonic()
        side.deaths.append(now)
        while now - side.deaths[0] > DEATHS_SECONDS:
            side.deaths.popleft()
        self._metrics.watchdog("side_task_died")
        self._log.error("side_task_died", task=side.name, deaths=len(side.deaths), exc_info=error)
        reason = type(error).__name__ if error else "it returned"
        side.problem = f"the side task {side.name!r} died: {reason}; see the log"
        if side.essential and len(side.deaths) >= DEATHS:
            self.give_up(side.problem)
            return None
        return float(min(RESTART_CAP_SECONDS, RESTART_SECONDS * 2.0 ** (len(side.deaths) - 1)))

    def problems(self) -> tuple[str, ...]:
        """One line for each side task that is down."""
        return tuple(side.problem for side in self._tasks if side.problem)

    def dead(self) -> tuple[str, ...]:
        """One line for each that is down and not begun again."""
        return tuple(
            side.problem or f"the side task {side.name!r} has ended"
            for side in self._tasks
            if side.task is not None and side.task.done()
        )

    async def stop(self) -> None:
        """Cancel all of them; idempotent."""
        tasks = [side.task for side in self._tasks if side.task is not None]
        self._tasks.clear()
        await cancel_all(tasks)
