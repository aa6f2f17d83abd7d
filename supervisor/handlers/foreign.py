"""Code that is not ours: whatever it raises, stops or cancels, only its own message or agent fails by it.

Three holes are closed (docs/faults.md#r25). What is no ``Exception`` becomes one where we called (:func:`escaped`).
Such code neither sees nor cancels the supervisor's tasks, nor another handler's (:mod:`supervisor.core.owners`). What
escapes all the same, from a callback or a child task, ends neither the event loop nor what runs in it
(:mod:`supervisor.service.loop`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, TypeVar

from supervisor.core import owners
from supervisor.telemetry.failures import describe

_T = TypeVar("_T")


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
