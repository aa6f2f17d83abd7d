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
from typing import Any, Final, NoReturn, TypeVar

from supervisor.core.owners import OURS, make_task, owner, tasks_of_others_unseen
from supervisor.service.default_threads import DefaultThreads
from supervisor.telemetry.logs import get_logger

T = TypeVar("T")
#: The signals that drain and end the process.
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_loop(
    main: Coroutine[Any, Any, T], new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> T:
    """Run ``main`` to its end in a loop of its own, whatever else raises there or stops the loop.

    Raises:
        whatever ``main`` raises. KeyboardInterrupt: Ctrl-C came before ``main`` took over the signals.
    """
    log = get_logger("supervisor.service")
    with (
        _ours(),
        _not_interrupted(),
        _signals_kept(),
        tasks_of_others_unseen(),
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        loop = runner.get_loop()
        loop.set_task_factory(make_task)
        _keep_task_factory(loop)
        _keep_signal_handlers(loop)
        _keep_generators(loop)
        DefaultThreads(loop)
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


def _keep_generators(loop: asyncio.AbstractEventLoop) -> None:
    """Let foreign code not close everybody's asynchronous generators, as a loop does at its end."""
    close = loop.shutdown_asyncgens

    async def close_at_the_end() -> None:
        if owner.get() != OURS:
            raise RuntimeError("the event loop is the supervisor's, and its asynchronous generators are everybody's")
        await close()

    loop.shutdown_asyncgens = close_at_the_end  # type: ignore[method-assign]


def _keep_signal_handlers(loop: asyncio.AbstractEventLoop) -> None:
    """Let foreign code neither take over nor take away the signals that end the process."""
    add, remove = loop.add_signal_handler, loop.remove_signal_handler

    def add_signal_handler(number: int, callback: Callable[..., object], *args: Any) -> None:
        if not _is_kept(number):
            add(number, callback, *args)

    def remove_signal_handler(number: int) -> bool:
        return not _is_kept(number) and remove(number)

    loop.add_signal_handler = add_signal_handler  # type: ignore[method-assign,assignment]
    loop.remove_signal_handler = remove_signal_handler  # type: ignore[method-assign,assignment]


@contextmanager
def _signals_kept() -> Iterator[None]:
    """The same for ``signal.signal()``: what a library sets there for its own main program is not done, and said."""
    before = signal.signal

    def set_signal(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if _is_kept(number) else before(number, handler)

    signal.signal = set_signal  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = before


def _is_kept(number: int) -> bool:
    """Whether the code that runs may not decide what becomes of a signal, which is logged."""
    who = owner.get()
    kept = number in _ENDING and who != OURS
    if kept:
        get_logger("supervisor.service").warning("signal_kept", signal=signal.Signals(number).name, agent=who or None)
    return kept


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
