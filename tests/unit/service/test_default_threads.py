"""What hangs in the default threads, or closes them, reaches its owner's alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from supervisor.handlers import foreign
from supervisor.service.loop import run_loop

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
NewLoop = Callable[[], asyncio.AbstractEventLoop]


async def _works() -> bool:
    """Whether a call in the default threads comes back."""
    async with asyncio.timeout(5):
        return await asyncio.to_thread(bool, 1)


def _of(owner: str, work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    return foreign.call(work, owner, "work")


@LOOPS
def test_one_that_hangs_in_all_of_them_stops_nobody_else(new_loop: NewLoop) -> None:
    release = threading.Event()

    async def hang() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            loop.run_in_executor(None, release.wait, 30)

    async def main() -> list[bool]:
        await _of("a", hang())
        return [await _works(), await _of("b", _works())]

    try:
        assert run_loop(main(), new_loop) == [True, True]
    finally:
        release.set()


@LOOPS
def test_one_that_closes_or_replaces_them_does_so_to_its_own(new_loop: NewLoop) -> None:
    async def close() -> None:
        await asyncio.get_running_loop().shutdown_default_executor()

    async def replace() -> str:
        with ThreadPoolExecutor(1, thread_name_prefix="mine") as mine:
            asyncio.get_running_loop().set_default_executor(mine)
            thread = await asyncio.to_thread(threading.current_thread)
        return thread.name

    async def main() -> None:
        assert await _of("a", _works())
        await _of("a", close())
        assert await _of("a", _works())
        assert (await _of("a", replace())).startswith("mine")
        with pytest.raises(RuntimeError, match="after shutdown"):
            await _of("a", _works())
        assert await _works()
        assert await _of("b", _works())

    run_loop(main(), new_loop)
