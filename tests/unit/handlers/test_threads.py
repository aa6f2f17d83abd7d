"""Threads for handlers that are plain functions: shared out, given up, and gone at the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeVarTuple, Unpack

import pytest

from supervisor.handlers import DaemonThreads, HandlerLoader, ThreadShare, TimeLimit
from supervisor.handlers.threads import call_in_loop
from tests.support.mounted import Write, answers

BLOCKING = """
import threading
release = threading.Event()
started = []
def on_message(message, ctx):
    started.append(threading.current_thread())
    release.wait(30)
    return "done"
"""


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def test_an_agent_has_a_share_of_the_threads(loader: HandlerLoader, write: Write) -> None:
    write("blocking.py", BLOCKING)
    write("plain.py", "def on_message(message, ctx): return 'plain'")
    blocked = [asyncio.ensure_future(answers(handler)) for handler in [loader.load("blocking")] * 20]
    blocking = sys.modules["supervisor_agents.blocking"]
    await until(lambda: len(blocking.started) == 4)
    assert await answers(loader.load("plain")) == ["plain"]
    assert len(blocking.started) == 4
    blocking.release.set()
    assert await asyncio.gather(*blocked) == [["done"]] * 20


@pytest.mark.parametrize(
    ("threads", "given", "share"), [(1, None, 1), (2, None, 1), (3, None, 1), (32, None, 16), (8, 3, 3), (8, 99, 7)]
)
def test_a_share_is_half_of_the_threads_or_as_given_and_never_all(
    folder: Path, write: Write, threads: int, given: int | None, share: int
) -> None:
    write("plain.py", "def on_message(message, ctx): return 'plain'")
    loader = HandlerLoader(folder, threads=threads, threads_per_agent=given)
    assert loader.load("plain").threads.size == share
    loader.close()


async def test_who_stops_waiting_for_a_thread_takes_none(folder: Path, write: Write) -> None:
    write("blocking.py", BLOCKING)
    loader = HandlerLoader(folder, threads=2)
    handler = loader.load("blocking")
    blocking = sys.modules["supervisor_agents.blocking"]
    first = asyncio.ensure_future(answers(handler))
    await until(lambda: blocking.started)
    waiting = [asyncio.ensure_future(answers(handler)) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting[:9]:
        task.cancel()
    await asyncio.wait(waiting[:9])
    assert all(task.cancelled() for task in waiting[:9])
    blocking.release.set()
    assert await first + await waiting[9] == ["done", "done"]
    assert len(blocking.started) == 2
    assert await answers(handler) == ["done"]
    loader.close()


async def test_a_thread_counts_for_its_agent_until_its_end_also_when_nobody_waits(folder: Path, write: Write) -> None:
    write("blocking.py", BLOCKING)
    loader = HandlerLoader(folder, threads=2)
    handler = loader.load("blocking")
    blocking = sys.modules["supervisor_agents.blocking"]
    left = asyncio.ensure_future(answers(handler))
    await until(lambda: blocking.started)
    left.cancel()
    await asyncio.wait([left])
    second = asyncio.ensure_future(answers(handler))
    done, _ = await asyncio.wait([second], timeout=0.1)
    assert not done
    assert len(blocking.started) == 1
    blocking.release.set()
    assert await second == ["done"]
    loader.close()


_Ts = TypeVarTuple("_Ts")


class _CountedLoop(asyncio.SelectorEventLoop):
    """Counts how often it was woken from outside."""

    woken = 0

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self.woken += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


def test_calls_in_the_loop_keep_their_order_and_only_a_thread_wakes_it() -> None:
    calls: list[tuple[int, int]] = []

    def call(number: int) -> None:
        call_in_loop(loop, lambda: calls.append((number, loop.woken)))

    async def main() -> None:
        call(1)
        assert loop.woken == 0
        thread = threading.Thread(target=call, args=[2])
        thread.start()
        thread.join()
        call(3)
        assert calls == []
        await asyncio.sleep(0)

    loop = _CountedLoop()
    loop.run_until_complete(main())
    loop.close()
    call(4)
    assert calls == [(1, 1), (2, 1), (3, 1)]


async def test_time_stands_still_while_a_handler_waits_for_a_thread() -> None:
    pool = DaemonThreads(1, "limited")
    share, release = ThreadShare(pool, 1), threading.Event()
    first, second, told = TimeLimit(60), TimeLimit(0.05), list[bool]()
    second.on_reached = lambda: told.append(waiting.done())
    blocked = asyncio.ensure_future(share.run(first, release.wait, 30))
    await until(lambda: first.thread and first.thread.running())
    waiting = asyncio.ensure_future(share.run(second, time.sleep, 0.3))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert (done, second.reached) == (set(), False)
    assert 0 < second.left <= 0.05
    release.set()
    await until(lambda: waiting.done() or second.reached)
    assert told == [waiting.done()] == [False]
    await asyncio.gather(blocked, waiting)
    assert not first.reached
    for limit in (first, second):
        limit.close()
        limit.go()
        limit.close()
    pool.shutdown()


def test_an_abandoned_thread_is_replaced_until_it_is_back() -> None:
    pool, release = DaemonThreads(1, "replaced", replaced=2), threading.Event()
    stuck: list[Future[Any]] = []
    for abandoned in range(3):
        stuck.append(pool.submit(release.wait, 30))
        assert wait_until(stuck[-1].running)
        assert pool.alive == abandoned + 1
        if abandoned < 2:
            pool.abandon(stuck[-1])
    assert pool.limit == 3
    waiting = pool.submit(int)
    pool.abandon(stuck[2])
    assert pool.limit == 3, "the bound"
    assert not waiting.done()
    release.set()
    assert waiting.result(5) == 0
    assert wait_until(lambda: pool.alive == 1)
    assert pool.limit == 1
    assert pool.submit(int).result(5) == 0
    pool.shutdown()


def test_what_waits_is_taken_at_once_when_a_thread_is_abandoned() -> None:
    pool, release = DaemonThreads(1, "replaced"), threading.Event()
    stuck = pool.submit(release.wait, 30)
    assert wait_until(stuck.running)
    waiting = [pool.submit(int) for _ in range(5)]
    pool.abandon(stuck)
    assert [future.result(5) for future in waiting] == [0] * 5
    release.set()
    assert wait_until(lambda: pool.alive == 1)
    pool.shutdown()


def test_abandoning_what_never_ran_or_is_done_changes_nothing() -> None:
    pool, release = DaemonThreads(1, "replaced"), threading.Event()
    running, queued = pool.submit(release.wait, 30), pool.submit(int)
    pool.abandon(queued)
    assert queued.cancelled()
    release.set()
    assert running.result(5)
    pool.abandon(running)
    assert pool.limit == 1
    assert pool.submit(int).result(5) == 0
    pool.shutdown()


def test_a_system_without_threads_to_spare_does_with_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, release = DaemonThreads(2, "scarce"), threading.Event()
    running = pool.submit(release.wait, 30)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        waiting = pool.submit(int)
        with pytest.raises(RuntimeError, match="new thread"):
            DaemonThreads(1, "none").submit(int)
    release.set()
    assert running.result(5)
    assert waiting.result(5) == 0
    pool.shutdown()


def test_what_waits_for_a_thread_is_cancelled_when_they_are_let_go() -> None:
    pool, release = DaemonThreads(1, "closing"), threading.Event()
    running, waiting = pool.submit(release.wait, 30), pool.submit(int)
    assert wait_until(running.running)
    pool.shutdown()
    assert waiting.cancelled()
    release.set()
    assert running.result(5)
    assert wait_until(lambda: pool.alive == 0)


def test_many_callers_at_once_lose_no_call() -> None:
    """Calls, abandonments and ends in every order: each call runs once, and the pool is what it was."""
    pool = DaemonThreads(3, "busy", replaced=4)
    ran: list[int] = []

    def call(number: int) -> int:
        time.sleep(0.0005 * (number % 3))
        ran.append(number)
        return number

    def caller(start: int) -> None:
        futures = [pool.submit(call, number) for number in range(start, start + 50)]
        for future in futures[::7]:
            if future.running():
                pool.abandon(future)
        assert [future.result(10) for future in futures] == list(range(start, start + 50))

    callers = ThreadPoolExecutor(8)
    list(callers.map(caller, range(0, 400, 50)))
    callers.shutdown()
    assert sorted(ran) == list(range(400))
    assert wait_until(lambda: pool.limit == 3 and pool.alive <= 3)
    pool.shutdown()
    assert wait_until(lambda: pool.alive == 0)


def wait_until(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + 5
    while not condition() and time.monotonic() < until:
        time.sleep(0.002)
    return condition()


def test_a_handler_that_blocks_does_not_keep_the_process_from_ending() -> None:
    code = """
    import threading
    from supervisor.handlers import DaemonThreads
    threads, running = DaemonThreads(2, "handler"), threading.Event()
    def block():
        running.set()
        threading.Event().wait()
    threads.submit(block)
    running.wait()
    threads.shutdown()
    """
    subprocess.run([sys.executable, "-c", dedent(code)], check=True, timeout=30)


def test_threads_are_reused_and_end_when_let_go() -> None:
    threads = DaemonThreads(3, "reused")
    names = {threads.submit(lambda: threading.current_thread().name).result(5) for _ in range(20)}
    assert len(names) <= 3
    with pytest.raises(LookupError):
        threads.submit({}.__getitem__, "x").result(5)
    threads.shutdown()
    with pytest.raises(RuntimeError, match="closed"):
        threads.submit(print)
    for thread in [t for t in threading.enumerate() if t.name.startswith("reused")]:
        thread.join(5)
        assert not thread.is_alive()


def test_a_thread_that_nothing_comes_for_ends_where_that_is_asked_for() -> None:
    pool = DaemonThreads(2, "idle", idle_seconds=0.02)
    for number in range(3):
        assert pool.submit(abs, -number).result(5) == number
        assert wait_until(lambda: pool.alive == 0)
    pool.shutdown()
