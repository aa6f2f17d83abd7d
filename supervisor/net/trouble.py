"""Trouble below HTTP in words, waits that the other side asks for, text that it sends. Nothing is sent.

Reasons name hosts and never a URL, because a URL can hold a token or the proxy's password.
"""

from __future__ import annotations

import email.utils
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from supervisor.net.descriptors import NONE_LEFT, exhausted, is_exhaustion
from supervisor.protocol.text import clean_text

#: The longest wait that a ``Retry-After`` can ask for.
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
#: How much of what the other side says goes into a reason.
MAX_REASON_CHARS: Final = 200
_PORTS: Final = {"http": 80, "https": 443}


def describe_error(
    error: Exception, host: str, *, otherwise: str, proxy: str | None = None, timeout_seconds: float | None = None
) -> str:
    """One line for trouble below HTTP.

    Args:
        error: what the HTTP client raised. Errors of connecting have ``host``, ``port`` and ``os_error``, those of
            certificates ``certificate_error``; nothing else of the client is known here.
        host: whom the request was for.
        otherwise: what ``host`` did where the error says no more, such as "broke off the answer".
        proxy: the proxy's URL, where there is one: an error may be about it.
        timeout_seconds: the bound that a time-out exceeded, where it is known.
    """
    error_host = str(getattr(error, "host", None) or host)
    at_proxy = proxy is not None and _is_at(error, proxy)
    peer = f"the proxy {error_host}" if at_proxy else error_host
    certificate = getattr(error, "certificate_error", None)
    if certificate is not None:
        detail = one_line(getattr(certificate, "verify_message", "") or "it does not match")
        if "not yet valid" in detail or "expired" in detail:
            return f"the TLS certificate of {peer} is not valid now ({detail}); is this machine's clock right?"
        return f"the TLS certificate of {peer} is not trusted ({detail}); a private CA goes into SUPERVISOR_CA_FILE"
    if isinstance(error, TimeoutError):
        return f"no answer from {host} " + ("in time" if timeout_seconds is None else f"within {timeout_seconds:g} s")
    cause = getattr(error, "os_error", None)
    if is_exhaustion(cause) or (isinstance(cause, socket.gaierror) and exhausted()):
        return f"{host} was not reached: {NONE_LEFT}"
    return _described(cause, f"{host} {otherwise} ({type(error).__name__})", error_host, at_proxy=at_proxy)


def _strerror(error: OSError) -> str | None:
    # asyncio has the address there in place of what is wrong with it.
    if error.errno and (error.strerror or "").startswith("Connect call failed"):
        return os.strerror(error.errno)
    return error.strerror


def _described(cause: object, otherwise: str, host: str, *, at_proxy: bool) -> str:
    """The system's own trouble with a host or a proxy; ``otherwise`` where it is none."""
    peer = f"the proxy {host}" if at_proxy else host
    if isinstance(cause, socket.gaierror):
        return f"the name {host} cannot be resolved" + (", which SUPERVISOR_PROXY gives" if at_proxy else "")
    if not isinstance(cause, OSError):
        return otherwise
    detail = one_line(_strerror(cause) or type(cause).__name__)
    if isinstance(cause, ssl.SSLError):
        return f"TLS with {peer} failed: {detail}"
    return f"{peer} cannot be reached: {detail}" if at_proxy else f"the connection to {peer} failed: {detail}"


def was_broken_off(error: Exception) -> bool:
    """Whether the other side was reached and ended the connection without a word."""
    known = getattr(error, "certificate_error", None) is not None or isinstance(error, TimeoutError)
    return not known and not isinstance(getattr(error, "os_error", None), OSError)


def _is_at(error: Exception, proxy: str) -> bool:
    """Whether connecting failed at the proxy, not behind it."""
    parts = urlsplit(proxy)
    place = (parts.hostname, parts.port or _PORTS.get(parts.scheme))
    return (getattr(error, "host", None), getattr(error, "port", None)) == place


def proxy_answered(status: int, host: str) -> str:
    """One line for an answer of the proxy's own."""
    reason = f"the proxy answered {status} when asked for {host}"
    return f"{reason}: it does not take the user and password of SUPERVISOR_PROXY" if status == 407 else reason


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that ``Retry-After`` asks for, given as seconds or as a date, at most an hour; None without one.

    Args:
        now: wall time, against which a date is held where the answer has no ``Date`` of its own.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            seconds = _time_of(text) - _written_at(headers, now)
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def redirect_host(headers: Mapping[str, str]) -> str:
    """Where a redirect leads, in words."""
    try:
        host = urlsplit(headers.get("Location", "")).hostname
    except ValueError:
        return "another address"
    return one_line(host) if host else "another path"


def one_line(text: str) -> str:
    """Text of the other side as a reason may hold it: one short line, nothing unprintable."""
    return " ".join(clean_text(text, MAX_REASON_CHARS)[0].split())


def mask_secret(text: str, secret: str) -> str:
    """Take ``secret`` out, should the other side have repeated it."""
    return text.replace(secret, "…") if secret else text


def _time_of(date: str) -> float:
    """An HTTP date in seconds since the epoch; raises ValueError or OverflowError where it is none."""
    return email.utils.parsedate_to_datetime(date).timestamp()


def _written_at(headers: Mapping[str, str], otherwise: float) -> float:
    """When an answer was written, by the clock of who wrote it."""
    try:
        return _time_of(headers["Date"])
    except (KeyError, ValueError, OverflowError):
        return otherwise
