"""An event loop whose time is made of paper: it passes only when a test says so, and nothing runs beside the loop.

Work that is given to a thread (SQLite's writing and reading, imports) runs on the loop itself, in the order in which it
was given, some turns of the loop later. So a script of steps always has the same interleaving, and an hour costs no
more than the timers in it.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

import aiosqlite.core

_T = TypeVar("_T")
#: When the loop's time is zero: seconds since the epoch.
EPOCH = 1_800_000_000.0
#: More turns than any step needs: something goes round in circles.
_ENDLESS_TURNS = 100_000


class StuckError(AssertionError):
    """What was awaited never comes: nothing is left that could bring it, or it goes round in circles."""


class _Worker:
    """What stands for a thread: one job after the other, each some turns after the one before."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._jobs: deque[tuple[asyncio.Future[Any] | None, Callable[[], Any]]] = deque()

    def give(self, future: asyncio.Future[Any] | None, job: Callable[[], Any]) -> None:
        self._jobs.append((future, job))
        self._loop.jobs += 1
        if len(self._jobs) == 1:
            self._after(self._loop.job_turns)

    def _after(self, turns: int) -> None:
        if turns > 0:
            self._loop.call_soon(self._after, turns - 1)
        else:
            self._run()

    def _run(self) -> None:
        future, job = self._jobs[0]
        # Cancelled before its turn it never runs, as in a pool of threads.
        if future is None or not future.cancelled():
            try:
                result = job()
            except BaseException as error:
                if future is not None:
                    future.set_exception(error)
            else:
                if future is not None:
                    future.set_result(result)
        self._jobs.popleft()
        self._loop.jobs -= 1
        if self._jobs:
            self._loop.call_soon(self._after, self._loop.job_turns)


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module.

    Attributes:
        job_turns: turns of the loop that a job takes; changed, it counts from the next job on.
        jobs: how many were given and have not run.
    """

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._workers: dict[Any, _Worker] = {}
        self.job_turns = 1
        self.jobs = 0
        #: What asyncio would only have logged, such as exceptions that nobody retrieved.
        self.complaints: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        return self._virtual_now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future: asyncio.Future[Any] = self.create_future()
        self.worker(executor).give(future, lambda: func(*args))
        return future

    def worker(self, name: Any) -> _Worker:
        """The stand-in of one thread."""
        return self._workers.setdefault(name, _Worker(self))

    async def turns(self, number: int) -> None:
        """Let everything that can run do so, so many times."""
        for _ in range(number):
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Return when nothing can happen before time passes."""
        for _ in range(_ENDLESS_TURNS):
            await asyncio.sleep(0)
            # Whoever else is ready was so before this task was woken.
            if not self._ready and not self.jobs:  # type: ignore[attr-defined]
                return
        raise StuckError(f"still busy after {_ENDLESS_TURNS} turns: {[t.get_name() for t in asyncio.all_tasks()]}")

    async def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        until = self._virtual_now + seconds
        await self.settle()
        while (due := self._next_timer()) is not None and due <= until:
            self._virtual_now = max(self._virtual_now, due)
            await self.settle()
        self._virtual_now = until
        await self.settle()

    async def complete(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await ``work``, letting as much time pass as it needs."""
        task = asyncio.ensure_future(work)
        await self.settle()
        while not task.done():
            due = self._next_timer()
            if due is None:
                task.cancel()
                raise StuckError(f"nothing left to wait for: {task}")
            self._virtual_now = max(self._virtual_now, due)
            await self.settle()
        return task.result()

    def _next_timer(self) -> float | None:
        return min((t.when() for t in self._scheduled if not t.cancelled()), default=None)  # type: ignore[attr-defined]


class VirtualClock:
    """The loop's time as a :class:`supervisor.core.clock.Clock`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return EPOCH + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, callback)


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, _T]]) -> _T:
    """Run a test's coroutine on a loop of its own."""
    loop = VirtualLoop()
    with _no_threads(loop), asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))


@contextmanager
def _no_threads(loop: VirtualLoop) -> Iterator[None]:
    """Let what is put into a thread's queue be done on the loop; the threads themselves only wait for the end."""

    class Inline(queue.SimpleQueue[Any]):
        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
            if callable(item):
                loop.worker(self).give(None, item)
            else:
                super().put(item, block, timeout)

    class InlineConnection(queue.SimpleQueue[Any]):
        def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
            future, job = item
            loop.worker(self).give(future, lambda: self._run(job))

        def _run(self, job: Callable[[], Any]) -> Any:
            result = job()
            if result is stop:
                self.put((None, lambda: stop))
            return result

    stop = aiosqlite.core._STOP_RUNNING_SENTINEL
    with patch("aiosqlite.core.SimpleQueue", InlineConnection), patch("queue.SimpleQueue", Inline):
        yield
