"""What an answer to a token request means: a token, or which verdict it asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.core.errors import TokenError, Verdict
from supervisor.platform.hosts.api import Answer
from supervisor.platform.tokens.answers import read_connect

AGENT = "a" * 24
TOKEN = {"accessToken": "tok", "expiresIn": 60}


def answer(status: int, body: Any, **headers: str) -> Answer:
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    return Answer("one.example", status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, 0.0)


def refusal(status: int, body: Any, agent_id: str = AGENT, **headers: str) -> TokenError:
    with pytest.raises(TokenError) as caught:
        read_connect(answer(status, body, **headers), agent_id)
    return caught.value


@pytest.mark.parametrize("status", [200, 201])
def test_a_token_comes_with_what_the_platform_says_beside(status: int) -> None:
    read = read_connect(answer(status, {**TOKEN, "name": "Ann"}), AGENT)
    assert (read.access_token, read.expires_in, read.name) == ("tok", 60, "Ann")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "is too large"),
        (b"<html>maintenance</html>", "something that is not JSON; is API_URL right?"),
        ({}, "answered 201, but"),
        ({"accessToken": "two words"}, "an accessToken that is none"),
        ({"accessToken": "a\nb"}, "an accessToken that is none"),
        ({"accessToken": "tök"}, "an accessToken that is none"),
    ],
)
def test_what_is_no_token_is_tried_again(body: Any, said: str) -> None:
    error = refusal(201, body)
    assert said in error.reason
    assert error.verdict is Verdict.RETRY
    assert "two words" not in error.reason


@pytest.mark.parametrize(
    ("status", "body", "verdict", "said"),
    [
        (401, {"message": "Invalid credentials"}, Verdict.REJECT, "401 Invalid credentials"),
        (400, {"message": "Bad", "errors": ["a", 5, "b"]}, Verdict.REJECT, "400 Bad: a, b"),
        (404, {"message": "Agent not found"}, Verdict.REJECT, "404 Agent not found"),
        (404, b"<html>", Verdict.REJECT, "is API_URL right?"),
        (403, b"", Verdict.REJECT, "one.example answered 403"),
        (429, {"message": "slow"}, Verdict.RETRY, "429 slow"),
        (408, b"", Verdict.RETRY, "answered 408"),
        (500, {"message": "Internal"}, Verdict.RETRY, "500 Internal"),
        (503, b"", Verdict.RETRY, "answered 503"),
        (407, b"", Verdict.RETRY, "proxy"),
        (101, b"", Verdict.RETRY, "answered 101"),
    ],
)
def test_a_status_asks_for_its_verdict(status: int, body: Any, verdict: Verdict, said: str) -> None:
    error = refusal(status, body)
    assert error.verdict is verdict
    assert said in error.reason


def test_an_id_that_is_not_the_platforms_is_what_its_500_means() -> None:
    error = refusal(500, {"message": "Internal"}, agent_id="my-agent")
    assert error.verdict is Verdict.REJECT
    assert "24 hex digits" in error.reason


def test_what_the_platform_asks_for_is_kept() -> None:
    assert refusal(429, b"", Retry_After="17").retry_after_seconds == 17
    assert refusal(429, b"").retry_after_seconds is None


@pytest.mark.parametrize(("status", "verdict"), [(301, Verdict.REJECT), (302, Verdict.RETRY), (308, Verdict.REJECT)])
def test_the_secret_follows_no_redirect(status: int, verdict: Verdict) -> None:
    error = refusal(status, b"", Location="https://two.example/login?token=x")
    assert error.verdict is verdict
    assert "a redirect to two.example" in error.reason
    assert "token=x" not in error.reason
