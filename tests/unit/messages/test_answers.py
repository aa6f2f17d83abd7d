"""Answers that are stopped between two attempts, by a person or by an operator; the conversation goes on at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from supervisor.core.records import JournaledMessage
from supervisor.core.states import MessageState
from supervisor.messages.answers import Answers
from supervisor.messages.dispatcher import Dispatcher
from supervisor.messages.executor import STOP_REASON
from supervisor.messages.lanes import Lanes
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.journaling import AGENT, add
from tests.support.messaging import Works, until, works


async def fails_on_bad(message: Any, ctx: Any) -> str:
    if message.content == "bad":
        raise ValueError("not now")
    return "fine"


@asynccontextmanager
async def answering(scope: Scope) -> AsyncIterator[tuple[Works, Lanes, Answers]]:
    async def read(after_id: int, limit: int) -> list[JournaledMessage]:
        return await scope.journal.unsettled(AGENT, after_id=after_id, limit=limit)

    async with works(scope, fails_on_bad, max_attempts=9) as made:
        lanes = Lanes(Dispatcher(4), scope.clock, concurrency=lambda: 4, begin=made.executor.begin, refill=read)
        lanes.resume()
        try:
            yield made, lanes, Answers(scope, lanes, made.executor)
        finally:
            await lanes.close()


@pytest.mark.parametrize("by", ["person", "operator"])
async def test_one_between_its_attempts_is_stopped_and_the_next_goes_on(
    scope: Scope, journal: Journal, by: str
) -> None:
    bad, following = await add(journal, "m1", content="bad"), await add(journal, "m2", content="good")
    async with answering(scope) as (made, lanes, answers):
        lanes.put(bad)
        lanes.put(following)
        await until(lambda: lanes.between_attempts("c1") is not None)
        assert answers.under_way == ()
        assert not await answers.stop("c1", bad.id - 1)
        if by == "person":
            assert await answers.stop("c1", bad.id)
        else:
            assert await answers.cancel(await made.row(bad.id), "by hand")
        async with asyncio.timeout(10):
            while (await made.row(following.id)).state is not MessageState.DONE:
                await asyncio.sleep(0.005)
        kept = await made.row(bad.id)
        assert (kept.state, kept.error) == (
            MessageState.CANCELLED,
            STOP_REASON if by == "person" else "by hand",
        )


async def test_one_that_waits_behind_it_is_cancelled_and_the_first_stays(scope: Scope, journal: Journal) -> None:
    bad, unwanted = await add(journal, "m1", content="bad"), await add(journal, "m2", content="good")
    async with answering(scope) as (made, lanes, answers):
        lanes.put(bad)
        lanes.put(unwanted)
        await until(lambda: lanes.between_attempts("c1") is not None)
        assert await answers.cancel(await made.row(unwanted.id), "by hand")
        assert (await made.row(bad.id)).state is MessageState.RETRYABLE
        assert (await made.row(unwanted.id)).state is MessageState.CANCELLED
