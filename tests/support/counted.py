"""A supervisor that counts what it does: ``python -m tests.support.counted``, its settings from ``SUPERVISOR_*``.

Each line on stdin is answered on stdout by the counts until then, as JSON; it ends when its stdin does. What it does is
counted where Python lets anybody look: a loop of its own, the profiler's hook, SQLite's trace, the allocator.
"""

from __future__ import annotations

import asyncio
import gc
import json
import selectors
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from functools import partial
from types import FrameType
from typing import Any, TypeVarTuple

from supervisor.service import Service
from supervisor.settings import Settings

Ts = TypeVarTuple("Ts")

COUNTS: Counter[str] = Counter()


class CountingSelector(selectors.DefaultSelector):
    """Counts the rounds of its loop."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        COUNTS["rounds"] += 1
        return super().select(timeout)


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts what is asked of a loop: tasks, futures, callbacks, timers."""

    def __init__(self) -> None:
        super().__init__(CountingSelector())

    def create_task(self, *args: Any, **options: Any) -> asyncio.Task[Any]:
        COUNTS["tasks"] += 1
        return super().create_task(*args, **options)

    def create_future(self) -> asyncio.Future[Any]:
        COUNTS["futures"] += 1
        return super().create_future()

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        COUNTS["callbacks"] += 1
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        COUNTS["callbacks"] += 1
        return super().call_soon_threadsafe(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        COUNTS["timers"] += 1
        return super().call_at(when, callback, *args, context=context)


def count_call(_frame: FrameType, event: str, _argument: object) -> None:
    """The profiler's hook: a function in Python that is called, a coroutine that is resumed."""
    if event == "call":
        COUNTS["calls"] += 1


def count_statement(statement: str) -> None:
    """SQLite's trace: questions of the database's own state are none of a message's."""
    first = statement.partition(" ")[0].upper()
    if first == "COMMIT":
        COUNTS["transactions"] += 1
    elif first in ("INSERT", "UPDATE", "DELETE", "SELECT", "WITH"):
        COUNTS["statements"] += 1


class CountingConnection(sqlite3.Connection):
    """Counts what is asked of SQLite."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_trace_callback(count_statement)


def answer_counts(loop: asyncio.AbstractEventLoop, stopped: Callable[[], object]) -> None:
    """Answer each line of stdin with the counts, and say so at its end."""
    for _ in sys.stdin:
        counted = dict(COUNTS)
        gc.collect()
        held = {"kept_blocks": sys.getallocatedblocks(), "tasks_left": len(asyncio.all_tasks(loop))}
        print(json.dumps({**counted, **held}), flush=True)
    loop.call_soon_threadsafe(stopped)


async def main() -> None:
    """Serve until stdin ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    service = await Service.start(Settings())
    threading.Thread(target=answer_counts, args=(loop, ended.set)).start()
    await ended.wait()
    await service.stop(grace_seconds=5)


if __name__ == "__main__":
    sqlite3.connect = partial(sqlite3.connect, factory=CountingConnection)  # type: ignore[assignment]
    threading.setprofile(count_call)
    sys.setprofile(count_call)
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(main())
