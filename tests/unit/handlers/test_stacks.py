"""Where a handler stands, whatever it awaits and whatever thread it is in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import pytest

from supervisor.handlers.stacks import task_stack, thread_stack


async def waits_here(gate: asyncio.Event) -> None:
    await gate.wait()


async def calls(gate: asyncio.Event) -> None:
    await waits_here(gate)


async def yields(gate: asyncio.Event) -> AsyncIterator[str]:
    yield "so far"
    await waits_here(gate)


async def reads(gate: asyncio.Event) -> None:
    async for _ in yields(gate):
        pass


async def steps(gate: asyncio.Event) -> None:
    parts = aiter(yields(gate))
    while await anext(parts, None) is not None:
        pass


async def awaits_a_task(gate: asyncio.Event) -> None:
    await asyncio.create_task(waits_here(gate))


async def has_a_time_limit(gate: asyncio.Event) -> None:
    async with asyncio.timeout(60):
        await waits_here(gate)


class Awaitable:
    """Awaits by a generator, as libraries do."""

    def __init__(self, gate: asyncio.Event) -> None:
        self.gate = gate

    def __await__(self) -> Generator[Any, None, None]:
        yield from waits_here(self.gate).__await__()


async def by_a_generator(gate: asyncio.Event) -> None:
    await Awaitable(gate)


FORMS = [calls, reads, steps, awaits_a_task, has_a_time_limit, by_a_generator]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
async def test_a_task_is_followed_to_the_line_at_which_it_waits(
    form: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
) -> None:
    gate = asyncio.Event()
    task = asyncio.create_task(form(gate))
    for _ in range(5):
        await asyncio.sleep(0)
    stack = task_stack(task)
    places = [line.strip() for line in stack.splitlines() if line.startswith("  File")]
    assert places[0].endswith(f"in {form.__name__}")
    assert "await gate.wait()" in stack
    assert stack.index(form.__name__) < stack.index("await gate.wait()")
    gate.set()
    await task
    assert task_stack(task) == ""


async def test_whoever_awaits_many_is_shown_where_he_awaits_them() -> None:
    gate = asyncio.Event()

    async def gathers() -> None:
        await asyncio.gather(waits_here(gate), waits_here(gate))

    task = asyncio.create_task(gathers())
    await asyncio.sleep(0)
    assert "await asyncio.gather(" in task_stack(task)
    gate.set()
    await task


def test_a_thread_is_shown_where_it_blocks() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def blocks() -> None:
        begun.set()
        may_end.wait(30)

    thread = threading.Thread(target=blocks)
    thread.start()
    assert begun.wait(30)
    assert thread.ident is not None
    stack = thread_stack(thread.ident)
    assert stack.splitlines()[0].endswith("in blocks"), "what is around the handler is left out"
    may_end.set()
    thread.join()
    assert thread_stack(thread.ident) == ""


async def test_a_deep_stack_is_cut_to_its_innermost_frames() -> None:
    gate = asyncio.Event()

    async def deep(left: int) -> None:
        await (deep(left - 1) if left else waits_here(gate))

    task = asyncio.create_task(deep(100))
    await asyncio.sleep(0)
    stack = task_stack(task)
    assert "await gate.wait()" in stack
    assert stack.count("  File") <= 40
    gate.set()
    await task
