"""What somebody who asks may do and see: everything, or to read what gives nobody's words away."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from enum import StrEnum
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.requests import Request
from starlette.types import Scope

from supervisor.core.states import AgentState
from supervisor.core.status import AgentStatus, MessageDetails, MessageSummary
from supervisor.settings import Settings
from supervisor.telemetry.redaction import mask

SESSION_PATH: Final = "/session"
#: How long a browser that signed in stays so.
SESSION_SECONDS: Final = 7 * 86_400
_STATE: Final = "access"
_COOKIE: Final = "supervisor-session"
#: States whose reasons are the platform's words; those of others may quote a row's settings.
_OPEN_REASONS: Final = frozenset({AgentState.BACKOFF, AgentState.REJECTED})


class Access(StrEnum):
    """What a token opens."""

    FULL = "full"
    READ = "read"


def access_of(request: Request) -> Access:
    """What the one who sent a request may do, as the guard found it."""
    return Access(request.scope.get("state", {}).get(_STATE, Access.READ))


def note_access(scope: Scope, access: Access) -> None:
    """Write down in a request's scope what the one who sent it may do."""
    scope.setdefault("state", {})[_STATE] = access


class Tokens:
    """The tokens of a deployment, and the cookies that stand for them.

    A cookie says which token it stands for and until when, signed with that token: there is nothing to keep, a restart
    signs nobody out, and another token signs everybody out.
    """

    def __init__(self, settings: Settings) -> None:
        wanted = {Access.FULL: settings.admin_token, Access.READ: settings.admin_read_token}
        self._tokens = {access: token for access, secret in wanted.items() if (token := _bytes(secret))}

    @property
    def asked_for(self) -> bool:
        """Whether there is a token at all; without one whoever may ask may do everything."""
        return bool(self._tokens)

    def of_token(self, given: bytes) -> Access | None:
        """What a token opens; None for one that is wrong."""
        for access, token in self._tokens.items():
            if hmac.compare_digest(given, token):
                return access
        return None

    def of_cookie(self, value: str, now: float) -> Access | None:
        """What a cookie opens at ``now``, in seconds since the epoch; None for one that is wrong or over."""
        said, _, mark = value.rpartition(".")
        name, _, until = said.partition(".")
        access = next((one for one in self._tokens if one == name), None)
        if access is None or not until.isdecimal() or not mark.isascii():
            return None
        right = hmac.compare_digest(mark, _signed(self._tokens[access], said))
        return access if right and int(until) > now else None

    def cookie(self, access: Access, now: float) -> str:
        """What stands for the token of ``access`` from ``now`` on, for :data:`SESSION_SECONDS`."""
        said = f"{access}.{int(now) + SESSION_SECONDS}"
        return f"{said}.{_signed(self._tokens[access], said)}"


def _bytes(secret: SecretStr | None) -> bytes:
    return secret.get_secret_value().encode() if secret else b""


def _signed(token: bytes, said: str) -> str:
    return hmac.new(token, f"console {said}".encode(), hashlib.sha256).hexdigest()


def cookie_name(host: bytes) -> str:
    """The name of the cookie for a ``Host`` header: cookies do not tell ports apart, so the name does."""
    try:
        port = urlsplit("//" + host.decode("latin-1")).port
    except ValueError:
        port = None
    return f"{_COOKIE}-{port}" if port is not None else _COOKIE


def session_cookie(headers: dict[bytes, bytes]) -> str:
    """The value of a request's cookie; empty without one."""
    try:
        found = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return ""
    morsel = found.get(cookie_name(headers.get(b"host", b"")))
    return morsel.value if morsel is not None else ""


def shown_agent(status: AgentStatus, access: Access) -> AgentStatus:
    """An agent as somebody may see it: what looks secret masked; who only reads sees no setting's value and no stack.

    What a handler says of its failure is left out for who only reads: an error may quote what a person said.
    """
    if access is Access.FULL:
        return replace(status, settings=mask(status.settings)) if status.settings else status
    return replace(
        status,
        settings={},
        secret="",
        health="failing" if status.failing else "ok",
        reason=shown_reason(status.state, status.reason, access),
        undelivered_reason="",
        handling=tuple(replace(one, stack="") for one in status.handling),
    )


def shown_reason(state: str, reason: str, access: Access) -> str:
    """Why an agent is not online, as somebody may see it."""
    return reason if access is Access.FULL or state in _OPEN_REASONS else ""


def shown_summary(message: MessageSummary, access: Access) -> MessageSummary:
    """A message of a list as somebody may see it: who only reads sees no text and no error."""
    return message if access is Access.FULL else replace(message, content="", reason="")


def shown_message(message: MessageDetails, access: Access) -> MessageDetails:
    """One message as somebody may see it: who only reads sees no text, no file and no error."""
    if access is Access.FULL:
        return message
    hidden: dict[str, Any] = {"content": "", "reason": ""}
    replies = tuple(replace(reply, **hidden) for reply in message.replies)
    return replace(message, **hidden, error="", attachments=(), replies=replies)
