"""JSON Web Tokens of the sandbox: HS256 with a key that exists only in this process."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

IdentityKind = Literal["agent", "user"]

_USER_TOKEN_SECONDS = _AGENT_TOKEN_SECONDS = 86_400.0


class InvalidTokenError(Exception):
    """The token is malformed, signed with another key, expired or revoked."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for."""

    kind: IdentityKind
    id: str
    expires_at: float
    token_id: str


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class TokenMint:
    """Makes and judges tokens."""

    def __init__(self, *, organisation_id: str, key: bytes | None = None) -> None:
        self._organisation_id = organisation_id
        self._key = key or secrets.token_bytes(32)
        self._revoked: set[str] = set()
        self._issued: dict[str, set[str]] = {}

    def issue(self, kind: IdentityKind, owner_id: str, *, roles: Iterable[str], expires_in_seconds: float) -> str:
        """A token for ``owner_id`` that expires ``expires_in_seconds`` from now; negative makes an expired one."""
        now = time.time()
        claims: dict[str, Any] = {
            "sub": owner_id,
            "type": kind,
            f"{kind}Id": owner_id,
            "orgId": self._organisation_id,
            "roles": list(roles),
            "jti": secrets.token_hex(8),
            "iat": int(now),
            # Not rounded to seconds, so that tests can have tokens which live for less than one.
            "exp": round(now + expires_in_seconds, 3),
        }
        self._issued.setdefault(owner_id, set()).add(claims["jti"])
        head = _encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        signed = f"{head}.{_encode(json.dumps(claims).encode())}"
        return f"{signed}.{_encode(self._sign(signed))}"

    def for_user(self, user_id: str, *, expires_in_seconds: float = _USER_TOKEN_SECONDS) -> str:
        """A token with which a person can connect by socket."""
        return self.issue("user", user_id, roles=["organization.owner"], expires_in_seconds=expires_in_seconds)

    def for_agent(
        self, agent_id: str, *, role: str = "editor", expires_in_seconds: float = _AGENT_TOKEN_SECONDS
    ) -> str:
        """A token for an agent without asking the token endpoint; negative seconds make an expired one."""
        roles = [f"organization.{role}"]
        return self.issue("agent", agent_id, roles=roles, expires_in_seconds=expires_in_seconds)

    def verify(self, token: object) -> Identity:
        """Whom ``token`` speaks for.

        Raises:
            InvalidTokenError: It does not speak for anyone, or no longer.
        """
        claims = self._claims(token)
        if claims["exp"] <= time.time() or claims["jti"] in self._revoked:
            raise InvalidTokenError("expired")
        kind: IdentityKind = claims["type"]
        return Identity(kind=kind, id=claims["sub"], expires_at=claims["exp"], token_id=claims["jti"])

    def id_of(self, token: object) -> str:
        """The ``jti`` of a token that was issued here, expired or not; empty for any other."""
        try:
            return str(self._claims(token)["jti"])
        except InvalidTokenError:
            return ""

    def expire(self, *owner_ids: str) -> int:
        """Let every token issued so far (to ``owner_ids``, default: anyone) count as expired; returns how many.

        Open sockets stay.
        """
        owners = owner_ids or tuple(self._issued)
        tokens = set().union(*(self._issued.pop(owner, set()) for owner in owners))
        self._revoked |= tokens
        return len(tokens)

    def _claims(self, token: object) -> dict[str, Any]:
        if not isinstance(token, str) or token.count(".") != 2:
            raise InvalidTokenError("not a JWT")
        signed, _, signature = token.rpartition(".")
        try:
            if not hmac.compare_digest(self._sign(signed), _decode(signature)):
                raise InvalidTokenError("signed with another key")
            claims: dict[str, Any] = json.loads(_decode(signed.partition(".")[2]))
        except (binascii.Error, ValueError) as error:
            raise InvalidTokenError("not a JWT") from error
        return claims

    def _sign(self, signed: str) -> bytes:
        return hmac.new(self._key, signed.encode(), hashlib.sha256).digest()
