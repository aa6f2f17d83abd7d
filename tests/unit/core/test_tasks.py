"""Tasks that run beside something: owned while they run, waited for, cancelled with their owner."""

from __future__ import annotations

import asyncio
import gc
from contextvars import Context, ContextVar

import pytest

from supervisor.core.owners import OURS, make_task, owner
from supervisor.core.tasks import TaskSet, cancel_all, ended_untold, first_done, first_of, is_cancelled, kept
from tests.support.clock import ManualClock

_where: ContextVar[str] = ContextVar("where", default="nowhere")


async def test_a_task_is_owned_until_it_ends(clock: ManualClock) -> None:
    tasks, done = TaskSet(), asyncio.Event()

    async def work() -> None:
        await done.wait()

    assert tasks.spawn(work(), "waits").get_name() == "waits"
    gc.collect()
    await clock.settle()
    assert [task.get_name() for task in tasks] == ["waits"]
    done.set()
    await clock.settle()
    assert len(tasks) == 0


async def test_a_task_sees_what_its_owner_does_or_a_context_of_its_own(clock: ManualClock) -> None:
    tasks, seen = TaskSet(), []
    _where.set("here")

    async def look() -> None:
        seen.append(_where.get())

    tasks.spawn(look(), "within")
    tasks.spawn(look(), "apart", context=Context())
    assert await tasks.wait()
    assert seen == ["here", "nowhere"]


async def test_waiting_ends_with_the_tasks_or_with_its_time(clock: ManualClock) -> None:
    tasks = TaskSet()
    assert await tasks.wait(0.01), "none runs"
    sleeper = tasks.spawn(clock.sleep(5), "sleeps")
    assert not await tasks.wait(0.01)
    assert not sleeper.done(), "giving up the wait does not end the task"
    await clock.advance(5)
    assert await tasks.wait()


async def test_the_first_that_is_done_ends_the_wait_and_the_others_go_on() -> None:
    loop = asyncio.get_running_loop()
    one, other = loop.create_future(), loop.create_future()
    wait = asyncio.ensure_future(first_done(one, other))
    await asyncio.sleep(0)
    assert not wait.done()
    other.set_exception(OSError("its caller sees it"))
    await wait
    assert not one.done()
    assert isinstance(other.exception(), OSError)
    await first_done(one, other)


async def test_waiting_for_the_first_ends_with_its_time_or_its_caller() -> None:
    never = asyncio.get_running_loop().create_future()
    await first_done(never, within=0.01)
    wait = asyncio.ensure_future(first_done(never, within=60))
    await asyncio.sleep(0)
    wait.cancel()
    with pytest.raises(asyncio.CancelledError):
        await wait
    assert not never.done()
    never.cancel()
    await first_done(never)


async def test_cancelling_waits_for_what_a_task_does_at_its_end(clock: ManualClock) -> None:
    tasks, ends = TaskSet(), []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ends.append("slow")

    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("at its end") from None

    tasks.spawn(slow(), "slow")
    tasks.spawn(failing(), "failing")
    await clock.settle()
    await tasks.cancel()
    assert ends == ["slow"]
    assert len(tasks) == 0


async def test_the_first_of_several_ends_the_wait_and_the_others_but_not_what_goes_on_beside(
    clock: ManualClock,
) -> None:
    ended: list[str] = []
    beside: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    event = asyncio.Event()

    async def wait(name: str) -> None:
        try:
            await event.wait()
        finally:
            ended.append(name)

    waiting = asyncio.ensure_future(first_of(clock.sleep(5), wait("own"), beside=[beside]))
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert (waiting.done(), ended, beside.done()) == (True, ["own"], False)

    again = asyncio.ensure_future(first_of(wait("cancelled"), beside=[beside]))
    await clock.settle()
    again.cancel()
    await clock.settle()
    assert (again.cancelled(), ended, beside.done()) == (True, ["own", "cancelled"], False)

    beside.set_result(None)
    await first_of(wait("too late"), beside=[beside])


async def test_what_swallows_its_cancellation_is_left_behind_and_its_error_dropped(clock: ManualClock) -> None:
    released = asyncio.Event()

    async def deaf() -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("long after")

    tasks = [asyncio.ensure_future(deaf()), asyncio.ensure_future(clock.sleep(60))]
    await clock.settle()
    assert not await cancel_all(tasks, 0.01)
    assert [task.cancelled() for task in tasks] == [False, True]
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    released.set()
    await clock.settle()
    assert tasks[0].done()
    del tasks
    gc.collect()
    assert complaints == []
    assert await cancel_all([])


async def test_a_cancellation_of_what_is_awaited_is_told_from_ones_own(clock: ManualClock) -> None:
    seen: list[bool] = []
    awaited: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def look() -> None:
        for waiting in (awaited, clock.sleep(60)):
            try:
                await waiting
            except asyncio.CancelledError:
                seen.append(is_cancelled())

    task = asyncio.ensure_future(look())
    await clock.settle()
    awaited.cancel()
    await clock.settle()
    task.cancel()
    await clock.settle()
    assert seen == [False, True]


async def test_what_foreign_code_cancels_begins_again_and_ends_when_it_is_told_to() -> None:
    loop, begun, complaints = asyncio.get_running_loop(), asyncio.Queue[int](), list[str]()
    owner.set(OURS)
    loop.set_task_factory(make_task)
    loop.set_exception_handler(lambda _, told: complaints.append(told["message"]))

    async def work() -> None:
        begun.put_nowait(1)
        await asyncio.sleep(60)

    try:
        task = asyncio.create_task(kept(work))
        for _ in range(3):
            await begun.get()
            asyncio.Task.cancel(task)
        await begun.get()
        assert len(complaints) == 3
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not ended_untold(task)
        stolen = asyncio.create_task(work())
        await begun.get()
        asyncio.Task.cancel(stolen)
        await asyncio.wait([stolen])
        assert ended_untold(stolen)
    finally:
        loop.set_task_factory(None)
        loop.set_exception_handler(None)
