"""JSON Web Tokens of the sandbox: HS256 with a key that exists only in this process."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

IdentityKind = Literal["agent", "user", "anonymous"]

_DAY_SECONDS = 86_400.0


class InvalidTokenError(Exception):
    """The token is malformed, signed with another key, expired or revoked."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for; an anonymous person's token names the one agent it is for."""

    kind: IdentityKind
    id: str
    expires_at: float
    token_id: str
    role: str = "owner"
    agent_id: str | None = None


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

    def for_user(self, user_id: str, *, expires_in_seconds: float = _DAY_SECONDS) -> str:
        """A token with which a person can connect by socket."""
        return self.issue("user", user_id, role="owner", expires_in_seconds=expires_in_seconds)

    def for_agent(self, agent_id: str, *, role: str = "editor", expires_in_seconds: float = _DAY_SECONDS) -> str:
        """A token for an agent without asking the token endpoint; negative seconds make an expired one."""
        return self.issue("agent", agent_id, role=role, expires_in_seconds=expires_in_seconds)

    def for_anonymous(self, person_id: str, agent_id: str, *, expires_in_seconds: float = _DAY_SECONDS) -> str:
        """v2: a token for a visitor of a web page, who talks to one agent and has no account."""
        return self._sign_claims(
            {"type": "anonymous", "agentId": agent_id, "anonymousId": person_id, "userId": ""},
            owner_id=person_id,
            expires_in_seconds=expires_in_seconds,
        )

    def issue(
        self,
        kind: Literal["agent", "user"],
        owner_id: str,
        *,
        role: str,
        expires_in_seconds: float,
        not_before: float | None = None,
    ) -> str:
        """A token for ``owner_id``.

        Args:
            kind: Whom it is for.
            owner_id: The agent or user.
            role: The role in the organisation.
            expires_in_seconds: From now on; negative makes an expired one.
            not_before: ``nbf`` in seconds since the epoch; one that is ahead makes a token that is refused.
        """
        claims: dict[str, Any] = {
            "sub": owner_id,
            "type": kind,
            f"{kind}Id": owner_id,
            "roles": [f"organization.{role}"],
        }
        if not_before is not None:
            claims["nbf"] = not_before
        return self._sign_claims(claims, owner_id=owner_id, expires_in_seconds=expires_in_seconds)

    def verify(self, token: object) -> Identity:
        """Whom ``token`` speaks for.

        Raises:
            InvalidTokenError: It does not speak for anyone, not yet, or no longer.
        """
        claims = self._claims(token)
        now = time.time()
        if claims["exp"] <= now or claims["jti"] in self._revoked:
            raise InvalidTokenError("expired")
        if claims.get("nbf", 0) > now:
            raise InvalidTokenError("not yet")
        expires_at, token_id = claims["exp"], claims["jti"]
        if claims["type"] == "anonymous":
            agent_id = claims["agentId"]
            return Identity("anonymous", claims["anonymousId"], expires_at, token_id, role="", agent_id=agent_id)
        role = claims["roles"][0].removeprefix("organization.")
        return Identity(claims["type"], claims["sub"], expires_at, token_id, role=role)

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

    def _sign_claims(self, claims: dict[str, Any], *, owner_id: str, expires_in_seconds: float) -> str:
        now = time.time()
        claims |= {
            "orgId": self._organisation_id,
            "jti": secrets.token_hex(8),
            "iat": int(now),
            # Not rounded to seconds, so that tests can have tokens which live for less than one.
            "exp": round(now + expires_in_seconds, 3),
        }
        self._issued.setdefault(owner_id, set()).add(claims["jti"])
        head = _encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        signed = f"{head}.{_encode(json.dumps(claims).encode())}"
        return f"{signed}.{_encode(self._sign(signed))}"

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
