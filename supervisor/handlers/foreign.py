"""Code that is not ours: whatever it raises, stops or cancels, only its own message or agent fails by it.

Three holes are closed (docs/faults.md#r25). What is no ``Exception`` becomes one where we called (:func:`escaped`).
Such code cannot cancel the supervisor's tasks, nor another handler's (:class:`OwnedTask`). What escapes all the same,
from a callback or a child task, ends neither the event loop nor what runs in it (:mod:`supervisor.service.loop`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

from supervisor.core import owners
from supervisor.telemetry.failures import describe

_T = TypeVar("_T")
_Work: TypeAlias = Coroutine[Any, Any, _T] | Generator[Any, None, _T]


class EscapeError(RuntimeError):
    """Foreign code raised what is no ``Exception``: ``sys.exit()``, KeyboardInterrupt, a group of them, a panic."""


def escaped(error: BaseException, what: str) -> EscapeError:
    """The error to raise from one that is no ``Exception``; ``what`` names the code that raised it."""
    return EscapeError(f"{what} raised {describe(error)}")


def is_readable(error: BaseException) -> bool:
    """Whether one may ask what it is and where it comes from; an attribute may be its author's code."""
    try:
        return isinstance(error.__class__, type) and isinstance(error.__traceback__, TracebackType | None)
    except BaseException:  # noqa: BLE001  such code may raise anything
        return False


def contained(function: Callable[..., _T], *args: Any) -> _T:
    """Call foreign code outside the event loop, in a thread.

    Raises:
        whatever it raises that a future can carry; EscapeError for the rest, StopIteration among it.
    """
    try:
        return function(*args)
    except StopIteration as error:
        # A future cannot carry it.
        raise escaped(error, "the handler") from error
    except Exception:
        raise
    except BaseException as error:
        raise escaped(error, "the handler") from error


def foreign_context(owner: str) -> Context:
    """The caller's context, in which code of ``owner`` may run: what it starts is known as its own."""
    context = copy_context()
    context.run(owners.owner.set, owner)
    return context


async def call(work: Coroutine[Any, Any, _T], owner: str, name: str) -> _T:
    """Await foreign code in a task of its own, in which ``owner`` is known; cancelled, it is not waited for.

    Args:
        name: the task's.

    Raises:
        whatever ``work`` raises. EscapeError: it cancelled itself.
    """
    task = asyncio.create_task(work, name=name, context=foreign_context(owner))
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
    if task.cancelled():
        raise EscapeError(f"{name} was cancelled from within")
    return task.result()


class OwnedTask(asyncio.Task[_T]):
    """A task of the supervisor's or of a handler's. Foreign code that cancels all tasks reaches its own."""

    #: As :data:`supervisor.core.owners.owner` was where it began.
    whose: str = owners.OURS

    def cancel(self, msg: Any | None = None) -> bool:
        """As any task does, but for code that is neither ours nor its owner's.

        Code of which nobody knows whose it is, as in a thread of a handler's, may cancel what is not ours.
        """
        who = owners.owner.get()
        if who != owners.OURS and (self.whose == owners.OURS or who not in (None, self.whose)):
            code = f"the handler of {who}" if who else "code of an unknown thread or context"
            victim = f"a task of the handler of {self.whose}" if self.whose else "a task of the supervisor"
            self.get_loop().call_exception_handler({"message": f"{code} tried to cancel {victim}", "task": self})
            return False
        return super().cancel(msg)


def make_task(loop: asyncio.AbstractEventLoop, work: _Work[_T], **options: Any) -> asyncio.Task[_T]:
    """The event loop's task factory: each task knows whose code began it, where that is known.

    Args:
        options: what the loop gives a task beside its work, ``context`` among it; more of them in newer Pythons.
    """
    context: Context | None = options.get("context")
    whose = owners.owner.get() if context is None else context.get(owners.owner)
    if whose is None:
        return asyncio.Task(work, loop=loop, **options)
    task = OwnedTask(work, loop=loop, **options)
    task.whose = whose
    return task
