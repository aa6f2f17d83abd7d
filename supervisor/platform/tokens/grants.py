"""A token and how long it is good for. No I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

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
    """A token and what came with it; times are wall-clock seconds.

    Args:
        token: the access token.
        answer: the platform's whole answer: instruction, settings, MCP servers.
        issued_at: when it was asked for.
        expires_at: after this it must not be used.
        refresh_at: when to get the next one.
        stale_at: after this nothing new is begun with it: it might end on its way to the platform.
        roles: what the token says that the agent may do on the platform, as ``organization.viewer``.
    """

    token: str = field(repr=False)
    answer: ConnectAnswer = field(repr=False)
    issued_at: float
    expires_at: float
    refresh_at: float
    stale_at: float
    roles: tuple[str, ...] = ()

    def stale(self, now: float) -> bool:
        """Whether so little of the token's life is left at ``now`` that nothing should be begun with it."""
        return now >= self.stale_at

    def expired(self, now: float) -> bool:
        """Whether the token is past its life at ``now``."""
        return now >= self.expires_at


def make_grant(
    answer: ConnectAnswer, now: float, margin_seconds: float, uniform: Callable[[float, float], float]
) -> Grant:
    """Work out how long a token lives and when to renew it.

    Its life is the shorter of ``expiresIn`` and what is left of the JWT's own. The renewal comes between one and two
    margins before the end, drawn at random so that a fleet started at once does not renew at once; the margin is at
    most a fifth of the life, and nothing is renewed within a second. In its last half margin a token is stale.

    Raises:
        TokenError: the token has expired already.
    """
    left = _jwt_seconds_left(answer.access_token, now)
    if left is not None and left <= 0:
        raise TokenError("the platform gave a token that has expired already; is a clock wrong, its or ours?")
    lives = [life for life in (answer.expires_in, left) if life is not None and life > 0]
    life = min([*lives, _LONGEST_LIFE_SECONDS] if lives else [FALLBACK_LIFE_SECONDS])
    margin = min(margin_seconds, 0.2 * life)
    expires_at = now + life
    refresh_at = max(expires_at - uniform(margin, 2 * margin), now + _SOONEST_REFRESH_SECONDS)
    stale_at = expires_at - margin / 2
    roles = _roles(answer.access_token)
    return Grant(answer.access_token, answer, now, expires_at, refresh_at, stale_at=stale_at, roles=roles)


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
    roles: Any = None


def _jwt_seconds_left(token: str, now: float) -> float | None:
    """Seconds that a JWT says it has left to live; None where it is no JWT or does not say."""
    claims = _read_claims(token)
    if claims is None or claims.exp is None:
        return None
    if claims.iat is not None and abs(now - claims.iat) <= _CLOCK_SKEW_SECONDS:
        return claims.exp - claims.iat
    return claims.exp - now


def _roles(token: str) -> tuple[str, ...]:
    """The roles that a JWT names; none where it is no JWT or does not say."""
    claims = _read_claims(token)
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
