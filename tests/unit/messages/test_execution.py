"""One message from its claim to its end, where something cuts it short: it waits again and nothing of it is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervisor.core.states import MessageState
from supervisor.messages.lanes import INTERRUPTED
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.journaling import AGENT, add
from tests.support.messaging import until, works


async def echo(message: Any, ctx: Any) -> str:
    return f"Echo: {message.content}"


@pytest.mark.parametrize("claim", [True, False], ids=["claimed", "to be claimed"])
async def test_one_that_is_cancelled_as_it_begins_gives_its_attempt_back(
    scope: Scope, journal: Journal, claim: bool
) -> None:
    row = await add(journal, "m1", claim=claim)
    ended: list[float | None] = []
    async with works(scope, echo) as made:
        made.executor.begin(row, ended.append).cancel()
        await until(lambda: ended)
        kept = await made.row(row.id)
        assert (ended, kept.state, kept.attempts) == ([INTERRUPTED], MessageState.AVAILABLE, 0)
        assert made.executor.under_way.shown() == ()
        assert await made.said(row.id) == []
        made.executor.begin(row, ended.append)
        await until(lambda: len(ended) == 2)
        assert (ended[1], await made.said(row.id)) == (None, ["Echo: hello"])


async def test_what_foreign_code_cancels_past_its_guard_waits_again(scope: Scope, journal: Journal) -> None:
    async def stubborn(message: Any, ctx: Any) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if ended:
                    raise

    def stopping() -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if task.get_name() == f"message {AGENT}"]

    row = await add(journal, "m1", claim=True)
    ended: list[float | None] = []
    async with works(scope, stubborn, timeout_seconds=0.05) as made:
        made.executor.begin(row, ended.append)
        await until(stopping)
        for task in stopping():
            asyncio.Task.cancel(task)
        await until(lambda: ended)
        assert (ended, (await made.row(row.id)).state) == ([INTERRUPTED], MessageState.AVAILABLE)
        assert made.executor.abandoned == 1
        for shown in [task for task in asyncio.all_tasks() if task.get_name() == f"handler {AGENT}"]:
            shown.cancel()
        await until(lambda: made.executor.abandoned == 0)
