"""Whether a doubtful reply arrived, as the platform's history tells; in doubt it did not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog

from supervisor.core.records import NewReply, Reply
from supervisor.core.states import ReplyState
from supervisor.messages.delivery_check import DeliveryCheck
from supervisor.messages.notices import FULL_NOTICE
from supervisor.messages.reply_ids import with_reply_id
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.messaging import HistoryServer, history_for


@pytest.fixture
async def platform(scope: Scope) -> AsyncIterator[tuple[DeliveryCheck, HistoryServer]]:
    async with history_for(scope) as (history, server):
        yield DeliveryCheck(history), server


Asked = tuple[DeliveryCheck, HistoryServer]


async def reply(journal: Journal, content: str = "hi", key: str = "m1") -> Reply:
    [made] = await settle(journal, await add(journal, key, claim=True), answer(content))
    return made


async def test_a_reply_that_is_there_by_what_it_says(platform: Asked, journal: Journal) -> None:
    was_delivered, server = platform
    made = await reply(journal)
    assert not await was_delivered(made)
    server.add("hello", at=made.created_at - 1)
    server.add("hi", at=made.created_at, by=AGENT)
    assert await was_delivered(made)


async def test_a_reply_that_is_there_by_its_id(platform: Asked, journal: Journal) -> None:
    was_delivered, server = platform
    said = answer("hi").message
    new = NewReply(0, with_reply_id(said, await add(journal, "m1"), 0))
    made = await journal.add_reply(AGENT, None, new)
    server.add("something else that the platform made of it", at=0.0, by=AGENT, _id=made.message.id)
    assert await was_delivered(made)


async def test_an_earlier_reply_that_said_the_same_is_another_one(platform: Asked, journal: Journal) -> None:
    was_delivered, server = platform
    first = await reply(journal, key="m1")
    await journal.settle_reply(first, ReplyState.ACKED, None)
    second = await reply(journal, key="m2")
    server.add("hello", at=first.created_at)
    server.add("hi", at=first.created_at, by=AGENT)
    assert not await was_delivered(second)
    server.add("hi", at=second.created_at, by=AGENT)
    assert await was_delivered(second)


async def test_a_notice_that_the_inbox_is_full_is_no_reply(platform: Asked, journal: Journal) -> None:
    was_delivered, server = platform
    made = await reply(journal)
    server.add("hello", at=made.created_at)
    server.add("hi", at=made.created_at, by=AGENT)
    server.add(FULL_NOTICE, at=made.created_at, by=AGENT)
    assert await was_delivered(made)


async def test_in_doubt_it_was_not(platform: Asked, journal: Journal) -> None:
    was_delivered, server = platform
    made = await reply(journal)
    server.failures = [500]
    with structlog.testing.capture_logs() as log:
        assert not await was_delivered(made)
    assert [line["event"] for line in log] == ["delivery_not_checked"]


async def test_an_agent_without_a_token_asks_nobody(scope: Scope, journal: Journal) -> None:
    made = await reply(journal)
    async with history_for(scope, token="") as (history, server):
        assert not await DeliveryCheck(history)(made)
        assert server.asked == 0
