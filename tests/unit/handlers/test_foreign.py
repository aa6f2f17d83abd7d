"""Foreign code is contained where it is called, and what it starts does not reach the supervisor's own tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextvars import Context
from threading import Thread
from typing import Any

import pytest

from supervisor.core.owners import OURS, own_context, owner
from supervisor.handlers import foreign
from supervisor.handlers.foreign import EscapeError, OwnedTask, contained, foreign_context, is_readable, make_task


@pytest.fixture
async def complaints() -> Any:
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


async def test_a_foreign_call_that_cancels_itself_is_an_error_and_one_that_is_cancelled_is_not_waited_for() -> None:
    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    async def swallows() -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                swallowed.set()

    with pytest.raises(EscapeError, match="on_start was cancelled from within"):
        await foreign.call(cancels_itself(), "a1", "on_start")
    over, swallowed = asyncio.Event(), asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await foreign.call(swallows(), "a1", "on_start")
    async with asyncio.timeout(10):
        await swallowed.wait()
    over.set()


class Panic(BaseException):
    """What no Exception is."""


def test_what_a_future_cannot_carry_is_an_error_that_names_it() -> None:
    def fail(error: BaseException) -> Iterator[None]:
        raise error

    for error in (SystemExit(2), KeyboardInterrupt(), GeneratorExit(), Panic("rust"), StopIteration(1)):
        with pytest.raises(EscapeError, match=type(error).__name__) as caught:
            contained(fail, error)
        assert caught.value.__cause__ is error
    with pytest.raises(ValueError, match="as it is"):
        contained(fail, ValueError("as it is"))


class Untouchable(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(5)


def test_an_exception_whose_attributes_are_code_that_raises_is_not_readable() -> None:
    assert is_readable(ValueError("plain"))
    assert is_readable(SystemExit(1))
    assert not is_readable(Untouchable())
