"""What is done beside a connection: it ends with it, and one that foreign code ends is not missed in silence."""

from __future__ import annotations

import asyncio

import structlog

from supervisor.core.owners import make_task, own_context, owner
from supervisor.platform.chores import Chores
from tests.support.clock import ManualClock
from tests.support.messaging import until

AGENT = "a" * 24


async def test_all_of_them_end_together_and_none_begins_after_that() -> None:
    clock, ended = ManualClock(), list[str]()
    chores = Chores(AGENT, lambda: ended.append("broken"))
    waiting = chores.start(asyncio.Event().wait(), "wait")  # type: ignore[arg-type]
    chores.repeat(clock, lambda: 1.0, 1.0, "look", at_end=lambda: ended.append("rounds"))
    chores.at_end(lambda: ended.append("told"))
    await clock.advance(5)
    assert (waiting.get_name(), clock.sleepers, ended) == (f"wait {AGENT}", 1, [])
    await chores.end()
    await chores.end()
    assert (waiting.cancelled(), clock.sleepers, ended) == (True, 0, ["rounds", "told"])
    late = chores.start(asyncio.Event().wait(), "late")  # type: ignore[arg-type]
    chores.repeat(clock, lambda: 1.0, 1.0, "look", at_end=lambda: ended.append("late rounds"))
    chores.at_end(lambda: ended.append("late"))
    await asyncio.wait([late])
    assert (late.cancelled(), clock.sleepers, ended[2:]) == (True, 0, ["late rounds", "late"])


async def test_one_that_fails_is_logged_with_its_agent() -> None:
    async def fail() -> None:
        raise RuntimeError("no way")

    chores = Chores(AGENT, lambda: None)
    with structlog.testing.capture_logs() as log:
        await asyncio.wait([chores.start(fail(), "joins")])
        await until(lambda: bool(log))
    assert [(line["event"], line["agent"], line["chore"]) for line in log] == [
        ("chore_failed", AGENT, f"joins {AGENT}")
    ]
    await chores.end()


async def test_one_that_foreign_code_ends_breaks_the_connection() -> None:
    broken = asyncio.Event()
    chores = Chores(AGENT, broken.set)
    asyncio.get_running_loop().set_task_factory(make_task)
    token = owner.set("")
    try:
        inner = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await inner

        with structlog.testing.capture_logs() as log:
            own_context().run(chores.start, wait(), "holds")
            await asyncio.sleep(0)
            # As when what it awaits is cancelled by somebody else.
            inner.cancel()
            await asyncio.wait_for(broken.wait(), 10)
    finally:
        owner.reset(token)
        asyncio.get_running_loop().set_task_factory(None)
    assert [line["event"] for line in log] == ["chore_cancelled"]
    await chores.end()
