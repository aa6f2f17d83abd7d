"""Threads for handlers that are plain functions.

They are bounded in number, each handler has a share of them, and they never get in the way of the process's end. A
thread cannot be stopped from outside: one whose caller has gone is *abandoned*, and while it blocks another takes its
place, so that handlers that hang do not use up what the others need.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")
_Job = tuple["Future[Any]", Callable[[], Any]]

#: Where a thread that nothing came for ends, it does after this: there may be thousands of owners.
IDLE_SECONDS = 10.0
#: How many abandoned threads are replaced at most, as a multiple of the pool's size; what blocks costs little memory.
REPLACED_PER_THREAD = 4


class DaemonThreads(Executor):
    """Runs calls in up to ``size`` threads, in order of arrival.

    Unlike the standard library's pool its threads are daemons. The interpreter joins that one's at exit, so that a
    handler that blocks for an hour would keep the supervisor from stopping for as long (docs/faults.md#r15).

    Args:
        size: threads at once, those that replace abandoned ones aside.
        replaced: how many abandoned ones are replaced at most.
        idle_seconds: how long a thread waits for work before it ends; for ever by default.
    """

    def __init__(self, size: int, name: str, *, replaced: int | None = None, idle_seconds: float | None = None) -> None:
        self._size = size
        self._idle_seconds = idle_seconds
        self._name = name
        self._replaced = REPLACED_PER_THREAD * size if replaced is None else replaced
        self._jobs: deque[_Job] = deque()
        self._lock = threading.Lock()  # guards all that follows, and the jobs
        self._alive = 0
        # Idle threads, each with what wakes it; the last to come is the first to work, so that surplus ones end.
        self._idle: list[threading.Condition] = []
        self._made = 0
        self._abandoned = 0
        self._closed = False

    @property
    def limit(self) -> int:
        """How many threads there may be now: each abandoned one makes room for another, up to a bound."""
        return self._size + min(self._abandoned, self._replaced)

    @property
    def alive(self) -> int:
        """How many threads there are."""
        return self._alive

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run ``fn`` as soon as a thread is free.

        Raises:
            RuntimeError: the threads were let go.
        """
        future: Future[_T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the handlers' threads are closed")
            self._jobs.append((future, lambda: fn(*args, **kwargs)))
            self._ensure_worker()
        return future

    def abandon(self, future: Future[Any]) -> None:
        """Nobody waits for ``future`` any more: until its thread is back another may take its place."""
        if future.cancel() or future.done():
            return
        with self._lock:
            self._abandoned += 1
            self._ensure_worker()
        future.add_done_callback(self._came_back)

    def _came_back(self, _: Future[Any]) -> None:
        # Called in the thread itself, before it looks for work: it finds that there is one too many, and ends.
        with self._lock:
            self._abandoned -= 1

    def _ensure_worker(self) -> None:
        """Wake or start a thread for the jobs that wait; to be called with the lock held."""
        if not self._jobs:
            return
        if self._idle:
            self._idle.pop().notify()
        elif self._alive < self.limit:
            self._start_thread()

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"{self._name}-{self._made + 1}", daemon=True).start()
        except RuntimeError:
            if self._alive == 0:
                self._jobs.pop()
                raise
            # The system gives no more threads: one of those that run takes what waits.
            return
        self._made += 1
        self._alive += 1

    def _work(self) -> None:
        while (job := self._next()) is not None:
            _run(*job)
            # Else the last message's answer would live until the next one comes.
            del job

    def _next(self) -> _Job | None:
        """What to do next; None to end."""
        with self._lock:
            # Else only a thread that comes from work may end: an idle one may have been notified of a job.
            surplus = self._alive > self.limit
            while not (surplus or self._jobs or self._closed):
                turn = threading.Condition(self._lock)
                self._idle.append(turn)
                if not turn.wait(self._idle_seconds):
                    # Its turn may have come at the same moment.
                    with suppress(ValueError):
                        self._idle.remove(turn)
                    break
            if surplus or not self._jobs:
                self._alive -= 1
                return None
            return self._jobs.popleft()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  as Executor has it
        """Take nothing more and let idle threads end; what waits is cancelled, what runs is not waited for."""
        with self._lock:
            self._closed = True
            forgotten = list(self._jobs)
            self._jobs.clear()
            for turn in self._idle:
                turn.notify()
            self._idle.clear()
        for future, _ in forgotten:
            future.cancel()


def _run(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  whoever waits for the future raises it
        future.set_exception(error)
    else:
        future.set_result(result)


class TimeLimit:
    """The time that a handler may take: it stands still while the handler waits for a thread, for that is queueing.

    It runs from :meth:`begin` on. Once it is up ``reached`` is true, and ``on_reached`` is called. ``thread`` is the
    call that a thread works on or worked on last, and ``thread_ident`` the number of that thread while it does.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.thread: Future[Any] | None = None
        self.thread_ident: int | None = None
        self._loop = asyncio.get_running_loop()
        self.reached = False
        self.on_reached: Callable[[], object] = lambda: None
        self._closed = self._held = False
        self._left = seconds
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def left(self) -> float:
        """Seconds that are left; may be asked from any thread."""
        until = self._until
        return self._left if until is None else until - self._loop.time()

    def begin(self) -> None:
        """Let the time run, unless the handler waits for a thread already."""
        if not self._held:
            self.go()

    def go(self) -> None:
        """Let the time run again."""
        self._held = False
        if self._timer is None and not (self.reached or self._closed):
            self._until = self._loop.time() + self._left
            self._timer = self._loop.call_at(self._until, self._reach)

    def hold(self) -> None:
        """Let it stand still."""
        self._held = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left, self._until = self.left, None

    def close(self) -> None:
        """The handler ended, one way or another."""
        self.hold()
        self._closed = True

    def _reach(self) -> None:
        self.hold()
        self.reached = True
        self.on_reached()


class ThreadShare:
    """The threads that one agent's handler may use at once; each counts until what runs in it has really ended.

    Args:
        pool: the threads of all.
        size: the share; smaller than the pool, so that a handler that blocks leaves some to the others.
    """

    def __init__(self, pool: DaemonThreads, size: int) -> None:
        self.size = size
        self._pool = pool
        self._free = asyncio.Semaphore(size)

    async def run(self, time_limit: TimeLimit | None, function: Callable[..., _T], *args: Any) -> _T:
        """Call ``function`` in a thread once there is one, in the caller's context.

        Cancelled, it returns at once; a thread that is in the call by then goes on, abandoned.

        Raises:
            whatever ``function`` raises. RuntimeError: the threads were let go.
        """
        limit = time_limit or _Untimed()
        limit.hold()
        try:
            await self._free.acquire()
            future = self._submit(limit, function, args)
            limit.thread = future
            try:
                return await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                self._pool.abandon(future)
                raise
        finally:
            limit.go()

    def _submit(self, limit: TimeLimit | _Untimed, function: Callable[..., _T], args: tuple[Any, ...]) -> Future[_T]:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()

        def call() -> _T:
            limit.thread_ident = threading.get_ident()
            try:
                call_in_loop(loop, limit.go)
                return context.run(function, *args)
            finally:
                limit.thread_ident = None

        try:
            future = self._pool.submit(call)
        except BaseException:
            self._free.release()
            raise
        # A place is free when the thread ends, not when its caller stops waiting.
        future.add_done_callback(lambda _: call_in_loop(loop, self._free.release))
        return future


class _Untimed:
    """In place of a :class:`TimeLimit` for calls that whoever waits for them times."""

    thread: Future[Any] | None = None
    thread_ident: int | None = None

    def go(self) -> None: ...
    def hold(self) -> None: ...


def call_in_loop(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: Any) -> None:
    """Call back in the loop, in the order of the calls, from any thread; nothing happens where the loop is closed."""
    with suppress(RuntimeError):
        if runs_here(loop):
            # It is awake: to wake it takes two system calls.
            loop.call_soon(callback, *args)
        else:
            loop.call_soon_threadsafe(callback, *args)


def runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the caller runs in the loop, rather than in another thread."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
