"""What a failed attempt to connect means, in the terms of the wires' face."""

from __future__ import annotations

import pytest

from supervisor.core.errors import Verdict
from supervisor.platform.transport.failures import broken_reason, closed_reason, upgrade_failed
from supervisor.platform.transport.wires import (
    AnsweredError,
    InvalidUrlError,
    ProxyAnsweredError,
    RedirectedError,
    UnreachableError,
    UpgradeError,
)

WRONG_PATH = "host answered {}, not a WebSocket; are WS_URL and WS_PATH right?"


@pytest.mark.parametrize(
    ("error", "reason", "verdict"),
    [
        (AnsweredError(200, {}), WRONG_PATH.format(200), Verdict.RETRY),
        (AnsweredError(400, {}), WRONG_PATH.format(400), Verdict.RETRY),
        (AnsweredError(404, {}), WRONG_PATH.format(404), Verdict.RETRY),
        (AnsweredError(401, {}), "host answered 401 to the upgrade", Verdict.REAUTHENTICATE),
        (AnsweredError(403, {}), "host answered 403 to the upgrade", Verdict.REJECT),
        (AnsweredError(503, {}), "host answered 503 to the upgrade", Verdict.RETRY),
        (AnsweredError(304, {}), "host answered 304 to the upgrade", Verdict.RETRY),
        (AnsweredError(101, {}, "no\nkey"), "host answered the WebSocket upgrade wrongly: no key", Verdict.RETRY),
        (AnsweredError(407, {}), "the proxy answered 407 when asked for host: ", Verdict.RETRY),
        (ProxyAnsweredError(502), "the proxy answered 502 when asked for host", Verdict.RETRY),
        (RedirectedError("elsewhere"), "host redirects to elsewhere; redirects are not followed", Verdict.RETRY),
        (InvalidUrlError(), "WS_URL is not a URL", Verdict.FAULT),
        (UnreachableError(TimeoutError()), "no answer from host in time", Verdict.RETRY),
        (
            UnreachableError(ValueError("https://host/?token=t")),
            "host closed the connection during the WebSocket upgrade (ValueError)",
            Verdict.RETRY,
        ),
        (UpgradeError("?token=t"), "the connection to host failed", Verdict.RETRY),
    ],
)
def test_what_became_of_an_upgrade(error: UpgradeError, reason: str, verdict: Verdict) -> None:
    failure = upgrade_failed(error, "host", proxy=None, now=0.0)
    assert failure.reason.startswith(reason)
    assert failure.verdict is verdict
    assert "token" not in failure.reason


def test_a_wait_that_was_asked_for_is_kept() -> None:
    failure = upgrade_failed(AnsweredError(503, {"Retry-After": "7"}), "host", proxy=None, now=0.0)
    assert failure.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("status", "wrong"), [(400, True), (403, True), (404, True), (200, True), (401, False), (503, False)]
)
def test_what_may_be_no_gateway_is_marked(status: int, wrong: bool) -> None:
    assert upgrade_failed(AnsweredError(status, {}), "host", proxy=None, now=0.0).wrong_path is wrong


@pytest.mark.parametrize(
    ("code", "closed", "broken"),
    [
        (None, "transport close", "transport error"),
        (1000, "transport close", "protocol error"),
        (1002, "protocol error", "protocol error"),
        (1009, "payload too large", "frame too large"),
        (1012, "server restart", "protocol error"),
        (4001, "transport close", "protocol error"),
    ],
)
def test_a_close_code_says_who_was_at_fault(code: int | None, closed: str, broken: str) -> None:
    assert (closed_reason(code), broken_reason(code)) == (closed, broken)
