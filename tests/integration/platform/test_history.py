"""The platform's record of conversations over real sockets: pages, what is no page, how many are asked for at once."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from aiohttp import web

from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.history import ABSENT_SECONDS, MOST_PAGES, PAGE_BYTES, PlatformHistory
from supervisor.platform.hosts.agent_api import Access
from supervisor.protocol.history import HistoryPage
from tests.support.clock import ManualClock
from tests.support.token_server import (
    TokenServer,
    answering,
    answering_json,
    assert_secret_is_nowhere,
    client,
    recorded_answers,
    token_server,
)


@pytest.mark.parametrize(("version", "collection"), [("v1", "messages"), ("v2", "actions")])
async def test_a_page_as_recorded(version: str, collection: str) -> None:
    answers = {note: (status, body) for note, _, status, body in recorded_answers(f"{version}-rest.jsonl")}
    async with token_server() as server, client() as made:
        server.answer = answering_json(*answers["history"])
        page = await made.history.page(Access(f"{server.url}/base", "tok"), "c1", collection, number=2, limit=3)
        assert page is not None
        assert page.total == answers["history"][1]["total"]
        assert server.requests == [(f"/base/{collection}/conversation/c1?page=2&limit=3", None)]
        assert server.headers[0]["Authorization"] == "Bearer tok"
        server.answer = answering_json(*answers["history without token"])
        with pytest.raises(PlatformError) as failure:
            await made.history.page(Access(server.url, "tok"), "c1", collection)
        assert failure.value.verdict is Verdict.REAUTHENTICATE
        assert_secret_is_nowhere(failure.value)


async def test_a_history_that_does_not_exist_and_other_answers() -> None:
    async with token_server() as server, client() as made:

        async def ask() -> HistoryPage | None:
            return await made.history.page(Access(server.url, "tok"), "c1", "actions", limit=3)

        server.answer = answering(404, "<html>")
        assert await ask() is None
        assert server.requests[0][0] == "/actions/conversation/c1?page=1&limit=3"
        for answer, verdict in (
            (answering(403), Verdict.REJECT),
            (answering(429, "", Retry_After="7"), Verdict.RETRY),
            (answering(502), Verdict.RETRY),
            (answering(200, "<html>"), Verdict.RETRY),
            (answering_json(200, {"rows": []}), Verdict.RETRY),
        ):
            server.answer = answer
            with pytest.raises(PlatformError) as failure:
                await ask()
            assert failure.value.verdict is verdict
            assert failure.value.__context__ is None or failure.value.__suppress_context__


async def test_a_few_pages_are_asked_for_at_once() -> None:
    async with token_server() as server, client() as made:

        async def slowly(request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.02)
            return web.json_response({"data": []})

        server.answer = slowly
        access = Access(server.url, "t")
        await asyncio.gather(*(made.history.page(access, "c", "messages", number=n) for n in range(1, 51)))
        assert 2 <= server.most <= 10


class Records:
    """A platform that keeps conversations in the collections that it has."""

    def __init__(self, **collections: list[str]) -> None:
        self.collections = collections
        self.page_rows = 1000

    def answer(self, request: web.Request) -> web.StreamResponse:
        rows = self.collections.get(request.path.split("/")[1])
        if rows is None:
            return web.Response(status=404)
        page, limit = int(request.query["page"]), min(int(request.query["limit"]), self.page_rows)
        data = [{"_id": f"{n:024x}", "role": "user", "content": text} for n, text in enumerate(rows)]
        begin = (page - 1) * limit
        return web.json_response({"data": data[begin : begin + limit], "total": len(rows), "limit": limit})


async def told(history: PlatformHistory, server: TokenServer) -> list[list[str]]:
    """The pages of a conversation, as texts."""
    pages = history.backwards(Access(server.url, "tok"), "c1")
    return [[row.message.content for row in page] async for page in pages]


async def test_a_conversation_comes_backwards_page_by_page() -> None:
    records = Records(messages=[f"m{n}" for n in range(7)])
    records.page_rows = 3
    async with token_server() as server, client() as made:
        server.answer = records.answer
        assert await told(made.history, server) == [["m6"], ["m3", "m4", "m5"], ["m0", "m1", "m2"]]


async def test_the_second_collection_is_asked_where_the_first_is_empty_and_first_from_then_on() -> None:
    async with token_server() as server, client() as made:
        server.answer = Records(messages=[], actions=["hello"]).answer
        assert await told(made.history, server) == [["hello"]]
        before = len(server.requests)
        assert await told(made.history, server) == [["hello"]]
        assert [path.split("/")[1] for path, _ in server.requests[before:]] == ["actions"]


async def test_an_api_without_history_is_remembered_warned_about_once_and_asked_again_later(clock: ManualClock) -> None:
    async with token_server() as server, client() as made:
        history = PlatformHistory(made.agent_api, clock)
        server.answer = answering(404)
        with structlog.testing.capture_logs() as log:
            assert history.may_have(server.url)
            assert await asyncio.gather(*(told(history, server) for _ in range(3))) == [[], [], []]
        assert [entry["event"] for entry in log] == ["no_history"]
        assert not history.may_have(server.url)
        asked = len(server.requests)
        assert await told(history, server) == []
        assert len(server.requests) == asked
        await clock.advance(ABSENT_SECONDS)
        server.answer = Records(messages=["back"]).answer
        assert history.may_have(server.url)
        assert await told(history, server) == [["back"]]


@pytest.mark.parametrize("rows", [["hello"], []], ids=["rows", "nothing said yet"])
async def test_a_404_where_there_was_a_history_is_somebody_elses(rows: list[str]) -> None:
    async with token_server() as server, client() as made:
        server.answer = Records(messages=rows, actions=[]).answer
        await told(made.history, server)
        server.answer = answering(404)
        with pytest.raises(PlatformError, match="that was there answered 404"):
            await told(made.history, server)
        assert made.history.may_have(server.url)


async def test_a_history_without_end_is_read_for_so_many_pages_and_that_is_said(clock: ManualClock) -> None:
    """The case that made 1,825 requests in 20 s: a billion rows, and each page another hundred of them."""

    def endless(request: web.Request) -> web.StreamResponse:
        page = int(request.query["page"])
        data = [{"_id": f"{page:012x}{n:012x}", "role": "assistant", "content": "mine"} for n in range(100)]
        return web.json_response({"data": data, "total": 10**9, "limit": 100})

    cuts: list[None] = []
    async with token_server() as server, client() as made:
        history = PlatformHistory(made.agent_api, clock, on_cut=lambda: cuts.append(None))
        server.answer = endless
        with structlog.testing.capture_logs() as log:
            pages = await told(history, server)
        assert sum(map(len, pages)) == 100 * MOST_PAGES
        assert len(server.requests) == 1 + MOST_PAGES
    assert [(line["event"], line["conversation"]) for line in log] == [("history_cut", "c1")]
    assert len(cuts) == 1


async def test_pages_that_are_too_large_are_asked_for_in_smaller_ones() -> None:
    text = "x" * (PAGE_BYTES // 30)
    async with token_server() as server, client() as made:
        server.answer = Records(messages=[f"{n} {text}" for n in range(45)]).answer
        pages = await told(made.history, server)
        found = [content.split()[0] for page in reversed(pages) for content in page]
        assert found == [str(n) for n in range(45)]


async def test_the_newest_rows_that_do_not_fit_into_one_answer_are_found_page_by_page() -> None:
    async with token_server() as server, client() as made:
        server.answer = answering(200, "[" + " " * PAGE_BYTES + "]")
        assert await made.history.last(Access(server.url, "tok"), "c1", 50) is None
