"""Tasks that run beside something else, and work that a cancellation must not cut in two."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextvars import Context
from typing import Any, Final, TypeVar

from supervisor.core.owners import OwnedTask

_T = TypeVar("_T")

#: How long what was cancelled may take for what it does at its end.
UNWIND_SECONDS: Final = 5.0
#: How long something waits that begins again: code that cancels it each time is not to hold the loop.
AGAIN_SECONDS: Final = 0.05


class TaskSet:
    """Tasks of one owner. The event loop keeps only weak references: a task that nobody owns may vanish."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        # Made with the first task: an agent has ten of these, and most have none.
        self._tasks: set[asyncio.Task[None]] | None = None

    def spawn(
        self, work: Coroutine[Any, Any, None], name: str, *, context: Context | None = None
    ) -> asyncio.Task[None]:
        """Start ``work`` as a task; the set forgets it once it has ended.

        Args:
            context: what the task runs in; a copy of the caller's by default.
        """
        task = asyncio.create_task(work, name=name, context=context)
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def __len__(self) -> int:
        """How many have not ended."""
        return len(self._tasks or ())

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        """Those that have not ended, as they are now."""
        return iter(list(self._tasks or ()))

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for those that run now, for ``timeout`` seconds at most if given; whether none is left."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)
        return not self._tasks

    async def cancel(self) -> None:
        """Cancel those that run now and wait for their ends, as :func:`cancel_all` does."""
        await cancel_all(self)


async def cancel_all(tasks: Iterable[asyncio.Future[Any]], seconds: float = UNWIND_SECONDS) -> bool:
    """Cancel ``tasks`` and wait for their ends, for so long at most; whether all have ended.

    What they raise is dropped. One that swallows its cancellation is left behind: nothing of ours ends later for it
    (docs/faults.md#r26).
    """
    own = list(tasks)
    for task in own:
        task.cancel()
        # Also of those that end later: asyncio complains of an error that nobody asks for.
        task.add_done_callback(_drop_error)
    if not own:
        return True
    return not (await asyncio.wait(own, timeout=seconds))[1]


def _drop_error(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def first_done(*futures: asyncio.Future[Any], within: float | None = None) -> None:
    """Return once one of them is done, or so many seconds are over; none of them is cancelled.

    ``asyncio.wait()`` takes three times the calls for that, and an agent waits so five times on its way online.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def end(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    timer = None if within is None else loop.call_later(within, end)
    for one in futures:
        one.add_done_callback(end)
    try:
        await over
    finally:
        if timer is not None:
            timer.cancel()
        for one in futures:
            one.remove_done_callback(end)


async def first_of(*work: Awaitable[Any], beside: Iterable[asyncio.Future[Any]] = ()) -> None:
    """Return once one of them is done; which one, and how it ended, the caller sees elsewhere.

    Args:
        work: cancelled when one of all is done, or the caller is cancelled.
        beside: goes on, whatever happens here.
    """
    own = [asyncio.ensure_future(one) for one in work]
    try:
        await first_done(*beside, *own)
    finally:
        for one in own:
            one.cancel()
        await asyncio.gather(*own, return_exceptions=True)


async def to_the_end(work: Awaitable[_T]) -> _T:
    """Await ``work`` to its end, also when the caller is cancelled meanwhile; then the cancellation goes on.

    A future goes on by itself: only for a coroutine a task is made.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            # Retrieved, because asyncio complains of an error that nobody asks for.
            task.exception()
        raise


async def kept(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run ``work`` to its end, from the start again where something cancels it that may not (docs/faults.md#r25)."""
    again = False
    while True:
        try:
            if again:
                await asyncio.sleep(AGAIN_SECONDS)
            return await work()
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            again, task = True, asyncio.current_task()
            what = "a task of the supervisor was cancelled by code that may not, and begins again"
            asyncio.get_running_loop().call_exception_handler({"message": what, "task": task})


def awaited() -> tuple[asyncio.Future[Any], Callable[[Any, BaseException | None], None]]:
    """A future, and a callback that brings it a result or an error; one whose caller has gone is left alone."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def then(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    return future, then


def ended_untold(task: asyncio.Task[Any]) -> bool:
    """Whether a task that is done was cancelled by nobody who may: by foreign code, or something that it awaited."""
    return task.cancelled() and isinstance(task, OwnedTask) and not task.is_told_to_end()


def is_cancelled() -> bool:
    """Whether somebody who may cancels the running task, rather than foreign code, or something that it awaits."""
    task = asyncio.current_task()
    if isinstance(task, OwnedTask):
        return task.is_told_to_end()
    return task is None or bool(task.cancelling())
