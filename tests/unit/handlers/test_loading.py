"""One thread loads at a time, and one that hangs keeps nobody else from it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from supervisor.handlers import DaemonThreads
from supervisor.handlers.loading import LoadingTurns, StillLoadingError

SECONDS = 10.0


def _load(turns: LoadingTurns, module: str, code: Callable[[], Any] = bool) -> Any:
    with turns.turn(module):
        return code()


def test_one_at_a_time() -> None:
    turns, threads = LoadingTurns(SECONDS), DaemonThreads(8, "loading")
    inside = threading.Lock()

    def alone() -> bool:
        with_me_alone = inside.acquire(blocking=False)
        threading.Event().wait(0.001)
        inside.release()
        return with_me_alone

    loads: list[Future[Any]] = [threads.submit(_load, turns, f"module{number % 3}", alone) for number in range(50)]
    assert all(load.result(SECONDS) for load in loads)
    threads.shutdown()


def test_one_that_hangs_is_passed_by_and_its_module_left_alone_until_it_is_back() -> None:
    turns, threads, release = LoadingTurns(0.05), DaemonThreads(8, "loading"), threading.Event()
    began = [threading.Event() for _ in range(2)]

    def hang(number: int) -> bool:
        began[number].set()
        return release.wait(SECONDS)

    stuck = []
    for number, event in enumerate(began):
        stuck.append(threads.submit(_load, turns, f"hangs{number}", lambda number=number: hang(number)))
        assert event.wait(SECONDS)
    beside = [threads.submit(_load, turns, module) for module in ("other", "hangs0", "hangs1", "other")]
    assert beside[0].result(SECONDS) is beside[3].result(SECONDS) is False
    for load in beside[1:3]:
        with pytest.raises(StillLoadingError):
            load.result(SECONDS)
    release.set()
    assert all(load.result(SECONDS) for load in stuck)
    assert _load(turns, "hangs0") is False
    threads.shutdown()
