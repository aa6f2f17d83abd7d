"""What a failed attempt to connect means: one classifier (PROTOCOL §2, §3; STYLE: one classifier for failures).

Reasons name the host and never a URL, because a URL can hold the token.
"""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Mapping
from typing import Final

import aiohttp

from supervisor.errors import ConnectError, Verdict
from supervisor.protocol import clean_text

_LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
_REASON_CHARS: Final = 200
#: The close codes of a WebSocket (RFC 6455 §7.4) that say more than "transport close".
_CLOSE_REASONS: Final[Mapping[int, str]] = {
    1002: "protocol error",
    1003: "protocol error",
    1007: "protocol error",
    1008: "policy violation",
    1009: "payload too large",
    1011: "server error",
    1012: "server restart",
    1013: "try again later",
}


class RedirectedError(aiohttp.ClientError):
    """The upgrade was answered with a redirect; following it would hand the token to whoever is there."""


def closed_reason(message: aiohttp.WSMessage) -> str:
    """Why the WebSocket ended, as a word for the metric, from the message with which it did."""
    if message.type is aiohttp.WSMsgType.CLOSE:
        return _CLOSE_REASONS.get(message.data, "transport close")
    if message.type is aiohttp.WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
        return "frame too large" if message.data.code == 1009 else "protocol error"
    return "transport error"


def refused(message: str, namespace: str, token: str) -> ConnectError:
    """A CONNECT_ERROR: an undeclared namespace, or one of the refusals that the guide describes (PROTOCOL §3)."""
    text = _shorten(message.replace(token, "…") if token else message)
    lowered = text.lower()
    if lowered == "invalid namespace":
        return ConnectError(f"the platform has no namespace {namespace}", invalid_namespace=True)
    reason = f"the platform refused the connection: {text or 'no reason given'}"
    if "suspended" in lowered or "403" in lowered or "forbidden" in lowered:
        return ConnectError(reason, Verdict.REJECT)
    if any(word in lowered for word in ("token", "401", "unauthorized", "jwt")):
        return ConnectError(reason, Verdict.REAUTHENTICATE)
    return ConnectError(reason)


def upgrade_failed(error: Exception, host: str) -> ConnectError:
    """Why no WebSocket came of the attempt: TCP, TLS, DNS, a proxy, or an HTTP answer instead of the upgrade."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError(f"the proxy answered {error.status} when asked for {host}")
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return _answered(error, host)
    if isinstance(error, RedirectedError):
        return ConnectError(f"{host} redirects to {error}; redirects are not followed, so set WS_URL to where it is")
    if isinstance(error, aiohttp.InvalidURL):
        return ConnectError("WS_URL is not a URL", Verdict.FAULT)
    return ConnectError(_network_reason(error, host))


def _answered(error: aiohttp.WSServerHandshakeError, host: str) -> ConnectError:
    status = error.status
    wait = retry_after(error.headers or {})
    if status == 101:
        return ConnectError(f"{host} answered the WebSocket upgrade wrongly: {_shorten(error.message)}")
    if status == 401:
        return ConnectError(f"{host} answered 401 to the upgrade", Verdict.REAUTHENTICATE, retry_after_seconds=wait)
    if status == 403:
        return ConnectError(f"{host} answered 403 to the upgrade", Verdict.REJECT, retry_after_seconds=wait)
    if status in (400, 404) or 200 <= status < 300:
        # Not REJECT: a gateway answers so while the platform behind it restarts, and the whole fleet would wait long.
        return ConnectError(f"{host} answered {status}, not a WebSocket; are WS_URL and WS_PATH right?")
    return ConnectError(f"{host} answered {status} to the upgrade", retry_after_seconds=wait)


def _network_reason(error: Exception, host: str) -> str:
    """One line for trouble below HTTP; the order matters, for aiohttp's errors are each other's bases."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        detail = getattr(error.certificate_error, "verify_message", "") or "it does not match"
        return f"the TLS certificate of {host} is not trusted ({detail}); a private CA goes into SUPERVISOR_CA_FILE"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {error.host} cannot be reached"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {host} cannot be resolved"
    if isinstance(error, TimeoutError):
        return f"{host} did not answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        kind = "TLS with" if isinstance(error.os_error, ssl.SSLError) else "the connection to"
        return f"{kind} {host} failed: {_shorten(error.os_error.strerror or type(error.os_error).__name__)}"
    return f"{host} closed the connection during the WebSocket upgrade ({type(error).__name__})"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a ``Retry-After`` asks for, given as seconds or as a date, at most an hour; None without one."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)


def _shorten(text: str) -> str:
    return " ".join(clean_text(text, _REASON_CHARS)[0].split())
