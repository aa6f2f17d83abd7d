"""What the platform's answers to HTTP requests mean: the one classifier of PROTOCOL §1. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from supervisor.core.errors import PlatformError, TokenError, Verdict
from supervisor.net import trouble as network
from supervisor.protocol import ConnectAnswer, InvalidEventError, is_object_id, parse_connect_answer


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
            return msgspec.json.decode(network.mend_surrogates(body))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None

    def retry_after(self) -> float | None:
        """Seconds that ``Retry-After`` asks for; None without one."""
        return network.retry_after(self.headers, self.now)


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
    if status == 407:
        return TokenError(network.proxy_answered(status, host))
    if status == 500 and not is_object_id(agent_id):
        return TokenError(f"{reason}; the agent's id is not one of the platform's (24 hex digits)", Verdict.REJECT)
    if status in (408, 425, 429) or status >= 500 or status < 200:
        return TokenError(reason, retry_after_seconds=answer.retry_after())
    if status in (400, 401, 403) or message:
        return TokenError(reason, Verdict.REJECT)
    # 404 and its like without the platform's own words: somebody else answered.
    return TokenError(f"{reason}, and not as the platform does; is API_URL right?", Verdict.REJECT)


def _redirected(answer: Answer) -> TokenError:
    permanent = answer.status in (301, 308)
    return TokenError(
        f"{answer.host} answered {answer.status}, a redirect to {network.redirect_host(answer.headers)}; "
        "the secret does not follow, so set API_URL to where the platform is",
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
    return network.one_line(": ".join([payload["message"], *([", ".join(details)] if details else [])]))


def unreachable(error: Exception, host: str, *, proxy: str | None, timeout: float) -> TokenError:
    """Why a request got no answer."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return TokenError(network.proxy_answered(error.status, host))
    return TokenError(
        network.trouble(error, host, otherwise="broke off the answer", proxy=proxy, timeout_seconds=timeout)
    )
