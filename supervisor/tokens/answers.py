"""What the platform's answers to HTTP requests mean: the one classifier of PROTOCOL §1. No I/O."""

from __future__ import annotations

import email.utils
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

from supervisor.errors import PlatformError, TokenError, Verdict
from supervisor.protocol import ConnectAnswer, InvalidEventError, clean_text, is_object_id, parse_connect_answer

_LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
_REASON_CHARS: Final = 200
_ESCAPES = re.compile(rb"\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read; the body is None when it was too large."""

    host: str
    status: int
    headers: Mapping[str, str]
    body: bytes | None = field(repr=False)
    now: float

    def json(self) -> Any:
        """The body as JSON; None for anything else, which no endpoint of the platform answers."""
        body = self.body or b""
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
        try:
            # JavaScript lets half a surrogate pair through, as in a prompt cut in the middle of an emoji.
            return msgspec.json.decode(_ESCAPES.sub(_mend, body))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None

    def retry_after(self) -> float | None:
        """Seconds that ``Retry-After`` asks for, given as seconds or as a date, at most an hour."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            seconds = float(text[:9])
        else:
            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - self.now
            except (ValueError, OverflowError):
                return None
        return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)


def _mend(escape: re.Match[bytes]) -> bytes:
    """Keep every escape but half a surrogate pair."""
    body = escape[1]
    return b"\\ufffd" if len(body) == 5 and body[1] in b"dD" else escape[0]


def read_connect(answer: Answer, agent_id: str) -> ConnectAnswer:
    """Read the answer to a token request.

    Raises:
        TokenError: it is no token, with the verdict that PROTOCOL §1 gives it.
    """
    if not 200 <= answer.status < 300:
        raise _refusal(answer, agent_id)
    if answer.body is None:
        raise TokenError(f"the answer of {answer.host} is too large")
    payload = answer.json()
    if payload is None:
        raise TokenError(f"{answer.host} answered {answer.status} with something that is not JSON; is API_URL right?")
    try:
        parsed = parse_connect_answer(payload)
    except InvalidEventError as error:
        raise TokenError(f"{answer.host} answered {answer.status}, but {error}") from None
    token = parsed.access_token
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise TokenError(f"{answer.host} gave an accessToken that is none")
    return parsed


def read_history(answer: Answer) -> Any:
    """Read the answer to a history request.

    Raises:
        PlatformError: it is no history.
    """
    if answer.status == 401:
        raise PlatformError(f"{answer.host} refused the token for the history", Verdict.REAUTHENTICATE)
    if not 200 <= answer.status < 300:
        lasting = 400 <= answer.status < 500 and answer.status not in (408, 425, 429)
        raise PlatformError(
            f"{answer.host} answered {answer.status} for the history",
            Verdict.REJECT if lasting else Verdict.RETRY,
            retry_after_seconds=answer.retry_after(),
        )
    payload = answer.json()
    if payload is None:
        raise PlatformError(f"{answer.host} answered the history with something that is not JSON, or too large")
    return payload


def _refusal(answer: Answer, agent_id: str) -> TokenError:
    status, host = answer.status, answer.host
    message = _platform_message(answer)
    reason = f"{status} {message}" if message else f"{host} answered {status}"
    if 300 <= status < 400:
        return _redirected(answer)
    if status == 500 and not is_object_id(agent_id):
        return TokenError(f"{reason}; the agent's id is not one of the platform's (24 hex digits)", Verdict.REJECT)
    if status in (408, 425, 429) or status >= 500 or status < 200:
        return TokenError(reason, retry_after_seconds=answer.retry_after())
    if status in (400, 401, 403) or message:
        return TokenError(reason, Verdict.REJECT)
    # 404 and its like without the platform's own words: somebody else answered.
    return TokenError(f"{reason}, and not as the platform does; is API_URL right?", Verdict.REJECT)


def _redirected(answer: Answer) -> TokenError:
    try:
        host = URL(answer.headers.get("Location", "")).host or "another path"
    except ValueError:
        host = "another address"
    permanent = answer.status in (301, 308)
    return TokenError(
        f"{answer.host} answered {answer.status}, a redirect to {_shorten(host)}; the secret does not follow, "
        "so set API_URL to where the platform is",
        # A temporary one is how gateways show their maintenance page.
        Verdict.REJECT if permanent else Verdict.RETRY,
    )


def _platform_message(answer: Answer) -> str:
    """The ``message`` of the platform's error body, and its ``errors``; empty for anything else (PROTOCOL §1)."""
    payload = answer.json()
    if not isinstance(payload, dict) or not isinstance(payload.get("message"), str):
        return ""
    errors = payload.get("errors")
    details = [error for error in errors if isinstance(error, str)] if isinstance(errors, list) else []
    return _shorten(": ".join([payload["message"], *([", ".join(details)] if details else [])]))


def unreachable(error: Exception, host: str, timeout: float) -> TokenError:
    """One line for trouble below HTTP; the order matters, for aiohttp's errors are each other's bases."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        detail = getattr(error.certificate_error, "verify_message", "") or "it does not match"
        reason = f"the TLS certificate of {host} is not trusted ({detail}); a private CA goes into SUPERVISOR_CA_FILE"
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        reason = f"the proxy answered {error.status} when asked for {host}"
    elif isinstance(error, aiohttp.ClientProxyConnectionError):
        reason = f"the proxy {error.host} cannot be reached"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        reason = f"the name {host} cannot be resolved"
    elif isinstance(error, TimeoutError):
        reason = f"no answer from {host} within {timeout:g} s"
    elif isinstance(error, aiohttp.ClientConnectorError):
        kind = "TLS with" if isinstance(error.os_error, ssl.SSLError) else "the connection to"
        reason = f"{kind} {host} failed: {_shorten(error.os_error.strerror or type(error.os_error).__name__)}"
    else:
        reason = f"{host} broke off the answer ({type(error).__name__})"
    return TokenError(reason)


def _shorten(text: str) -> str:
    return " ".join(clean_text(text, _REASON_CHARS)[0].split())


def without(reason: str, secret: str) -> str:
    """Take ``secret`` out, should an answer repeat it."""
    return reason.replace(secret, "…") if secret else reason
