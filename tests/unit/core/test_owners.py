"""Whose code runs is known to what it starts, to no thread of its own, and foreign code reaches no task of others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextvars import Context, ContextVar
from threading import Thread
from typing import Any

import pytest

from supervisor.core.owners import OURS, OwnedTask, make_task, own_context, owner, tasks_of_others_unseen
from supervisor.handlers.foreign import foreign_context

_said: ContextVar[str] = ContextVar("said", default="nothing")


def test_in_a_context_of_our_own_nothing_else_is_known() -> None:
    _said.set("something")
    assert own_context().run(lambda: (owner.get(), _said.get())) == (OURS, "nothing")


def test_a_thread_begins_without_an_owner() -> None:
    found: list[str | None] = []

    def begin() -> None:
        thread = threading.Thread(target=lambda: found.append(owner.get()))
        thread.start()
        thread.join()

    own_context().run(begin)
    assert found == [None]


@pytest.fixture
async def complaints() -> AsyncIterator[list[str]]:
    """The loop with our task factory; what its exception handler was told."""
    loop, heard = asyncio.get_running_loop(), list[str]()
    owner.set(OURS)
    loop.set_task_factory(make_task)
    loop.set_exception_handler(lambda _, told: heard.append(told["message"]))
    yield heard
    loop.set_task_factory(None)
    loop.set_exception_handler(None)


async def _cancel(task: asyncio.Task[Any]) -> bool:
    return task.cancel()


async def test_foreign_code_cancels_what_it_started_and_nothing_else(complaints: list[str]) -> None:
    async def foreign_code() -> tuple[bool, bool]:
        started = asyncio.create_task(asyncio.sleep(60))
        return started.cancel(), ours.cancel()

    ours = asyncio.create_task(asyncio.sleep(60))
    assert isinstance(ours, OwnedTask)
    assert ours.whose == OURS
    assert await asyncio.create_task(foreign_code(), context=foreign_context("a1")) == (True, False)
    assert complaints == ["the handler of a1 tried to cancel a task of the supervisor"]
    assert await asyncio.create_task(_cancel(ours))
    assert len(complaints) == 1
    with pytest.raises(asyncio.CancelledError):
        await ours


async def test_nor_what_another_handler_started(complaints: list[str]) -> None:
    others = asyncio.create_task(asyncio.sleep(60), context=foreign_context("a2"))
    assert not await asyncio.create_task(_cancel(others), context=foreign_context("a1"))
    assert complaints == ["the handler of a1 tried to cancel a task of the handler of a2"]
    assert await asyncio.create_task(_cancel(others), context=foreign_context("a2"))
    await asyncio.wait([others])


@pytest.mark.parametrize("way", ["a thread", "an empty context"])
async def test_nor_does_code_of_which_nobody_knows_whose_it_is(complaints: list[str], way: str) -> None:
    async def begin() -> None:
        def cancel() -> None:
            cancelled.set_result(ours.cancel())

        if way == "a thread":
            await asyncio.to_thread(lambda: Thread(target=loop.call_soon_threadsafe, args=(cancel,)).start())
        else:
            loop.call_soon(cancel, context=Context())

    loop = asyncio.get_running_loop()
    cancelled: asyncio.Future[bool] = loop.create_future()
    # Fixtures of async tests run in a context of their own.
    ours = asyncio.create_task(asyncio.sleep(60), context=own_context())
    await asyncio.create_task(begin(), context=foreign_context("a1"))
    assert not await cancelled
    assert complaints == ["code of an unknown thread or context tried to cancel a task of the supervisor"]
    assert own_context().run(ours.cancel)
    await asyncio.wait([ours])


def is_told_to_end() -> bool:
    task = asyncio.current_task()
    assert isinstance(task, OwnedTask)
    return task.is_told_to_end()


async def test_what_is_cancelled_past_the_task_itself_is_not_told_to_end(complaints: list[str]) -> None:
    async def outlives() -> tuple[bool, int]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return is_told_to_end(), task.cancelling()
        raise AssertionError

    for cancel, expected in ((asyncio.Task.cancel, (False, 0)), (OwnedTask.cancel, (True, 1))):
        task = asyncio.create_task(outlives())
        assert isinstance(task, OwnedTask)
        await asyncio.sleep(0)
        assert cancel(task)
        assert await task == expected
    assert not complaints


async def test_a_time_out_that_is_over_has_told_nobody_to_end(complaints: list[str]) -> None:
    async def outlives() -> bool:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        return is_told_to_end()

    task = asyncio.create_task(outlives())
    assert isinstance(task, OwnedTask)
    assert not await task
    assert not complaints


async def test_foreign_code_sees_the_tasks_that_it_may_cancel(complaints: list[str]) -> None:
    async def see() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks()} & {"ours", "a1", "a2", "own loop"}

    async def other_loop() -> set[str]:
        asyncio.create_task(asyncio.sleep(60), name="own loop")  # noqa: RUF006  all_tasks holds it for as long
        return await see()

    async def thread() -> set[str]:
        return await asyncio.to_thread(lambda: asyncio.run(other_loop()))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(60), name="ours")]
        for name in ("a1", "a2"):
            tasks.append(group.create_task(asyncio.sleep(60), name=name, context=foreign_context(name)))
        with tasks_of_others_unseen():
            assert await see() == {"ours", "a1", "a2"}
            assert await asyncio.create_task(see(), context=foreign_context("a1")) == {"a1"}
            assert await asyncio.create_task(see(), context=Context()) == {"a1", "a2"}
            assert await asyncio.create_task(thread(), context=foreign_context("a1")) == {"own loop"}
        assert await asyncio.create_task(see(), context=foreign_context("a1")) == {"ours", "a1", "a2"}
        for task in tasks:
            task.cancel()
    assert not complaints
