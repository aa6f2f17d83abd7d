"""How long a token is good for, and when the next one is got: by what the platform says and what the JWT says."""

from __future__ import annotations

import pytest

from supervisor.core.errors import TokenError
from supervisor.platform.tokens.grants import FALLBACK_LIFE_SECONDS, Grant, make_grant
from supervisor.protocol.answers import ConnectAnswer
from tests.support.token_server import jwt

NOW = 1_800_000_000.0


def grant(token: str = "tok", expires_in: float | None = None, margin: float = 300.0, late: bool = False) -> Grant:
    answer = ConnectAnswer(access_token=token, expires_in=expires_in)
    return make_grant(answer, NOW, margin, lambda low, high: low if late else high)


@pytest.mark.parametrize(
    ("token", "expires_in", "life"),
    [
        ("tok", 3600, 3600),
        ("tok", None, FALLBACK_LIFE_SECONDS),
        ("tok", -1, FALLBACK_LIFE_SECONDS),
        ("tok", 1e12, 366 * 86_400),
        (jwt(exp=NOW + 100), 3600, 100),
        (jwt(exp=NOW + 7200), 3600, 3600),
        (jwt(exp=NOW + 7200), None, 7200),
        (jwt(exp=NOW + 3900, iat=NOW + 300), None, 3600),
        (jwt(exp=NOW + 3600, iat=NOW - 7200), None, 3600),
        (jwt(iat=NOW), 3600, 3600),
        ("a.b.c", 3600, 3600),
        (jwt(exp="soon"), 3600, 3600),
    ],
)
def test_its_life_is_the_shorter_of_what_it_is_said_to_be(token: str, expires_in: float | None, life: float) -> None:
    made = grant(token, expires_in)
    assert made.expires_at - NOW == pytest.approx(life)
    assert not made.expired(made.expires_at - 0.1)
    assert made.expired(made.expires_at)


def test_one_that_has_expired_already_is_none() -> None:
    with pytest.raises(TokenError, match="is a clock wrong"):
        grant(jwt(exp=NOW - 5000), 3600)


@pytest.mark.parametrize(("late", "before"), [(False, 600), (True, 300)])
def test_it_is_renewed_between_two_margins_and_one_before_its_end(late: bool, before: float) -> None:
    made = grant(expires_in=3600, late=late)
    assert made.expires_at - made.refresh_at == before
    assert made.expires_at - made.stale_at == 150
    assert not made.stale(made.stale_at - 0.1)
    assert made.stale(made.stale_at)


def test_a_short_life_has_a_short_margin_and_is_renewed_in_no_tight_loop() -> None:
    assert grant(expires_in=100).refresh_at == NOW + 60
    assert grant(expires_in=0.5).refresh_at == NOW + 1


def test_nothing_of_it_is_shown() -> None:
    assert "tok-secret" not in repr(grant("tok-secret", 3600))
