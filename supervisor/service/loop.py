"""The event loop of the supervisor: nothing ends it but the end of its main coroutine (docs/faults.md#r25).

asyncio lets SystemExit and KeyboardInterrupt of any task or callback out of the loop, and ``loop.stop()`` ends it for
all. What was ready to run stays ready: the loop is begun again where it stood.
"""

from __future__ import annotations

import _thread
import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from supervisor.core.owners import OURS, make_task, owner, tasks_of_others_unseen
from supervisor.telemetry.logs import get_logger

T = TypeVar("T")


def run_loop(
    main: Coroutine[Any, Any, T], new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> T:
    """Run ``main`` to its end in a loop of its own, whatever else raises there or stops the loop.

    Raises:
        whatever ``main`` raises. KeyboardInterrupt: Ctrl-C came before ``main`` took over the signals.
    """
    log = get_logger("supervisor.service")
    with _ours(), _not_interrupted(), tasks_of_others_unseen(), asyncio.Runner(loop_factory=new_loop) as runner:
        loop = runner.get_loop()
        loop.set_task_factory(make_task)
        _keep_task_factory(loop)
        task = loop.create_task(main, name="main")
        task.add_done_callback(lambda _: loop.stop())
        while not task.done():
            try:
                loop.run_forever()
            except BaseException as error:
                if type(error) is KeyboardInterrupt and _interrupts_are_ours():
                    raise
                if not task.done():
                    log.error("loop_escape", reason=type(error).__name__, exc_info=error)
            else:
                if not task.done():
                    log.error("loop_stopped", reason="foreign code called loop.stop()")
        return task.result()


@contextmanager
def _ours() -> Iterator[None]:
    """All that the loop calls by itself is our own code; what other threads call is nobody's that is known."""
    before = owner.set(OURS)
    try:
        yield
    finally:
        owner.reset(before)


def _keep_task_factory(loop: asyncio.AbstractEventLoop) -> None:
    """Let nobody have all tasks made in another way."""

    def refuse(_factory: object) -> None:
        raise RuntimeError("the event loop is the supervisor's, and so is the way in which it makes tasks")

    loop.set_task_factory = refuse  # type: ignore[method-assign,assignment]


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Refuse ``_thread.interrupt_main()``, with which a thread would end the fleet as Ctrl-C does, in nobody's name."""

    def refuse(*_signal: int) -> NoReturn:
        raise RuntimeError("the supervisor's main thread is nobody else's to interrupt")

    before = _thread.interrupt_main
    _thread.interrupt_main = refuse
    try:
        yield
    finally:
        _thread.interrupt_main = before


def _interrupts_are_ours() -> bool:
    """Whether Ctrl-C still raises KeyboardInterrupt; once signals are handled, only foreign code raises it."""
    return signal.getsignal(signal.SIGINT) is signal.default_int_handler
