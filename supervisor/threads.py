"""Threads for handlers that are plain functions: bounded in number, and never in the way of the process's end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

_T = TypeVar("_T")
_Job = Callable[[], None]


class DaemonThreads(Executor):
    """Runs calls in up to ``size`` threads, in order of arrival.

    Unlike the standard library's pool its threads are daemons. The interpreter joins that one's at exit, so that a
    handler that blocks for an hour would keep the supervisor from stopping for as long (RELIABILITY R15).
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._started = 0
        self._closed = False

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        """Run ``fn`` as soon as a thread is free.

        Raises:
            RuntimeError: the threads were let go.
        """
        future: Future[_T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001  whoever waits for the future raises it
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            if self._closed:
                raise RuntimeError("the handlers' threads are closed")
            self._jobs.put(job)
            if not self._idle.acquire(blocking=False) and self._started < self._size:
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                self._idle.release()
                job = self._jobs.get()
            if job is None:
                return
            job()
            # Or the last message's answer would live until the next one comes.
            del job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  as Executor has it
        """Take nothing more and let idle threads end; what waits is forgotten, what runs is not waited for."""
        with self._lock:
            self._closed = True
            while not self._jobs.empty():
                self._jobs.get_nowait()
            for _ in range(self._started):
                self._jobs.put(None)
