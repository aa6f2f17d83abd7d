"""What a failed attempt to connect means: one classifier (PROTOCOL §2, §3; STYLE: one classifier for failures).

Reasons name the host and never a URL, because a URL can hold the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp

from supervisor.core.errors import ConnectError, Verdict
from supervisor.net import trouble as network
from supervisor.net.session import RedirectedError

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


def closed_reason(message: aiohttp.WSMessage) -> str:
    """Why the WebSocket ended, as a word for the metric, from the message with which it did."""
    if message.type is aiohttp.WSMsgType.CLOSE:
        return _CLOSE_REASONS.get(message.data, "transport close")
    if message.type is aiohttp.WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
        return "frame too large" if message.data.code == 1009 else "protocol error"
    return "transport error"


def refused(message: str, namespace: str, token: str) -> ConnectError:
    """A CONNECT_ERROR: an undeclared namespace, or one of the refusals that the guide describes (PROTOCOL §3)."""
    text = network.one_line(network.without(message, token))
    lowered = text.lower()
    if lowered == "invalid namespace":
        return ConnectError(f"the platform has no namespace {namespace}", invalid_namespace=True)
    reason = f"the platform refused the connection: {text or 'no reason given'}"
    if "suspended" in lowered or "403" in lowered or "forbidden" in lowered:
        return ConnectError(reason, Verdict.REJECT, refused=True)
    if any(word in lowered for word in ("token", "401", "unauthorized", "jwt")):
        return ConnectError(reason, Verdict.REAUTHENTICATE, refused=True)
    return ConnectError(reason, refused=True)


def upgrade_failed(error: Exception, host: str, *, proxy: str | None, now: float) -> ConnectError:
    """Why no WebSocket came of the attempt: TCP, TLS, DNS, a proxy, or an HTTP answer instead of the upgrade.

    Args:
        proxy: the proxy's URL, where there is one.
        now: wall time, for a ``Retry-After`` that is a date.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError(network.proxy_answered(error.status, host))
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return _answered(error, host, now)
    if isinstance(error, RedirectedError):
        return ConnectError(f"{host} redirects to {error}; redirects are not followed, so set WS_URL to where it is")
    if isinstance(error, aiohttp.InvalidURL):
        return ConnectError("WS_URL is not a URL", Verdict.FAULT)
    return ConnectError(
        network.trouble(error, host, otherwise="closed the connection during the WebSocket upgrade", proxy=proxy)
    )


def _answered(error: aiohttp.WSServerHandshakeError, host: str, now: float) -> ConnectError:
    status = error.status
    wait = network.retry_after(error.headers or {}, now)
    if status == 101:
        return ConnectError(f"{host} answered the WebSocket upgrade wrongly: {network.one_line(error.message)}")
    if status == 401:
        return ConnectError(f"{host} answered 401 to the upgrade", Verdict.REAUTHENTICATE, retry_after_seconds=wait)
    if status == 403:
        # A web server that knows no such path says so too.
        said = f"{host} answered 403 to the upgrade"
        return ConnectError(said, Verdict.REJECT, wrong_path=True, retry_after_seconds=wait)
    if status == 407:
        return ConnectError(network.proxy_answered(status, host))
    if status in (400, 404) or 200 <= status < 300:
        # Not REJECT: a gateway answers so while the platform behind it restarts, and the whole fleet would wait long.
        return ConnectError(
            f"{host} answered {status}, not a WebSocket; are WS_URL and WS_PATH right?", wrong_path=True
        )
    return ConnectError(f"{host} answered {status} to the upgrade", retry_after_seconds=wait)
