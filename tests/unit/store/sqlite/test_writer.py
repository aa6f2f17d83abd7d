"""The writer's thread: what it was given is done once, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.owners import OURS, make_task, owner
from supervisor.store.sqlite.writer import Writer


class Desk:
    """A writer whose first work lasts until the test lets it end; ``done`` has what was done, in order."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.begun, self.may_end = asyncio.Event(), threading.Event()
        self.done: list[str] = []
        self._loop = asyncio.get_running_loop()

    def long(self, connection: sqlite3.Connection) -> str:
        self._loop.call_soon_threadsafe(self.begun.set)
        self.may_end.wait(10)
        return self.short(connection, "long")

    def short(self, _: sqlite3.Connection, name: str = "short") -> str:
        self.done.append(name)
        return name


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    loop, path = asyncio.get_running_loop(), tmp_path / "supervisor.db"
    owner.set(OURS)
    loop.set_task_factory(make_task)
    made = Desk(Writer(path, lambda: sqlite3.connect(path, check_same_thread=False), SystemClock(), 1.0))
    yield made
    made.may_end.set()
    await made.writer.close()
    loop.set_task_factory(None)


async def test_foreign_code_cancels_neither_what_is_being_written_nor_what_waits_for_its_turn(desk: Desk) -> None:
    tasks = [asyncio.create_task(desk.writer.transact(work)) for work in (desk.long, desk.short)]
    await desk.begun.wait()
    for _ in range(3):
        for task in tasks:
            asyncio.Task.cancel(task)
        done, _ = await asyncio.wait(tasks, timeout=0.02)
        assert not done
    desk.may_end.set()
    assert await asyncio.gather(*tasks) == desk.done == ["long", "short"]


async def test_who_is_told_to_end_waits_for_no_thread_and_what_had_not_begun_never_does(desk: Desk) -> None:
    tasks = [asyncio.create_task(desk.writer.transact(work)) for work in (desk.long, desk.short)]
    await desk.begun.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=5)
    assert all(task.cancelled() for task in tasks)
    assert desk.done == []
    desk.may_end.set()
    await desk.writer.call(lambda _: None)
    assert desk.done == ["long"]
