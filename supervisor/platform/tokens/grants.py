"""A token and how long it is good for. No I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from supervisor.core.clock import ROUNDING_SECONDS, Clock, Instant
from supervisor.core.errors import TokenError
from supervisor.protocol.answers import ConnectAnswer

#: How long a token lives whose life nobody tells: what the platform gives today.
FALLBACK_LIFE_SECONDS: Final = 86_400.0
_LONGEST_LIFE_SECONDS: Final = 366 * 86_400.0
#: A token that lives for less is renewed after its end, not in a tight loop.
_SOONEST_REFRESH_SECONDS: Final = 1.0
#: A token that says it was issued this near to now was issued now: the two clocks differ.
_CLOCK_SKEW_SECONDS: Final = 600.0


@dataclass(frozen=True, eq=False)
class Grant:
    """A token and what came with it; its life is counted by the monotonic clock, from when it was asked for.

    Args:
        token: the access token.
        answer: the platform's whole answer: instruction, settings, MCP servers.
        asked: when it was asked for.
        life_seconds: after this it must not be used.
        refresh_seconds: when to get the next one.
        stale_seconds: after this nothing new is begun with it: it might end on its way to the platform.
        roles: what the token says that the agent may do on the platform, as ``organization.viewer``.
        minted_at: when it was made, by the platform's clock; None where it does not say.
        not_yet_seconds: how long after it was made it begins to be valid; the platform refuses it until then.
    """

    token: str = field(repr=False)
    answer: ConnectAnswer = field(repr=False)
    asked: Instant
    life_seconds: float
    refresh_seconds: float
    stale_seconds: float
    roles: tuple[str, ...] = ()
    minted_at: float | None = None
    not_yet_seconds: float = 0.0

    @property
    def expires_at(self) -> float:
        """When it ends, in seconds since the epoch, for people."""
        return self.asked.wall + self.life_seconds

    @property
    def clock_ahead_seconds(self) -> float:
        """How far the platform's clock is ahead of ours, by what the token says; 0 where they agree, or nobody knows.

        An old token, as a platform may give twice, looks like a platform whose clock is behind.
        """
        ahead = 0.0 if self.minted_at is None else self.minted_at - self.asked.wall
        return ahead if abs(ahead) > _CLOCK_SKEW_SECONDS else 0.0

    def platform_now(self, clock: Clock) -> float | None:
        """The time by the platform's clock; None where it is ours, or the token does not tell."""
        told = None if self.minted_at is None else self.minted_at + self.asked.age(clock)
        return None if told is None or abs(told - clock.now()) <= _CLOCK_SKEW_SECONDS else told

    def stale(self, clock: Clock) -> bool:
        """Whether so little of the token's life is left that nothing should be begun with it."""
        return self.asked.age(clock) >= self.stale_seconds

    def expired(self, clock: Clock, within: float = 0.0) -> bool:
        """Whether the token is past its life, or will be ``within`` seconds."""
        return self.asked.age(clock) + within >= self.life_seconds

    def seconds_left(self, clock: Clock) -> float:
        """How long it is good for."""
        return max(0.0, self.life_seconds - self.asked.age(clock))

    def seconds_to_refresh(self, clock: Clock) -> float:
        """How long until the next one is to be got; 0 or less when that is due."""
        left = self.refresh_seconds - self.asked.age(clock)
        return left if left > ROUNDING_SECONDS else min(left, 0.0)


def make_grant(
    answer: ConnectAnswer, asked: Instant, margin_seconds: float, uniform: Callable[[float, float], float]
) -> Grant:
    """Work out how long a token lives and when to renew it.

    Its life is the shorter of ``expiresIn`` and what is left of the JWT's own, where no clock that is wrong makes
    nonsense of the latter. The renewal comes between one and two margins before the end, drawn at random so that a
    fleet started at once does not renew at once; the margin is at most a fifth of the life, and nothing is renewed
    within a second. In its last half margin a token is stale.

    Raises:
        TokenError: the token has expired already.
    """
    claims = _read_claims(answer.access_token)
    left = None if claims is None else _jwt_seconds_left(claims, asked.wall, told=answer.expires_in)
    if left is not None and left <= 0:
        raise TokenError("the platform gave a token that has expired already; is a clock wrong, its or ours?")
    lives = [life for life in (answer.expires_in, left) if life is not None and life > 0]
    life = min([*lives, _LONGEST_LIFE_SECONDS] if lives else [FALLBACK_LIFE_SECONDS])
    margin = min(margin_seconds, 0.2 * life)
    return Grant(
        answer.access_token,
        answer,
        asked,
        life,
        refresh_seconds=max(life - uniform(margin, 2 * margin), _SOONEST_REFRESH_SECONDS),
        stale_seconds=life - margin / 2,
        roles=_roles(claims),
        minted_at=None if claims is None else _minted_at(claims, answer.expires_in),
        not_yet_seconds=0.0 if claims is None else _not_yet_seconds(claims, asked.wall),
    )


def with_token(answer: ConnectAnswer, token: str) -> ConnectAnswer:
    """An answer with another token, which the tool servers' headers hold too (docs/protocol.md#1-tokens)."""
    servers = _replaced(answer.mcp_servers, answer.access_token, token)
    return msgspec.structs.replace(answer, access_token=token, expires_in=None, mcp_servers=servers)


def _replaced(value: Any, old: str, new: str) -> Any:
    """JSON in which a text stands in place of another, wherever that is."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: _replaced(one, old, new) for key, one in value.items()}
    return [_replaced(one, old, new) for one in value] if isinstance(value, list) else value


class _Claims(msgspec.Struct, frozen=True):
    exp: float | None = None
    iat: float | None = None
    # Whatever is there, the token is good for what the others say.
    nbf: Any = None
    roles: Any = None


def _jwt_seconds_left(claims: _Claims, now: float, told: float | None) -> float | None:
    """Seconds that a JWT says it has left to live; None where it does not say, or only a clock that is wrong does.

    Args:
        told: the life that the platform told beside it.
    """
    if claims.exp is None:
        return None
    left = claims.exp - now
    whole = None if claims.iat is None else claims.exp - claims.iat
    if claims.iat is not None and now - claims.iat <= _CLOCK_SKEW_SECONDS:
        # It is new; where it is from the future, our clock is behind.
        return whole
    # A token that was over when it was made would be nobody's: the clocks differ.
    contradicted = left <= 0 and bool(told) and (whole is None or whole > 0)
    return whole if contradicted else left


def _minted_at(claims: _Claims, told: float | None) -> float | None:
    """When a token was made, by the platform's clock; None where it does not say, or its times make no sense."""
    if claims.iat is None or claims.exp is None or not 0 < claims.exp - claims.iat <= _LONGEST_LIFE_SECONDS:
        return None
    agree = not told or told <= 0 or abs(claims.exp - claims.iat - told) <= _CLOCK_SKEW_SECONDS
    return claims.iat if agree else None


def _not_yet_seconds(claims: _Claims, now: float) -> float:
    """How long after it was made a token becomes valid; 0 where that is at once, or does not say."""
    if isinstance(claims.nbf, bool) or not isinstance(claims.nbf, int | float):
        return 0.0
    # Without the time at which it was made, only our own clock tells, which may be behind.
    made, least = (now, _CLOCK_SKEW_SECONDS) if claims.iat is None else (claims.iat, 1.0)
    ahead = claims.nbf - made
    return float(ahead) if ahead > least else 0.0


def _roles(claims: _Claims | None) -> tuple[str, ...]:
    """The roles that a JWT names; none where it is no JWT or does not say."""
    named = claims.roles if claims is not None else None
    return tuple(role for role in named if isinstance(role, str)) if isinstance(named, list) else ()


def _read_claims(token: str) -> _Claims | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=_Claims)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return None
