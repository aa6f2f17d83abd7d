"""What an answer to a token request means (docs/protocol.md#1-tokens). No I/O."""

from __future__ import annotations

import re
from typing import Final

from supervisor.core.errors import Refusal, TokenError, Verdict
from supervisor.net import one_line, proxy_answered, redirect_host
from supervisor.platform.hosts.api import Answer
from supervisor.protocol import InvalidEventError, parse_connect_answer
from supervisor.protocol.answers import ConnectAnswer
from supervisor.protocol.text import is_object_id

#: How the platform says that it does not know an agent.
_UNKNOWN_AGENT: Final = re.compile(r"Agent with ID .* not found")


def read_connect(answer: Answer, agent_id: str) -> ConnectAnswer:
    """Read the answer to a token request.

    Raises:
        TokenError: it is no token, with the verdict that the answer asks for.
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


def is_no_endpoint(answer: Answer) -> bool:
    """Whether no token endpoint answered, rather than one that does not know the agent (docs/protocol.md#87-tokens)."""
    return answer.status in (404, 405, 410) and not _UNKNOWN_AGENT.match(_platform_message(answer))


def _refusal(answer: Answer, agent_id: str) -> TokenError:
    status, host = answer.status, answer.host
    message = _platform_message(answer)
    reason = f"{status} {message}" if message else f"{host} answered {status}"
    if 300 <= status < 400:
        return _redirected(answer)
    if status == 407:
        return TokenError(proxy_answered(status, host))
    if status == 500 and not is_object_id(agent_id):
        return TokenError(f"{reason}; the agent's id is not one of the platform's (24 hex digits)", Verdict.REJECT)
    if status in (402, 408, 425, 429) or status >= 500 or status < 200:
        return TokenError(reason, retry_after_seconds=answer.retry_after())
    if status in (400, 401, 403) or message:
        return TokenError(reason, Verdict.REJECT, refusal=_explicit(status, message))
    # 404 and its like without the platform's own words: somebody else answered.
    return TokenError(f"{reason}, and not as the platform does; is API_URL right?", Verdict.REJECT)


def _explicit(status: int, message: str) -> Refusal | None:
    """What the platform says of the agent itself, in its own words (docs/protocol.md#1-tokens)."""
    if status in (401, 403) and "suspended" in message.lower():
        return Refusal.SUSPENDED
    if status == 404 and _UNKNOWN_AGENT.match(message):
        return Refusal.UNKNOWN
    return None


def _redirected(answer: Answer) -> TokenError:
    permanent = answer.status in (301, 308)
    return TokenError(
        f"{answer.host} answered {answer.status}, a redirect to {redirect_host(answer.headers)}; "
        "the secret does not follow, so set API_URL to where the platform is",
        # A temporary one is how gateways show their maintenance page.
        Verdict.REJECT if permanent else Verdict.RETRY,
    )


def _platform_message(answer: Answer) -> str:
    """The ``message`` of the platform's error body, and its ``errors``; empty for anything else."""
    payload = answer.json()
    if not isinstance(payload, dict) or not isinstance(payload.get("message"), str):
        return ""
    errors = payload.get("errors")
    details = [error for error in errors if isinstance(error, str)] if isinstance(errors, list) else []
    return one_line(": ".join([payload["message"], *([", ".join(details)] if details else [])]))
