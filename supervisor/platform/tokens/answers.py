"""What an answer to a token request means (docs/protocol.md#1-tokens). No I/O."""

from __future__ import annotations

from supervisor.core.errors import Refusal, TokenError, Verdict
from supervisor.net import proxy_answered, redirect_host
from supervisor.platform.hosts.api import Answer
from supervisor.protocol import InvalidEventError, parse_connect_answer
from supervisor.protocol.answers import ConnectAnswer
from supervisor.protocol.text import is_object_id


def read_connect(answer: Answer, agent_id: str, *, endpoint_known: bool = False) -> ConnectAnswer:
    """Read the answer to a token request.

    Args:
        endpoint_known: whether tokens were given there before.

    Raises:
        TokenError: it is no token, with the verdict that the answer asks for.
    """
    if not 200 <= answer.status < 300:
        raise _refusal(answer, agent_id, endpoint_known=endpoint_known)
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


def _refusal(answer: Answer, agent_id: str, *, endpoint_known: bool) -> TokenError:
    status, host = answer.status, answer.host
    message = answer.message
    reason = f"{status} {message}" if message else f"{host} answered {status}"
    if 300 <= status < 400:
        return _redirected(answer)
    if status == 407:
        return TokenError(proxy_answered(status, host))
    if status == 500 and not is_object_id(agent_id):
        return TokenError(f"{reason}; the agent's id is not one of the platform's (24 hex digits)", Verdict.REJECT)
    if status in (402, 408, 425, 429) or status >= 500 or status < 200:
        return TokenError(reason, retry_after_seconds=answer.retry_after())
    if status in (400, 401, 403) or (message and not answer.no_endpoint):
        return TokenError(reason, Verdict.REJECT, refusal=_explicit(answer))
    # 404 and its like without the platform's own words: somebody else answered, as while the platform restarts.
    verdict = Verdict.RETRY if endpoint_known and answer.no_endpoint else Verdict.REJECT
    return TokenError(f"{reason}, and not as the platform does; is API_URL right?", verdict)


def _explicit(answer: Answer) -> Refusal | None:
    """What the platform says of the agent itself, in its own words (docs/protocol.md#1-tokens)."""
    if answer.status in (401, 403) and "suspended" in answer.message.lower():
        return Refusal.SUSPENDED
    if answer.status == 404 and answer.knows_no_agent:
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
