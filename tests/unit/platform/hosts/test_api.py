"""Requests to the platform's HTTP API over real HTTP: bounded in time and in size, their trouble in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.hosts.api import Answer, PlatformApi, endpoint_url
from tests.support.clock import ManualClock
from tests.support.token_server import TokenServer, token_server


@asynccontextmanager
async def api(clock: ManualClock, timeout_seconds: float = 10.0) -> AsyncIterator[tuple[PlatformApi, TokenServer]]:
    async with token_server() as server, aiohttp.ClientSession() as session:
        yield PlatformApi(session, clock, timeout_seconds=timeout_seconds), server


async def ask(made: PlatformApi, url: str, limit_bytes: int = 1000) -> Answer:
    return await made.request("POST", URL(url), limit_bytes=limit_bytes, proxy=None, json={})


async def test_an_answer_is_read_with_what_of_its_headers_is_read_later(clock: ManualClock) -> None:
    async with api(clock) as (made, server):
        headers = {"Retry-After": "7", "Set-Cookie": "secret=1", "Location": "/there"}
        server.answer = lambda _: web.json_response({"a": 1}, status=302, headers=headers)
        answer = await ask(made, f"{server.url}/x")
        assert (answer.status, answer.json(), answer.host) == (302, {"a": 1}, "127.0.0.1")
        assert {**answer.headers, "Date": ""} == {"Retry-After": "7", "Date": "", "Location": "/there"}
        assert answer.retry_after() == 7
        assert answer.now == clock.now()
        assert len(server.requests) == 1, "no redirect is followed"


@pytest.mark.parametrize(("size", "read"), [(1000, True), (1001, False)])
async def test_a_body_is_read_up_to_its_bound(clock: ManualClock, size: int, read: bool) -> None:
    async with api(clock) as (made, server):
        server.answer = lambda _: web.Response(body=b"x" * size)
        answer = await ask(made, f"{server.url}/x")
        assert (answer.body is not None) is read


async def test_one_that_takes_too_long_is_given_up(clock: ManualClock) -> None:
    async with api(clock, timeout_seconds=0.05) as (made, server):
        never = asyncio.Event()

        async def hang(_: web.Request) -> web.StreamResponse:
            await never.wait()
            return web.Response()

        server.answer = hang
        with pytest.raises(PlatformError) as caught:
            await ask(made, f"{server.url}/x")
        never.set()
    assert caught.value.verdict is Verdict.RETRY
    assert "127.0.0.1" in caught.value.reason
    assert caught.value.__context__ is None, "aiohttp's error holds the request with its headers"


async def test_nobody_there_is_said_by_the_hosts_name(clock: ManualClock) -> None:
    async with api(clock) as (made, _):
        with pytest.raises(PlatformError, match=r"127\.0\.0\.1"):
            await ask(made, "http://127.0.0.1:9/x")


@pytest.mark.parametrize(
    ("body", "said"),
    [(b'{"a": 1}', {"a": 1}), (b'{"a": "\\ud83d"}', {"a": "\ufffd"}), (b"<html>", None), (b"\xff", None), (None, None)],
)
def test_a_body_is_json_or_nothing(body: bytes | None, said: object) -> None:
    assert Answer("h", 200, {}, body, 0.0).json() == said


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        (("agents", "a b"), "https://one.example/api/agents/a%20b"),
        (("agents", "a/../b"), "https://one.example/api/agents/a%2F..%2Fb"),
        (("agents", "a?b#c"), "https://one.example/api/agents/a%3Fb%23c"),
    ],
)
def test_each_part_of_a_url_stays_one(parts: tuple[str, ...], url: str) -> None:
    assert str(endpoint_url("https://one.example/api/?x=1#y", *parts)) == url


@pytest.mark.parametrize("part", ["", ".", ".."])
def test_a_part_that_leads_elsewhere_is_refused(part: str) -> None:
    with pytest.raises(PlatformError) as caught:
        endpoint_url("https://one.example/api", "agents", part)
    assert caught.value.verdict is Verdict.REJECT


@pytest.mark.parametrize("api_url", ["one.example", "ftp://one.example", "https://", "http://[::1"])
def test_what_is_no_url_is_the_deployments_fault(api_url: str) -> None:
    with pytest.raises(PlatformError) as caught:
        endpoint_url(api_url, "agents")
    assert caught.value.verdict is Verdict.FAULT
