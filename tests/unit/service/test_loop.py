"""The loop ends with its main coroutine, whatever else raises in it or stops it."""

from __future__ import annotations

import _thread
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from supervisor.handlers import foreign
from supervisor.handlers.foreign import foreign_context
from supervisor.service.loop import run_loop
from tests.support.observing import captured_logs, named

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


async def _exit() -> None:
    sys.exit(2)


async def _main(beats: list[int]) -> int:
    loop = asyncio.get_running_loop()
    # As a service does: from here on Ctrl-C raises nothing.
    loop.add_signal_handler(signal.SIGINT, lambda: None)

    async def beat() -> None:
        while True:
            beats.append(len(beats))
            await asyncio.sleep(0)

    def interrupt() -> None:
        raise KeyboardInterrupt

    other = asyncio.create_task(beat())
    for trouble in (lambda: loop.call_soon(sys.exit, 5), lambda: loop.call_soon(interrupt), loop.stop):
        trouble()
        before = len(beats)
        while len(beats) < before + 3:
            await asyncio.sleep(0)
    failed = asyncio.create_task(_exit())
    await asyncio.wait([failed])
    assert isinstance(failed.exception(), SystemExit)
    other.cancel()
    return 7


@LOOPS
def test_nothing_but_the_end_of_main_ends_it(new_loop: NewLoop) -> None:
    beats: list[int] = []
    with captured_logs() as lines:
        assert run_loop(_main(beats), new_loop) == 7
    assert len(beats) > 9
    assert [line["reason"] for line in named(lines, "loop_escape")] == ["SystemExit", "KeyboardInterrupt", "SystemExit"]
    assert len(named(lines, "loop_stopped")) == 1


@LOOPS
def test_what_main_raises_is_raised(new_loop: NewLoop) -> None:
    async def fail(error: BaseException) -> None:
        raise error

    for error in (ValueError("it"), SystemExit(3)):
        with pytest.raises(type(error)) as caught:
            run_loop(fail(error), new_loop)
        assert caught.value is error


@LOOPS
def test_ctrl_c_before_signals_are_handled_ends_it(new_loop: NewLoop) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await asyncio.sleep(60)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_loop(main(), new_loop)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_thread_cannot_interrupt_it() -> None:
    async def main() -> str:
        try:
            await asyncio.to_thread(_thread.interrupt_main)
        except RuntimeError as error:
            return str(error)
        return "interrupted"

    before = _thread.interrupt_main
    assert "nobody else's to interrupt" in run_loop(main())
    assert _thread.interrupt_main is before


@LOOPS
def test_foreign_code_decides_about_no_signal_that_ends_the_process(new_loop: NewLoop) -> None:
    heard: list[int] = []

    def take_over() -> None:
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        come = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, come.set)
        foreign_context("a1").run(take_over)
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await come.wait()
        heard.append(signal.SIGTERM)
        assert loop.remove_signal_handler(signal.SIGTERM)

    before, others = signal.signal, signal.getsignal(signal.SIGUSR2)
    with captured_logs() as lines:
        run_loop(main(), new_loop)
    assert heard == [signal.SIGTERM]
    assert [(line["signal"], line["agent"]) for line in named(lines, "signal_kept")] == [("SIGTERM", "a1")] * 3
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN, "its own are its own"
    assert signal.signal is before
    signal.signal(signal.SIGUSR2, others)


@LOOPS
def test_foreign_code_closes_nobody_elses_generators(new_loop: NewLoop) -> None:
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def main() -> int:
        others = numbers()
        await anext(others)
        with pytest.raises(RuntimeError, match="everybody's"):
            await foreign.call(asyncio.get_running_loop().shutdown_asyncgens(), "a handler", "work")
        assert not closed
        return await anext(others)

    assert run_loop(main(), new_loop) == 2
    assert closed, "the loop's own end closes them"
