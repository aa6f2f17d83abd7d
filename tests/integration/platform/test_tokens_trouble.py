"""Token requests that get no answer, ones that must not be sent, how many there are at once, and history."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from supervisor.core.errors import TokenError, Verdict
from supervisor.platform.hosts.agent_api import Access
from tests.support.certificates import make_server_context
from tests.support.gateway import eventually, raw_server
from tests.support.token_server import (
    AGENT,
    SECRET,
    answering,
    answering_json,
    assert_secret_is_nowhere,
    client,
    token_server,
)
from tests.support.tunnels import connect_proxy


async def raw_failure(url: str, **options: Any) -> TokenError:
    proxy = options.pop("proxy", None)
    async with client(**options) as made:
        with pytest.raises(TokenError) as failure:
            await made.tokens.fetch(AGENT, url, SECRET, proxy=proxy)
        assert_secret_is_nowhere(failure.value)
        assert made.outcomes == ["retry"]
        assert failure.value.verdict is Verdict.RETRY
        return failure.value


async def test_connections_that_break_at_any_point() -> None:
    for data in (b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", b"SSH-2.0\r\n"):

        async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = data) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()

        async with raw_server(breaking) as address:
            assert "127.0.0.1" in (await raw_failure(f"http://{address}")).reason


async def test_an_answer_that_never_comes_or_never_ends() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    for handle in (silent, dripping):
        async with raw_server(handle) as address:
            error = await raw_failure(f"http://{address}", timeout_seconds=0.3)
            assert error.reason == "no answer from 127.0.0.1 within 0.3 s"


async def test_a_broken_encoding() -> None:
    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await reader.read()

    async with raw_server(liar) as address:
        assert "broke off the answer" in (await raw_failure(f"http://{address}")).reason


async def test_nobody_listens_no_such_name_and_no_proxy() -> None:
    async with token_server() as server:
        url = server.url
    assert "connection to 127.0.0.1 failed" in (await raw_failure(url)).reason
    assert (
        "the name nowhere.invalid cannot be resolved"
        in (await raw_failure("http://nowhere.invalid", timeout_seconds=20)).reason
    )
    assert "the proxy 127.0.0.1 cannot be reached" in (await raw_failure("http://api.invalid", proxy=url)).reason


async def test_tls(tmp_path: Path) -> None:
    context, _ = make_server_context(tmp_path)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    reason = (await raw_failure(f"https://localhost:{port}")).reason
    assert "certificate of localhost is not trusted" in reason
    assert "SUPERVISOR_CA_FILE" in reason
    server.close()
    await server.wait_closed()
    async with token_server() as plain:
        assert "TLS with 127.0.0.1 failed" in (await raw_failure(plain.url.replace("http", "https"))).reason


async def test_an_http_proxy_is_used() -> None:
    async with token_server() as server, client() as made:
        grant = await made.tokens.fetch(AGENT, "http://api.invalid/base", SECRET, proxy=server.url)
        assert grant.token
        assert server.headers[0]["Host"] == "api.invalid"


async def test_a_proxy_that_wants_a_password_gets_it_or_is_named(tmp_path: Path) -> None:
    async with token_server() as server, connect_proxy("ann", "p@s:s") as proxy, client() as made:
        assert (await made.tokens.fetch(AGENT, server.url, SECRET, proxy=proxy.url("ann", "p@s:s"))).token
        assert proxy.asked == ["POST"]
        for url in (server.url, "https://localhost:1"):
            error = await raw_failure(url, proxy=proxy.url("ann", "wr0ng"))
            assert error.reason.startswith("the proxy answered 407")
            assert "SUPERVISOR_PROXY" in error.reason
            assert "wr0ng" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("url", ["", "api", "ftp://host", "http://", "http://[", "//host"])
async def test_an_api_url_that_cannot_be_right(url: str) -> None:
    async with client() as made:
        with pytest.raises(TokenError, match="API_URL must be") as failure:
            await made.tokens.fetch(AGENT, url, SECRET)
        assert failure.value.verdict is Verdict.FAULT
        assert made.outcomes == ["fault"]


@pytest.mark.parametrize("secret", ["", "half \ud800"])
async def test_a_secret_that_cannot_be_right_is_not_sent(secret: str) -> None:
    async with token_server() as server, client() as made:
        with pytest.raises(TokenError) as failure:
            await made.tokens.fetch(AGENT, server.url, secret)
        assert failure.value.verdict is Verdict.FAULT
        assert server.requests == []


@pytest.mark.parametrize("agent_id", ["../../steal", "a/b?c#d", "ü %2e", "..%2f", "a\tb"])
async def test_an_id_is_one_segment_of_the_path_whatever_is_in_it(agent_id: str) -> None:
    async with token_server() as server, client() as made:
        await made.tokens.fetch(agent_id, f"{server.url}/base", SECRET)
        path = server.requests[0][0]
        assert path.startswith("/base/agents/")
        assert path.count("/") == 4
        assert path.endswith("/connect")


@pytest.mark.parametrize("agent_id", ["", ".", ".."])
async def test_an_id_that_would_lead_elsewhere_is_not_sent(agent_id: str) -> None:
    async with token_server() as server, client() as made:
        with pytest.raises(TokenError, match="malformed"):
            await made.tokens.fetch(agent_id, server.url, SECRET)
        assert server.requests == []


async def test_at_most_so_many_at_once_and_a_second() -> None:
    async with token_server() as server, client(at_once=3, rate=50.0) as made:

        async def slowly(request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.05)
            return server.grant(request)

        server.answer = slowly
        begun = time.monotonic()
        await asyncio.gather(*(made.tokens.fetch(AGENT, server.url, SECRET) for _ in range(20)))
        # Five passes are saved up; the others come at the rate that fills a second of fifty with them.
        assert time.monotonic() - begun >= 15 / 46
        assert 2 <= server.most <= 3


async def test_a_cancelled_request_is_broken_off() -> None:
    async with token_server() as server, client() as made:
        hang = asyncio.Event()

        async def hanging(request: web.Request) -> web.StreamResponse:
            await hang.wait()
            raise AssertionError

        server.answer = hanging
        fetch = asyncio.create_task(made.tokens.fetch(AGENT, server.url, SECRET))
        await eventually(lambda: server.running == 1)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        await eventually(lambda: server.running == 0)
        assert made.pool.active == 0
        assert made.outcomes == []


async def test_a_closed_pool_is_a_failure_like_another() -> None:
    async with token_server() as server, client() as made:
        await made.pool.close(0.1)
        with pytest.raises(TokenError, match="closed"):
            await made.tokens.fetch(AGENT, server.url, SECRET)


async def test_neither_secret_nor_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    async with token_server() as server, client() as made:
        grant = await made.tokens.fetch(AGENT, server.url, SECRET)
        server.answer = answering_json(200, {"data": []})
        assert await made.history.page(Access(server.url, grant.token), "c1", "messages") is not None
        server.answer = answering(500)
        with pytest.raises(TokenError):
            await made.tokens.fetch(AGENT, server.url, SECRET)
    asyncio.get_running_loop().set_debug(False)
    assert SECRET not in caplog.text
    assert grant.token not in caplog.text
