"""What a failed attempt to connect means: one classifier, the same for all wires.

Reasons name the host and never a URL, because a URL can hold the token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.core.errors import ConnectError, Verdict
from supervisor.net import describe_error, mask_secret, one_line, proxy_answered, retry_after, was_broken_off
from supervisor.platform.transport.handshake import BROKEN, CLOSED, KICKED, Handshake, Phase
from supervisor.platform.transport.wires import (
    AnsweredError,
    InvalidUrlError,
    ProxyAnsweredError,
    RedirectedError,
    UnreachableError,
    UpgradeError,
)

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
#: What an attempt waits for in each phase.
_AWAITED: Final[Mapping[Phase, str]] = {
    Phase.CONNECTING: "TCP or TLS connection or WebSocket upgrade",
    Phase.OPENING: "word of a Socket.IO server (Engine.IO's OPEN packet)",
    Phase.JOINING: "ack of CONNECT to the namespace",
}


def closed_reason(code: int | None) -> str:
    """Why the peer closed the WebSocket, as a word for the metric."""
    return CLOSED if code is None else _CLOSE_REASONS.get(code, CLOSED)


def broken_reason(code: int | None) -> str:
    """Why the WebSocket broke, as a word for the metric, from the code with which we had to close it."""
    if code is None:
        return BROKEN
    return "frame too large" if code == 1009 else "protocol error"


def too_slow(state: Handshake, host: str, timeout: float) -> ConnectError:
    """An attempt that took longer than it may."""
    awaited = _AWAITED.get(state.reached, _AWAITED[Phase.JOINING])
    unanswered = state.reached is Phase.CONNECTING
    return ConnectError(f"no {awaited} from {host} within {timeout:g} s", unanswered=unanswered)


def not_joined(state: Handshake, host: str, *, namespace: str, token: str) -> ConnectError:
    """An attempt that got its WebSocket and not into the namespace.

    Args:
        token: is taken out of what the platform says.
    """
    if state.refusal is not None:
        return _refused(state.refusal, namespace, token)
    if state.reached is Phase.OPENING and state.phase is Phase.ENDED:
        if state.answered:
            why = "it sent something else instead of Engine.IO's OPEN packet"
            return ConnectError(f"{host} is not a Socket.IO server there ({why}); are WS_URL and WS_PATH right?")
        # A gateway does so too while the platform behind it is away.
        return ConnectError(f"{host} closed the WebSocket instead of Engine.IO's OPEN packet; is WS_PATH right?")
    if state.end == KICKED:
        return ConnectError(
            f"{host} disconnected the agent right after it connected (a bad token, or an ill platform)",
            Verdict.REAUTHENTICATE,
            kicked=True,
        )
    if state.end:
        return ConnectError(f"{host} ended the connection before the namespace was joined: {state.end}")
    return ConnectError(f"the connection to {host} failed")


def _refused(message: str, namespace: str, token: str) -> ConnectError:
    """A CONNECT_ERROR: an undeclared namespace, or one of the refusals that the platform's guide describes."""
    text = one_line(mask_secret(message, token))
    lowered = text.lower()
    if lowered == "invalid namespace":
        return ConnectError(f"the platform has no namespace {namespace}", invalid_namespace=True)
    reason = f"the platform refused the connection: {text or 'no reason given'}"
    if "suspended" in lowered or "403" in lowered or "forbidden" in lowered:
        return ConnectError(reason, Verdict.REJECT, refused=True)
    if any(word in lowered for word in ("token", "401", "unauthorized", "jwt")):
        return ConnectError(reason, Verdict.REAUTHENTICATE, refused=True)
    return ConnectError(reason, refused=True)


def upgrade_failed(error: UpgradeError, host: str, *, proxy: str | None, now: float) -> ConnectError:
    """Why no WebSocket came of an attempt: TCP, TLS, DNS, a proxy, or an HTTP answer instead of the upgrade.

    Args:
        proxy: the proxy's URL, where there is one.
        now: wall time, for a ``Retry-After`` that is a date.
    """
    match error:
        case ProxyAnsweredError(status=status):
            return ConnectError(proxy_answered(status, host))
        case AnsweredError():
            return _answered(error, host, now)
        case RedirectedError(to=to):
            return ConnectError(f"{host} redirects to {to}; redirects are not followed, so set WS_URL to where it is")
        case InvalidUrlError():
            return ConnectError("WS_URL is not a URL", Verdict.FAULT)
        case UnreachableError(error=cause):
            broke_off = "closed the connection during the WebSocket upgrade"
            said = describe_error(cause, host, otherwise=broke_off, proxy=proxy)
            return ConnectError(said, unanswered=was_broken_off(cause))
    return ConnectError(f"the connection to {host} failed")


def _answered(error: AnsweredError, host: str, now: float) -> ConnectError:
    status = error.status
    wait = retry_after(error.headers, now)
    if status == 101:
        return ConnectError(f"{host} answered the WebSocket upgrade wrongly: {one_line(error.detail)}")
    if status == 401:
        return ConnectError(f"{host} answered 401 to the upgrade", Verdict.REAUTHENTICATE, retry_after_seconds=wait)
    if status == 403:
        # A web server that knows no such path says so too.
        said = f"{host} answered 403 to the upgrade"
        return ConnectError(said, Verdict.REJECT, wrong_path=True, retry_after_seconds=wait)
    if status == 407:
        return ConnectError(proxy_answered(status, host))
    if status in (400, 404) or 200 <= status < 300:
        # Not REJECT: a gateway answers so while the platform behind it restarts, and the whole fleet would wait long.
        return ConnectError(
            f"{host} answered {status}, not a WebSocket; are WS_URL and WS_PATH right?", wrong_path=True
        )
    return ConnectError(f"{host} answered {status} to the upgrade", retry_after_seconds=wait)
