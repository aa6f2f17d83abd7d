"""How long a token is good for, and when the next one is got: by what the platform says and what the JWT says."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.core.clock import Instant
from supervisor.core.errors import TokenError
from supervisor.platform.tokens.grants import FALLBACK_LIFE_SECONDS, Grant, make_grant
from supervisor.protocol.answers import ConnectAnswer
from tests.support.clock import ManualClock
from tests.support.token_server import jwt

NOW = 1_800_000_000.0
CLOCK = ManualClock(NOW)
ASKED = Instant.now(CLOCK)

#: An hour, a day, a month, either way.
AWAY = [sign * seconds for seconds in (3600, 86_400, 30 * 86_400) for sign in (1, -1)]


def grant(token: str = "tok", expires_in: float | None = None, margin: float = 300.0, late: bool = False) -> Grant:
    answer = ConnectAnswer(access_token=token, expires_in=expires_in)
    return make_grant(answer, ASKED, margin, lambda low, high: low if late else high)


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
        # Our clock is an hour, a day, a month ahead, or behind.
        *[(jwt(exp=NOW + away + 3600, iat=NOW + away), 3600, 3600) for away in AWAY],
        *[(jwt(exp=NOW + away + 3600, iat=NOW + away), None, 3600) for away in AWAY if away > 0],
        (jwt(exp=NOW - 86_400), 3600, 3600),
        (jwt(exp="soon"), 3600, 3600),
    ],
)
def test_its_life_is_the_shorter_of_what_it_is_said_to_be(token: str, expires_in: float | None, life: float) -> None:
    made = grant(token, expires_in)
    assert made.expires_at - NOW == made.life_seconds == pytest.approx(life)
    assert not made.expired(CLOCK, within=life - 0.1)
    assert made.expired(CLOCK, within=life + 0.1)


def test_one_that_has_expired_already_is_none() -> None:
    with pytest.raises(TokenError, match="is a clock wrong"):
        grant(jwt(exp=NOW - 5000))


@pytest.mark.parametrize(("late", "before"), [(False, 600), (True, 300)])
def test_it_is_renewed_between_two_margins_and_one_before_its_end(late: bool, before: float) -> None:
    made = grant(expires_in=3600, late=late)
    assert made.life_seconds - made.refresh_seconds == before
    assert made.life_seconds - made.stale_seconds == 150


async def test_its_life_is_counted_whatever_becomes_of_the_wall_clock() -> None:
    clock = ManualClock(NOW)
    made = make_grant(ConnectAnswer(access_token="tok", expires_in=3600), Instant.now(clock), 300, lambda low, _: low)
    for away in AWAY:
        clock.set_back(away)
        assert (made.stale(clock), made.expired(clock), made.seconds_left(clock)) == (False, False, 3600)
        assert made.seconds_to_refresh(clock) == 3300
    await clock.advance(3300)
    assert (made.seconds_to_refresh(clock), made.stale(clock)) == (0, False)
    await clock.advance(150)
    assert (made.stale(clock), made.expired(clock)) == (True, False)
    await clock.advance(150)
    assert (made.expired(clock), made.seconds_left(clock)) == (True, 0)


@pytest.mark.parametrize("away", AWAY)
def test_a_clock_that_is_wrong_is_told_by_when_the_token_was_made(away: float) -> None:
    assert grant(jwt(exp=NOW + away + 3600, iat=NOW + away), 3600).clock_ahead_seconds == away
    assert grant(jwt(exp=NOW + 3600, iat=NOW - 30), 3600).clock_ahead_seconds == 0


@pytest.mark.parametrize(
    ("claims", "seconds"),
    [
        ({"iat": NOW, "nbf": NOW + 120}, 120),
        ({"iat": NOW, "nbf": NOW}, 0),
        ({"iat": NOW + 5000, "nbf": NOW + 5000}, 0),
        ({"nbf": NOW + 900}, 900),
        ({"nbf": NOW + 60}, 0),
        ({"iat": NOW, "nbf": None}, 0),
        ({"iat": NOW, "nbf": True}, 0),
        ({"iat": NOW, "nbf": "soon"}, 0),
        ({"iat": NOW, "nbf": {}}, 0),
    ],
)
def test_one_that_is_not_valid_yet_says_for_how_long(claims: dict[str, Any], seconds: float) -> None:
    made = grant(jwt(exp=NOW + 9000, **claims), 3600)
    assert made.not_yet_seconds == seconds
    assert made.life_seconds == 3600, "its life is what it was"


def test_a_short_life_has_a_short_margin_and_is_renewed_in_no_tight_loop() -> None:
    assert grant(expires_in=100).refresh_seconds == 60
    assert grant(expires_in=0.5).refresh_seconds == 1


def test_nothing_of_it_is_shown() -> None:
    assert "tok-secret" not in repr(grant("tok-secret", 3600))
