"""Where a handler stands: the stack of its task, or of the thread that it blocks. Source lines only, no values."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

#: The innermost frames of a stack; what matters is where it stands.
FRAMES: Final = 40
#: So many steps from one awaited object to the next: whoever awaits himself has no end.
_STEPS: Final = 200
#: The supervisor's own frames, which stand around every handler.
_OWN: Final = tuple(
    str(Path(__file__).parent.parent / room) for room in ("handlers", "messages/executor.py", "messages/attempt.py")
)
_Frame = tuple[types.FrameType, int]


def task_stack(task: asyncio.Task[Any]) -> str:
    """Where a task is suspended, the innermost line last; empty once it has ended."""
    return "" if task.done() else _format(list(_awaited(task.get_coro())))


def thread_stack(ident: int) -> str:
    """Where a thread is, the innermost line last; empty where there is none of that number."""
    frame = sys._current_frames().get(ident)
    return "" if frame is None else _format(list(traceback.walk_stack(frame))[::-1])


def _awaited(first: Any) -> Iterator[_Frame]:
    """The frames from a coroutine to what it awaits in the end."""
    awaited: Any = first
    for _ in range(_STEPS):
        if awaited is None:
            return
        for prefix, after in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
            if hasattr(awaited, after):
                frame = getattr(awaited, f"{prefix}_frame")
                if frame is not None:
                    yield frame, frame.f_lineno
                awaited = getattr(awaited, after)
                break
        else:
            awaited = _behind(awaited)


def _behind(awaited: Any) -> Any:
    """What an awaited object stands for: the generator of a step, the coroutine of a task; None at the end.

    The steps of an asynchronous generator do not tell whose they are; the garbage collector knows.
    """
    if isinstance(awaited, asyncio.Task):
        return None if awaited.done() else awaited.get_coro()
    if isinstance(awaited, asyncio.Future):
        return None
    for one in gc.get_referents(awaited):
        if isinstance(one, types.CoroutineType | types.AsyncGeneratorType | types.GeneratorType | asyncio.Task):
            return one
        if type(one).__name__ in ("async_generator_asend", "coroutine_wrapper", "anext_awaitable"):
            return one
    return None


def _format(frames: list[_Frame]) -> str:
    """Frames as a traceback has them, without our own around the handler's; all where there is none of a handler's."""
    first = next((place for place, (frame, _) in enumerate(frames) if not _is_own(frame)), 0)
    summary = traceback.StackSummary.extract(iter(frames[first:][-FRAMES:]), lookup_lines=False)
    return "".join(summary.format())


def _is_own(frame: types.FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(_OWN) or file == threading.__file__
