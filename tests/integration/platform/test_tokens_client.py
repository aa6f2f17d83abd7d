"""The token client over real sockets: every answer that was seen (docs/protocol.md#1-tokens), and others."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from supervisor.core.clock import SystemClock
from supervisor.core.errors import TokenError, Verdict
from supervisor.platform.tokens import Grant
from tests.support.token_server import (
    AGENT,
    SECRET,
    answering,
    answering_json,
    client,
    failure_of,
    jwt,
    recorded_answers,
    token_server,
)


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
    assert grant.token == token
    assert not grant.answer.instruction.configured
    assert grant.answer.mcp_servers["Builtin"]["headers"] == {"Authorization": f"Bearer {token}"}
    assert before <= grant.asked.wall <= time.time()
    assert grant.expires_at == pytest.approx(grant.asked.wall + 86400)
    assert grant.life_seconds - 600 <= grant.refresh_seconds <= grant.life_seconds - 300
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
        ({"accessToken": jwt(exp="soon"), "expiresIn": 3600}, 3600),
        ({"accessToken": "a.b.c", "expiresIn": 3600}, 3600),
        ({"accessToken": "a.!!!!.c", "expiresIn": 3600}, 3600),
    ],
)
async def test_the_life_of_a_token(answer: dict[str, Any], life: float) -> None:
    grant = await granted(answer)
    assert grant.life_seconds == pytest.approx(life)
    assert not grant.expired(SystemClock())
    assert grant.expired(SystemClock(), within=life)


@pytest.mark.parametrize(
    ("issued_ago", "left", "expires_in", "life"),
    [
        # The token is new: what it says of its life counts from now.
        (0, 600, None, 600),
        (0, 600, 300, 300),
        (0, 600, 3600, 600),
        (0, 1e9, 3600, 3600),
        # So it is where the clocks differ by some minutes, either way, even where ours says that it is over.
        (500, 100, None, 600),
        (500, -200, None, 300),
        (-500, 1100, None, 600),
        # It is old, as one that the platform gives twice, or the clocks differ by more than one can tell.
        (43_200, 43_200, None, 43_200),
        (43_200, 43_200, 86_400, 43_200),
        (43_200, 43_200, 600, 600),
        (-7200, 9000, 1800, 1800),
        # Nobody says when it was issued.
        (None, 500, 3600, 500),
    ],
)
async def test_a_tokens_life_is_the_sooner_of_what_is_said_and_what_is_left(
    issued_ago: float | None, left: float, expires_in: float | None, life: float
) -> None:
    now = time.time()
    token = jwt(exp=now + left) if issued_ago is None else jwt(exp=now + left, iat=now - issued_ago)
    grant = await granted({"accessToken": token, "expiresIn": expires_in})
    assert grant.life_seconds == pytest.approx(life, abs=5)


@pytest.mark.parametrize("claims", [{"iat": 10, "exp": -10}, {"iat": 0, "exp": 0}])
async def test_a_token_that_has_expired_already_is_none(claims: dict[str, float]) -> None:
    now = time.time()
    token = jwt(**{name: now + seconds for name, seconds in claims.items()})
    error, outcomes = await failure_of(answering_json(201, {"accessToken": token, "expiresIn": 86_400}))
    assert (error.verdict, outcomes) == (Verdict.RETRY, ["retry"])
    assert "gave a token that has expired already" in error.reason
    assert token not in str(error)


@pytest.mark.parametrize("life", [0.001, 0.5, 1, 2, 10])
async def test_a_short_lived_token_is_not_renewed_in_a_tight_loop(life: float) -> None:
    for draw in (min, max):
        grant = await granted({"expiresIn": life}, uniform=draw)
        assert grant.refresh_seconds >= max(1.0, life / 2) - 1e-6


async def test_renewal_comes_between_one_and_two_margins_and_a_fifth_of_a_short_life_at_most() -> None:
    def lowest(low: float, _high: float) -> float:
        return low

    def highest(_low: float, high: float) -> float:
        return high

    for draw, factor in ((lowest, 1), (highest, 2)):
        grant = await granted({"expiresIn": 86400}, uniform=draw, refresh_margin_seconds=1000)
        assert grant.life_seconds - grant.refresh_seconds == pytest.approx(1000 * factor)
        assert grant.life_seconds - grant.stale_seconds == pytest.approx(500)
        grant = await granted({"expiresIn": 100}, uniform=draw, refresh_margin_seconds=1000)
        assert grant.life_seconds - grant.refresh_seconds == pytest.approx(20 * factor)
        assert grant.life_seconds - grant.stale_seconds == pytest.approx(10)


async def test_half_a_surrogate_pair_in_a_prompt_does_not_cost_the_token() -> None:
    async with token_server() as server, client() as made:
        server.answer = answering(201, r'{"accessToken":"t","instruction":{"id":"1","systemPrompt":"cut \ud83d"}}')
        grant = await made.tokens.fetch(AGENT, server.url, SECRET)
        assert grant.answer.instruction.system_prompt == "cut \ufffd"


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


@pytest.mark.parametrize("status", [404, 405, 410])
async def test_where_one_form_of_the_request_is_gone_the_other_is_asked_and_remembered(status: int) -> None:
    path, body = (f"/agents/{AGENT}/connect", {"secret": SECRET}), ("/agents/connect", {"id": AGENT, "secret": SECRET})
    async with token_server() as server, client() as made:
        gone = f"/agents/{AGENT}/connect"

        def answer(request: web.Request) -> web.StreamResponse:
            if request.path != gone:
                return server.grant(request)
            return web.json_response({"statusCode": status, "message": f"Cannot POST {gone}"}, status=status)

        server.answer = answer
        for _ in range(2):
            await made.tokens.fetch(AGENT, server.url, SECRET)
        assert server.requests == [path, body, body]
        assert made.outcomes == ["ok", "ok"], "one need is one request to the metrics"
        # The platform is rolled back.
        gone = "/agents/connect"
        for _ in range(2):
            await made.tokens.fetch(AGENT, server.url, SECRET)
        assert server.requests[3:] == [body, path, path]


async def test_where_tokens_were_given_a_404_is_the_trouble_of_a_moment() -> None:
    """As while the platform restarts behind a proxy: that is no reason to leave a fleet alone for minutes."""
    async with token_server() as server, client() as made:
        await made.tokens.fetch(AGENT, server.url, SECRET)
        server.answer = answering(404, "<html>not found</html>")
        for url, verdict in ((server.url, Verdict.RETRY), (f"{server.url}/elsewhere", Verdict.REJECT)):
            with pytest.raises(TokenError, match="is API_URL right") as failure:
                await made.tokens.fetch(AGENT, url, SECRET)
            assert failure.value.verdict is verdict
        assert made.outcomes == ["ok", "retry", "rejected"]
        # What the platform itself says of an agent is not doubted.
        server.answer = answering_json(404, {"statusCode": 404, "message": f"Agent with ID {AGENT} not found"})
        with pytest.raises(TokenError) as failure:
            await made.tokens.fetch(AGENT, server.url, SECRET)
        assert failure.value.verdict is Verdict.REJECT


async def test_an_agent_that_is_not_known_is_asked_for_once() -> None:
    async with token_server() as server, client() as made:
        message = f"Agent with ID {AGENT} not found"
        server.answer = answering_json(404, {"statusCode": 404, "message": message})
        with pytest.raises(TokenError, match=message) as failure:
            await made.tokens.fetch(AGENT, server.url, SECRET)
        assert (failure.value.verdict, len(server.requests)) == (Verdict.REJECT, 1)


@pytest.mark.parametrize("status", [402, 408, 425, 429, 500, 502, 503, 504, 520, 599])
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
