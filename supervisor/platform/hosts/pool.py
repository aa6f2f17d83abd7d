"""A bound on work that comes in bursts: token requests and connection attempts. The one wrapper of asyncio-pool.

asyncio-pool 0.6 keeps its bound well and everything around the bound badly: a caller cancelled in ``spawn()`` does not
notice, ``cancel()`` right after ``spawn_n`` makes ``join()`` hang, and a timed-out ``exec()`` leaves its job running.
So a job is only ever given to the pool with ``spawn_n``, as a coroutine that keeps its own time, never raises and is
never cancelled before it runs. The job's outcome travels by a future of ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from asyncio_pool import AioPool

from supervisor.core.errors import SupervisorError
from supervisor.core.tasks import first_done

T = TypeVar("T")

_log = logging.getLogger("supervisor.pool")
#: How long a job that was cancelled at closing may take to unwind.
_UNWIND_SECONDS = 2.0


class PoolClosedError(SupervisorError):
    """The pool takes no more jobs, because the supervisor stops."""


class _Job(Generic[T]):
    """One job on its way through the pool, and what came of it."""

    __slots__ = ("ended", "error", "result", "task", "wanted", "work")

    def __init__(self, work: Callable[[], Awaitable[T]], ended: asyncio.Future[None]) -> None:
        self.work = work
        self.ended = ended
        self.wanted = True
        self.task: asyncio.Task[Any] | None = None
        self.result: T | None = None
        self.error: BaseException | None = None

    def abandon(self, error: BaseException | None = None) -> None:
        """Nobody wants the outcome: stop the job where it runs, or keep it from starting."""
        self.wanted = False
        if self.task is not None:
            self.task.cancel()
        elif not self.ended.done():
            self.error = error
            self.ended.set_result(None)


class BoundedPool:
    """Runs at most ``size`` jobs at once; the others wait in order of arrival.

    Args:
        size: how many jobs run at once.
        name: what the pool is for, in errors and logs.
    """

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self.name = name
        self._pool: AioPool | None = None
        self._jobs: set[_Job[Any]] = set()
        self._closed = False

    @property
    def active(self) -> int:
        """How many jobs run now."""
        return sum(job.task is not None for job in self._jobs)

    @property
    def waiting(self) -> int:
        """How many callers wait for a place."""
        return sum(job.task is None for job in self._jobs)

    async def run(self, job: Callable[[], Awaitable[T]], *, timeout: float) -> T:
        """Run ``job`` as soon as there is a place for it, and return what it returned.

        Args:
            job: makes the awaitable; called once there is a place.
            timeout: seconds that the job may take; waiting for a place does not count.

        Raises:
            TimeoutError: the job took longer, and was cancelled.
            PoolClosedError: the pool is closed.
            Exception: whatever the job raised. When the caller is cancelled the job is cancelled, and is over before
                the cancellation goes on; one that still waits for its place never starts.
        """
        if self._closed:
            raise PoolClosedError(f"{self.name}: closed")
        if self._pool is None:
            self._pool = AioPool(size=self.size)
        entry = _Job(job, asyncio.get_running_loop().create_future())
        self._jobs.add(entry)
        self._pool.spawn_n(self._place(entry, timeout))
        try:
            await _ended(entry)
            if entry.error is not None:
                raise entry.error
            return cast("T", entry.result)
        finally:
            self._jobs.discard(entry)
            # The traceback of the error names this frame: without this each failure would be a reference cycle.
            entry.error = None

    async def _place(self, job: _Job[T], timeout: float) -> None:
        """Hold a place of the pool while ``job`` runs; never raises (asyncio-pool's ``join`` relies on it)."""
        if not job.wanted:
            return
        job.task = asyncio.current_task()
        try:
            async with asyncio.timeout(timeout):
                job.result = await job.work()
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            job.error = error
        finally:
            if not job.ended.done():
                job.ended.set_result(None)

    async def close(self, timeout: float) -> None:
        """Take no more jobs, turn away those that wait, and give those that run ``timeout`` seconds to end.

        What still runs then is cancelled. Returns within ``timeout`` and two seconds; a job that swallows its
        cancellation is reported and left behind.
        """
        self._closed = True
        for job in list(self._jobs):
            if job.task is None:
                job.abandon(PoolClosedError(f"{self.name}: closed"))
        if self._pool is None or await self._joined(timeout):
            return
        for job in list(self._jobs):
            job.abandon()
        if not await self._joined(_UNWIND_SECONDS):
            _log.error("%s: %d jobs do not end when cancelled", self.name, self.active)

    async def _joined(self, timeout: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await cast("AioPool", self._pool).join()
                return True
        return False


async def _ended(job: _Job[Any]) -> None:
    """Wait until ``job`` is over, also when cancelled: then it is stopped first, and the cancellation goes on."""
    try:
        await first_done(job.ended)
    except asyncio.CancelledError:
        job.abandon()
        while not job.ended.done():
            # Cancelled again while the job unwinds: it is told again, and is still waited for.
            with suppress(asyncio.CancelledError):
                await first_done(job.ended)
                break
            job.abandon()
        raise
