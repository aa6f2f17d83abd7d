"""Whose code runs: ours, a handler's, or nobody's that is known, as in a thread that somebody has started.

Each task knows whose it is. Code that is not its owner's neither sees nor cancels it (docs/faults.md#r25).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, Final, TypeAlias, TypeVar

_T = TypeVar("_T")
_Work: TypeAlias = Coroutine[Any, Any, _T] | Generator[Any, None, _T]

#: What :data:`owner` is for the supervisor's own code.
OURS: Final = ""
#: Inherited by each task and callback that the code starts; a new thread begins without.
owner: ContextVar[str | None] = ContextVar("owner of the code that runs", default=None)


def own_context() -> Context:
    """A context in which nothing is known but that our own code runs."""
    context = Context()
    context.run(owner.set, OURS)
    return context


class OwnedTask(asyncio.Task[_T]):
    """A task of the supervisor's or of a handler's. Foreign code that cancels all tasks reaches its own."""

    #: As :data:`owner` was where it began.
    whose: str = OURS
    #: How often it was cancelled by code that may, and that was not taken back.
    _told: int = 0

    def cancel(self, msg: Any | None = None) -> bool:
        """As any task does, but for code that is neither ours nor its owner's.

        Code of which nobody knows whose it is, as in a thread of a handler's, may cancel what is not ours.
        """
        if not self.is_open_to(who := owner.get()):
            code = f"the handler of {who}" if who else "code of an unknown thread or context"
            victim = f"a task of the handler of {self.whose}" if self.whose else "a task of the supervisor"
            self.get_loop().call_exception_handler({"message": f"{code} tried to cancel {victim}", "task": self})
            return False
        cancelled = super().cancel(msg)
        self._told += cancelled
        return cancelled

    def uncancel(self) -> int:
        """As any task does."""
        self._told = max(0, self._told - 1)
        return super().uncancel()

    def is_open_to(self, who: str | None) -> bool:
        """Whether code of ``who`` may cancel it."""
        return who == OURS or (self.whose != OURS and who in (None, self.whose))

    def is_told_to_end(self) -> bool:
        """Whether code that may has cancelled it; what else did, past :meth:`cancel`, is taken back."""
        while self.cancelling() > self._told:
            super().uncancel()
        return self._told > 0


def make_task(loop: asyncio.AbstractEventLoop, work: _Work[_T], **options: Any) -> asyncio.Task[_T]:
    """The event loop's task factory: each task knows whose code began it, where that is known.

    Args:
        options: what the loop gives a task beside its work, ``context`` among it; more of them in newer Pythons.
    """
    context: Context | None = options.get("context")
    whose = owner.get() if context is None else context.get(owner)
    if whose is None:
        return asyncio.Task(work, loop=loop, **options)
    task = OwnedTask(work, loop=loop, **options)
    task.whose = whose
    return task


@contextmanager
def tasks_of_others_unseen() -> Iterator[None]:
    """Have ``asyncio.all_tasks()`` show to code that is not ours what it may cancel.

    ``asyncio.Task.cancel(task)``, called on the class, asks no task whether it may be cancelled.
    """
    every = asyncio.all_tasks

    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
        who = owner.get()
        return {task for task in every(loop) if not isinstance(task, OwnedTask) or task.is_open_to(who)}

    asyncio.all_tasks = asyncio.tasks.all_tasks = all_tasks
    try:
        yield
    finally:
        asyncio.all_tasks = asyncio.tasks.all_tasks = every
