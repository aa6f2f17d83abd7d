"""One agent's view of the platform's history."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from supervisor.core.errors import PlatformError
from supervisor.messages.agent_history import AgentHistory
from supervisor.messages.scope import Scope
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.hosts.api_gate import ILL_FAILURES, NotAskedError
from supervisor.protocol.history import HistoryRow
from supervisor.store import Journal
from tests.support.journaling import add
from tests.support.messaging import HistoryServer, history_for, row_id
from tests.support.token_server import client, token_server


async def test_pages_come_from_the_newest_to_the_oldest(scope: Scope) -> None:
    async with history_for(scope) as (history, platform):
        for number in range(101):
            platform.add(str(number), at=1000.0 + number)
        async with aclosing(history.backwards("c1")) as pages:
            seen = [[row.message.content for row in page] async for page in pages]
        assert seen == [["100"], [str(number) for number in range(100)]]


async def test_without_a_token_it_may_exist_and_cannot_be_read(scope: Scope) -> None:
    async with history_for(scope, token="") as (history, _):
        assert history.may_exist
        assert not history.can_be_read


async def test_a_platform_without_one_is_remembered(scope: Scope) -> None:
    async with history_for(scope) as (history, platform):
        assert history.can_be_read
        platform.failures = [404, 404]
        async with aclosing(history.backwards("c1")) as pages:
            assert [page async for page in pages] == []
        assert not history.may_exist
        assert not history.can_be_read


async def test_whom_somebody_waits_for_is_asked_where_questions_at_leisure_are_not(scope: Scope) -> None:
    async with token_server() as server, client() as made:
        platform = HistoryServer(server)
        access = Access(platform.url, "tok")
        at_once, at_leisure = (
            AgentHistory(scope, made.history, lambda: access, at_leisure=one) for one in (False, True)
        )
        platform.add("hello", at=1000.0)
        platform.failures = [500] * ILL_FAILURES
        for _ in range(ILL_FAILURES):
            with pytest.raises(PlatformError, match="500"):
                await at_once.last("c1", 5)
        with pytest.raises(NotAskedError):
            await at_leisure.last("c1", 5)
        page = await at_once.last("c1", 5)
        assert page is not None
        assert [row.message.content for row in page.rows] == ["hello"]


async def test_rows_that_the_journal_has_are_known_by_their_ids(scope: Scope, journal: Journal) -> None:
    known = await add(journal, row_id(1))
    rows = [HistoryRow(row_id(number), None, known.message) for number in (1, 2)]
    async with history_for(scope) as (history, _):
        assert await history.journaled(rows) == {row_id(1)}
