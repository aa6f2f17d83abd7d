"""One message through its handler: settled once, tried again or given up, whatever the handler does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from supervisor.core.states import MessageState
from supervisor.handler import Permanent
from supervisor.messages.executor import STOP_REASON
from supervisor.messages.notices import APOLOGY, APOLOGY_TIMEOUT
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT, add
from tests.support.messaging import counted, until, worked, works
from tests.support.observing import captured_logs, named


async def echo(message: Any, ctx: Any) -> str:
    return f"Echo: {message.content}"


async def failing(message: Any, ctx: Any) -> str:
    raise ValueError("s3cret-of-ann is wrong")


async def test_a_message_is_settled_together_with_its_answer(scope: Scope, journal: Journal) -> None:
    row = await add(journal, "m1")
    async with works(scope, echo) as made:
        assert await worked(made.executor, row) is None
        assert (await made.row(row.id)).state is MessageState.DONE
        assert await made.said(row.id) == ["Echo: hello"]
        assert made.outbox.waiting == 1


async def test_a_failed_attempt_is_tried_again_later(scope: Scope, journal: Journal, clock: ManualClock) -> None:
    row = await add(journal, "m1")
    async with works(scope, failing, max_attempts=2) as made:
        assert await worked(made.executor, row) == clock.now() + 7.0
        kept = await made.row(row.id)
        assert (kept.state, kept.attempts) == (MessageState.RETRYABLE, 1)
        assert "ValueError: [redacted] is wrong" in (kept.error or "")
        assert str(made.profile.health) == "failing: ValueError: [redacted] is wrong"


async def test_after_the_last_attempt_it_is_a_dead_letter_and_the_person_is_told(
    scope: Scope, journal: Journal
) -> None:
    row = await add(journal, "m1")
    async with works(scope, failing, max_attempts=2) as made:
        await worked(made.executor, row)
        assert await worked(made.executor, row) is None
        assert (await made.row(row.id)).state is MessageState.DEAD
        assert await made.said(row.id) == [APOLOGY]


async def test_a_permanent_failure_is_not_tried_again(scope: Scope, journal: Journal) -> None:
    async def refuses(message: Any, ctx: Any) -> str:
        raise Permanent("never")

    row = await add(journal, "m1")
    async with works(scope, refuses, max_attempts=5) as made:
        assert await worked(made.executor, row) is None
        assert (await made.row(row.id)).state is MessageState.DEAD


async def test_nor_is_one_after_the_person_has_seen_a_part(scope: Scope, journal: Journal) -> None:
    async def breaks_off(message: Any, ctx: Any) -> AsyncIterator[str]:
        yield "once upon a time"
        raise ValueError("out of words")

    row = await add(journal, "m1")
    async with works(scope, breaks_off, max_attempts=5) as made:
        assert await worked(made.executor, row) is None
        assert await made.said(row.id) == ["once upon a time", APOLOGY]


async def test_a_handler_that_takes_too_long_is_stopped(scope: Scope, journal: Journal) -> None:
    async def hangs(message: Any, ctx: Any) -> None:
        await asyncio.Event().wait()

    row = await add(journal, "m1")
    async with works(scope, hangs, timeout_seconds=0.5) as made:
        with captured_logs() as lines:
            assert await worked(made.executor, row) is None
        [line] = named(lines, "handler_timeout")
        assert line["number"] == row.id
        assert "await asyncio.Event().wait()" in line["stack"]
        # Whoever finds the dead letter later sees it too, and the reason stays its last line.
        error = (await made.row(row.id)).error or ""
        assert "await asyncio.Event().wait()" in error
        assert error.strip().splitlines()[-1].endswith("HandlerTimeoutError: the handler took longer than 0.5 s")
        assert await made.said(row.id) == [APOLOGY_TIMEOUT]
        assert made.executor.abandoned == 0
    assert counted(scope.metrics, "supervisor_messages_handled_total", "outcome") == {"timeout": 1}


async def test_one_that_swallows_its_cancellation_is_left_behind_and_counted(scope: Scope, journal: Journal) -> None:
    may_end = asyncio.Event()

    async def stubborn(message: Any, ctx: Any) -> str:
        while not may_end.is_set():
            try:
                await may_end.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    row = await add(journal, "m1")
    async with works(scope, stubborn, timeout_seconds=0.5) as made:
        assert await worked(made.executor, row) is None
        assert made.executor.abandoned == 1
        assert counted(scope.metrics, "supervisor_watchdog_total", "watchdog") == {"handler_abandoned": 1}
        may_end.set()
        await until(lambda: made.executor.abandoned == 0)
        assert await made.said(row.id) == [APOLOGY_TIMEOUT], "what it made afterwards is discarded"


async def test_a_thread_that_goes_on_is_counted_until_it_returns(scope: Scope, journal: Journal) -> None:
    may_end = threading.Event()

    def blocks(message: Any, ctx: Any) -> str:
        may_end.wait(10)
        return "too late"

    row = await add(journal, "m1")
    async with works(scope, blocks, timeout_seconds=0.5) as made:
        assert await worked(made.executor, row) is None
        assert made.executor.abandoned == 1
        may_end.set()
        await until(lambda: made.executor.abandoned == 0)


async def test_an_answer_that_is_stopped_is_cancelled_for_good(scope: Scope, journal: Journal) -> None:
    begun = asyncio.Event()

    async def long(message: Any, ctx: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    row = await add(journal, "m1")
    async with works(scope, long) as made:
        working = asyncio.create_task(worked(made.executor, row))
        await begun.wait()
        assert not await made.executor.stop("elsewhere", row.id), "nothing runs there"
        assert not await made.executor.stop("c1", row.id - 1), "the message came after that"
        assert await made.executor.stop("c1", row.id)
        assert await working is None
        kept = await made.row(row.id)
        assert (kept.state, kept.error) == (MessageState.CANCELLED, STOP_REASON)
        assert await worked(made.executor, kept) is None
        assert await made.said(row.id) == []


@pytest.mark.parametrize("form", ["task", "thread"])
async def test_a_handler_that_hangs_is_seen_where_it_stands_and_cancelled(
    scope: Scope, journal: Journal, form: str
) -> None:
    begun, may_end = threading.Event(), threading.Event()

    async def in_a_task(message: Any, ctx: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    def in_a_thread(message: Any, ctx: Any) -> str:
        begun.set()
        may_end.wait(30)
        return "too late"

    row = await add(journal, "m1")
    async with works(scope, in_a_task if form == "task" else in_a_thread) as made:
        working = asyncio.create_task(worked(made.executor, row))
        await until(begun.is_set)
        await until(lambda: f"in_a_{form}" in made.executor.under_way.shown()[0].stack)
        [shown] = made.executor.under_way.shown()
        assert (shown.message, shown.attempt, shown.left_behind) == (row.id, 1, False)
        assert shown.stack.splitlines()[-1].strip().startswith(("fut", "await", "waiter", "gotit", "signaled"))
        assert await made.executor.cancel(await made.row(row.id), "by hand")
        assert await working is None
        kept = await made.row(row.id)
        assert (kept.state, kept.error) == (MessageState.CANCELLED, "by hand")
        assert made.executor.abandoned == (form == "thread")
        may_end.set()
        await until(lambda: not made.executor.under_way.shown())
        assert await made.said(row.id) == []


async def test_a_message_that_has_not_begun_is_cancelled_and_its_handler_never_runs(
    scope: Scope, journal: Journal
) -> None:
    row, claimed = await add(journal, "m1"), await add(journal, "m2", claim=True)
    async with works(scope, failing) as made:
        assert await made.executor.cancel(await made.row(row.id), "by hand")
        assert await worked(made.executor, row) is None, "it is in a lane and its turn comes"
        # Its turn comes in the moment in which it is cancelled.
        both = [made.executor.cancel(await made.row(claimed.id), "by hand"), worked(made.executor, claimed)]
        assert await asyncio.gather(*both) == [True, None]
        for one in (row, claimed):
            kept = await made.row(one.id)
            assert (kept.state, kept.error) == (MessageState.CANCELLED, "by hand")
            assert await made.said(one.id) == []


async def test_a_message_that_has_ended_is_not_cancelled(scope: Scope, journal: Journal) -> None:
    row = await add(journal, "m1")
    before = await journal.load(row.id)
    assert before is not None
    async with works(scope, echo) as made:
        await worked(made.executor, row)
        assert not await made.executor.cancel(before, "by hand")
        assert (await made.row(row.id)).state is MessageState.DONE


async def test_work_that_is_cut_short_gives_its_attempt_back(scope: Scope, journal: Journal) -> None:
    begun = asyncio.Event()

    async def long(message: Any, ctx: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    row = await add(journal, "m1")
    async with works(scope, long) as made:
        working = asyncio.create_task(worked(made.executor, row))
        await begun.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        kept = await made.row(row.id)
        assert (kept.state, kept.attempts) == (MessageState.AVAILABLE, 0)


async def test_an_answer_that_is_being_written_goes_out_also_when_its_work_is_cut_short(
    scope: Scope, journal: Journal
) -> None:
    row = await add(journal, "m1", claim=True)
    async with works(scope, echo) as made:
        working = asyncio.create_task(worked(made.executor, row))
        while not journal.waiting:
            await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert row.state is MessageState.DONE
        assert made.outbox.waiting == 1


async def test_a_handler_that_is_cancelled_from_within_has_failed(scope: Scope, journal: Journal) -> None:
    async def cancelled(message: Any, ctx: Any) -> None:
        raise asyncio.CancelledError

    row = await add(journal, "m1")
    async with works(scope, cancelled, max_attempts=3) as made:
        assert await worked(made.executor, row) is not None
        assert (await made.row(row.id)).state is MessageState.RETRYABLE


async def test_a_message_that_killed_the_process_too_often_is_given_up_unseen(scope: Scope, journal: Journal) -> None:
    await add(journal, "m1", claim=True)
    await journal.maintenance.rescue(AGENT)
    [row] = await journal.unsettled(AGENT, after_id=0, limit=10)
    async with works(scope, echo, max_attempts=1) as made:
        assert await worked(made.executor, row) is None
        kept = await made.row(row.id)
        assert (kept.error, kept.attempts) == ("given up after 1 attempt: the process died each time", 1)
        assert await made.said(row.id) == [APOLOGY]
