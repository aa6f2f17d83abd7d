"""The token client over real sockets: every answer of PROTOCOL §1, and every trouble on the way."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from supervisor.errors import PlatformError, TokenError, Verdict
from supervisor.tokens import Grant
from tests.support.certificates import make_server_context
from tests.support.gateway import eventually, raw_server
from tests.support.token_server import AGENT, SECRET, client, jwt, recorded_answers, token_server

Answer = Callable[[web.Request], web.StreamResponse]


def answering(status: int, text: str = "", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _request: web.Response(status=status, text=text, headers=fields)


def answering_json(status: int, body: Any, **headers: str) -> Answer:
    return answering(status, json.dumps(body), Content_Type="application/json", **headers)


async def failure_of(answer: Answer, agent_id: str = AGENT) -> tuple[TokenError, list[str]]:
    async with token_server() as server, client() as made:
        server.answer = answer
        with pytest.raises(TokenError) as failure:
            await made.tokens.fetch(agent_id, server.url, SECRET)
        assert_secret_is_nowhere(failure.value)
        return failure.value, made.outcomes


def assert_secret_is_nowhere(error: PlatformError) -> None:
    assert SECRET not in "".join(traceback.format_exception(error))
    assert error.__context__ is None
    assert error.reason.isprintable()
    assert len(error.reason) < 400


# ── a token ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_token_as_recorded(version: str) -> None:
    _, request, status, answer = recorded_answers(f"{version}-rest.jsonl")[0]
    token = jwt(sub=AGENT)
    text = json.dumps(answer).replace("<jwt>", token)
    async with token_server() as server, client() as made:
        server.answer = answering(status, text)
        before = time.time()
        grant = await made.tokens.fetch(AGENT, f"{server.url}/dev/aiwm/", SECRET)
        assert server.requests == [
            (request.removeprefix("POST ").replace("/agents", "/dev/aiwm/agents"), {"secret": SECRET})
        ]
        assert server.headers[0]["Content-Type"] == "application/json"
        assert made.outcomes == ["ok"]
        assert made.hosts == ["127.0.0.1"]
    assert grant.token == token
    assert not grant.answer.instruction.configured
    assert grant.answer.mcp_servers["Builtin"]["headers"] == {"Authorization": f"Bearer {token}"}
    assert before <= grant.issued_at <= time.time()
    assert grant.expires_at == pytest.approx(grant.issued_at + 86400)
    assert grant.expires_at - 600 <= grant.refresh_at <= grant.expires_at - 300
    assert token not in repr(grant)


async def granted(answer: dict[str, Any], **options: Any) -> Grant:
    async with token_server() as server, client(**options) as made:
        server.answer = answering_json(201, {"accessToken": "opaque", **answer})
        return await made.tokens.fetch(AGENT, server.url, SECRET)


@pytest.mark.parametrize(
    ("answer", "life"),
    [
        ({"expiresIn": 3600}, 3600),
        ({}, 86400),
        ({"expiresIn": None}, 86400),
        ({"expiresIn": 0}, 86400),
        ({"expiresIn": -1}, 86400),
        ({"expiresIn": "3600"}, 86400),
        ({"expiresIn": 1e300}, 366 * 86400),
        ({"accessToken": jwt(iat=1000, exp=1600)}, 600),
        ({"accessToken": jwt(iat=1000, exp=1600), "expiresIn": 300}, 300),
        ({"accessToken": jwt(iat=1000, exp=1600), "expiresIn": 3600}, 600),
        ({"accessToken": jwt(iat=1600, exp=1000), "expiresIn": 3600}, 3600),
        ({"accessToken": jwt(exp="soon"), "expiresIn": 3600}, 3600),
        ({"accessToken": jwt(exp=1000), "expiresIn": 3600}, 3600),
        ({"accessToken": "a.b.c", "expiresIn": 3600}, 3600),
        ({"accessToken": "a.!!!!.c", "expiresIn": 3600}, 3600),
    ],
)
async def test_the_life_of_a_token(answer: dict[str, Any], life: float) -> None:
    grant = await granted(answer)
    assert grant.expires_at - grant.issued_at == pytest.approx(life)
    assert not grant.expired(grant.issued_at)
    assert grant.expired(grant.expires_at)


async def test_a_jwt_without_iat_is_held_against_our_clock() -> None:
    grant = await granted({"accessToken": jwt(exp=time.time() + 500), "expiresIn": 3600})
    assert grant.expires_at - grant.issued_at == pytest.approx(500, abs=5)


async def test_renewal_comes_between_one_and_two_margins_and_a_fifth_of_a_short_life_at_most() -> None:
    def lowest(low: float, _high: float) -> float:
        return low

    def highest(_low: float, high: float) -> float:
        return high

    for draw, factor in ((lowest, 1), (highest, 2)):
        grant = await granted({"expiresIn": 86400}, uniform=draw, refresh_margin_seconds=1000)
        assert grant.expires_at - grant.refresh_at == pytest.approx(1000 * factor)
        grant = await granted({"expiresIn": 100}, uniform=draw, refresh_margin_seconds=1000)
        assert grant.expires_at - grant.refresh_at == pytest.approx(20 * factor)


async def test_half_a_surrogate_pair_in_a_prompt_does_not_cost_the_token() -> None:
    async with token_server() as server, client() as made:
        server.answer = answering(201, r'{"accessToken":"t","instruction":{"id":"1","systemPrompt":"cut \ud83d"}}')
        grant = await made.tokens.fetch(AGENT, server.url, SECRET)
        assert grant.answer.instruction.system_prompt == "cut \ufffd"


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("note", "reason"),
    [
        ("wrong secret", "401 Invalid credentials"),
        ("missing secret", "400 Validation failed: secret must be a string, secret should not be empty"),
        ("unknown agent", "404 Agent with ID aaaaaaaaaaaaaaaaaaaaeeee not found"),
        ("suspended", "401 Agent is suspended"),
        ("no secret configured", "401 Agent has no secret configured"),
        ("deleted", "404 Agent with ID aaaaaaaaaaaaaaaaaaaaf005 not found"),
    ],
)
async def test_permanent_refusals_as_recorded(version: str, note: str, reason: str) -> None:
    status, body = next((s, a) for n, _, s, a in recorded_answers(f"{version}-rest.jsonl") if n == note)
    error, outcomes = await failure_of(answering_json(status, body))
    assert (error.verdict, error.reason, outcomes) == (Verdict.REJECT, reason, ["rejected"])


async def test_500_is_the_platforms_trouble_unless_the_id_is_malformed() -> None:
    status, body = next((s, a) for n, _, s, a in recorded_answers("v1-rest.jsonl") if n == "malformed id")
    error, outcomes = await failure_of(answering_json(status, body))
    assert (error.verdict, error.reason, outcomes) == (Verdict.RETRY, "500 Internal server error", ["retry"])
    error, outcomes = await failure_of(answering_json(status, body), "not-an-id")
    assert (error.verdict, outcomes) == (Verdict.REJECT, ["rejected"])
    assert "24 hex digits" in error.reason


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_without_the_platforms_words(status: int) -> None:
    error, _ = await failure_of(answering(status, "<html>no</html>"))
    assert (error.verdict, error.reason) == (Verdict.REJECT, f"127.0.0.1 answered {status}")


@pytest.mark.parametrize("status", [404, 405, 410, 418])
async def test_somebody_else_answers(status: int) -> None:
    error, _ = await failure_of(answering(status, "<html>not found</html>"))
    assert error.verdict is Verdict.REJECT
    assert "is API_URL right?" in error.reason


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 599])
async def test_transient_answers(status: int) -> None:
    error, outcomes = await failure_of(answering(status, "<html>busy</html>"))
    assert (error.verdict, error.retry_after_seconds, outcomes) == (Verdict.RETRY, None, ["retry"])
    assert str(status) in error.reason


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("12", 12, 12),
        ("0", 0, 0),
        ("999999999999", 3600, 3600),
        (1000, 900, 1000),
        (100_000, 3600, 3600),
        (-1000, 0, 0),
    ],
)
async def test_retry_after(status: int, header: str | int, low: float, high: float) -> None:
    if isinstance(header, int):
        header = formatdate(time.time() + header, usegmt=True)
    error, _ = await failure_of(answering(status, "", Retry_After=header))
    assert error.retry_after_seconds is not None
    assert low <= error.retry_after_seconds <= high


@pytest.mark.parametrize("header", ["soon", "-1", "1.5", "Mon, 99 Foo 2026 00:00:00 GMT", "١٢"])
async def test_a_retry_after_that_says_nothing(header: str) -> None:
    error, _ = await failure_of(answering(429, "", Retry_After=header))
    assert error.retry_after_seconds is None


@pytest.mark.parametrize(
    "text",
    [
        "<html>ok</html>",
        "",
        "null",
        "[]",
        '"token"',
        "{}",
        '{"accessToken":null}',
        '{"accessToken":""}',
        '{"accessToken":5}',
        '{"accessToken":"a b"}',
        '{"accessToken":"a\\nb"}',
        '{"accessToken":"é"}',
        "[" * 100_000,
        '{"accessToken":"cut',
    ],
)
async def test_a_good_status_without_a_token(text: str) -> None:
    error, outcomes = await failure_of(answering(201, text))
    assert (error.verdict, outcomes) == (Verdict.RETRY, ["retry"])
    assert "127.0.0.1" in error.reason


async def test_an_answer_that_is_too_large() -> None:
    error, _ = await failure_of(answering(200, "x" * (1024 * 1024 + 1)))
    assert (error.verdict, error.reason) == (Verdict.RETRY, "the answer of 127.0.0.1 is too large")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(301, Verdict.REJECT), (302, Verdict.RETRY), (303, Verdict.RETRY), (307, Verdict.RETRY), (308, Verdict.REJECT)],
)
async def test_redirects_are_not_followed(status: int, verdict: Verdict) -> None:
    async with token_server() as elsewhere, token_server() as server, client() as made:
        location = elsewhere.url.replace("127.0.0.1", "localhost")
        server.answer = answering(status, "", Location=location)
        with pytest.raises(TokenError, match=rf"{status}, a redirect to localhost; .* set API_URL") as failure:
            await made.tokens.fetch(AGENT, server.url, SECRET)
        assert failure.value.verdict is verdict
        assert elsewhere.requests == []


async def test_the_platforms_words_are_cleaned_and_bounded_and_never_hold_the_secret() -> None:
    message = f"bad \x00\x1b[31m\u202e secret {SECRET}\nand " + "x" * 5000
    error, _ = await failure_of(answering_json(401, {"message": message, "errors": [SECRET, 5, None]}))
    assert error.reason.startswith("401 bad [31m secret … and x")


# ── below HTTP ───────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── what cannot be right ─────────────────────────────────────────────────────────────────────────────────────────────


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


# ── how many, how fast ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_at_most_so_many_at_once_and_a_second() -> None:
    async with token_server() as server, client(at_once=3, rate=50.0, burst=1.0) as made:

        async def slowly(request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.05)
            return server.grant(request)

        server.answer = slowly
        begun = time.monotonic()
        await asyncio.gather(*(made.tokens.fetch(AGENT, server.url, SECRET) for _ in range(20)))
        assert time.monotonic() - begun >= 19 / 50
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
        await made.tokens.history(server.url, grant.token, "c1", page=1, limit=3)
        server.answer = answering(500)
        with pytest.raises(TokenError):
            await made.tokens.fetch(AGENT, server.url, SECRET)
    asyncio.get_running_loop().set_debug(False)
    assert SECRET not in caplog.text
    assert grant.token not in caplog.text


# ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_history_as_recorded(version: str) -> None:
    answers = {note: (status, body) for note, _, status, body in recorded_answers(f"{version}-rest.jsonl")}
    async with token_server() as server, client() as made:
        server.answer = answering_json(*answers["history"])
        page = await made.tokens.history(f"{server.url}/base", "tok", "c1", page=2, limit=3)
        assert page == answers["history"][1]
        assert server.requests == [("/base/messages/conversation/c1?page=2&limit=3", None)]
        assert server.headers[0]["Authorization"] == "Bearer tok"
        server.answer = answering_json(*answers["history without token"])
        with pytest.raises(PlatformError) as failure:
            await made.tokens.history(server.url, "tok", "c1", page=1, limit=3)
        assert failure.value.verdict is Verdict.REAUTHENTICATE
        assert_secret_is_nowhere(failure.value)


async def test_history_that_does_not_exist_and_other_answers() -> None:
    async with token_server() as server, client() as made:

        async def ask() -> Any:
            return await made.tokens.history(server.url, "tok", "c1", page=1, limit=3, collection="actions")

        server.answer = answering(404, "<html>")
        assert await ask() is None
        assert server.requests[0][0] == "/actions/conversation/c1?page=1&limit=3"
        for answer, verdict in (
            (answering(403), Verdict.REJECT),
            (answering(429, "", Retry_After="7"), Verdict.RETRY),
            (answering(502), Verdict.RETRY),
            (answering(200, "<html>"), Verdict.RETRY),
        ):
            server.answer = answer
            with pytest.raises(PlatformError) as failure:
                await ask()
            assert failure.value.verdict is verdict
            assert failure.value.__context__ is None


async def test_history_asks_for_a_few_pages_at_once() -> None:
    async with token_server() as server, client() as made:

        async def slowly(request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.02)
            return web.json_response({"data": []})

        server.answer = slowly
        await asyncio.gather(*(made.tokens.history(server.url, "t", "c", page=n, limit=1) for n in range(50)))
        assert server.most <= 10
