"""What can go wrong with a model, in words for the person who asked and for whoever looks after the agent."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final

from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelRequestTimeout,
    ModelServerError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
)

from .refusals import is_filtered, is_too_long

MAX_REASON_CHARS: Final = 300
#: What is looked through of a refusal for what it is about.
MAX_ANSWER_CHARS: Final = 4000


class Kind(StrEnum):
    """What a failure of a model asks for.

    RATE_LIMITED: wait, all agents with that key. BUSY: the provider's or the network's trouble; try again.
    TOO_LONG: shorten and try again. REFUSED: the provider's content filter; an answer like any other.
    KEY, MODEL, QUOTA, SETUP: nothing helps but a person who mends it. REJECTED: this request, for ever.
    STRANGE: the model answered what makes no sense. LENGTH: it may not write as much as it would have to.
    """

    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    TOO_LONG = "too_long"
    REFUSED = "refused"
    KEY = "key"
    MODEL = "model"
    QUOTA = "quota"
    SETUP = "setup"
    REJECTED = "rejected"
    STRANGE = "strange"
    LENGTH = "length"


_SETUP_WORDS: Final = (
    "Sorry, I am not set up correctly at the moment, so I cannot answer. Whoever looks after me can see what to mend."
)
WORDS: Final = {
    Kind.RATE_LIMITED: "Sorry, I am asked more than I can answer at the moment. Please try again in a few minutes.",
    Kind.BUSY: "Sorry, the language model that I use does not answer at the moment. Please try again in a few minutes.",
    Kind.TOO_LONG: "Sorry, this message is more than I can take in at once. Please send it in smaller parts.",
    Kind.REFUSED: "I am sorry, I cannot help with that.",
    Kind.KEY: _SETUP_WORDS,
    Kind.MODEL: _SETUP_WORDS,
    Kind.QUOTA: _SETUP_WORDS,
    Kind.SETUP: _SETUP_WORDS,
    Kind.REJECTED: "Sorry, the language model that I use does not take this message.",
    Kind.STRANGE: "Sorry, I did not find an answer that makes sense. Please try to ask in another way.",
    Kind.LENGTH: "Sorry, my answer would become longer than I may write. Please ask for a smaller part of it.",
}
TOO_MANY_STEPS: Final = (
    "Sorry, this took more steps than I may make, so I stopped. Please ask for a smaller part of it."
)
TOO_SLOW: Final = "Sorry, this took too long and I had to stop."
TOO_FAST: Final = "You are writing faster than I may answer. Please wait a minute, and ask again."
WAIT: Final = "This takes longer than usual. I am still at it."
SPENT: Final = "I have used up what I may spend today."
NOT_CONFIGURED: Final = (
    "I have no instruction yet, so I cannot answer. Whoever looks after me has to write one on the platform."
)
#: What people hear in place of an answer: no model is shown it.
NOTICES: Final = frozenset(
    {
        *(words for kind, words in WORDS.items() if kind is not Kind.REFUSED),
        *(TOO_MANY_STEPS, TOO_SLOW, TOO_FAST, WAIT, SPENT, NOT_CONFIGURED),
    }
)

#: Trouble that another attempt may not meet.
PASSING: Final = frozenset({Kind.RATE_LIMITED, Kind.BUSY})
#: Trouble that lasts until a person mends it.
LASTING: Final = frozenset({Kind.KEY, Kind.MODEL, Kind.QUOTA, Kind.SETUP})
#: Trouble that says nothing about how well the agent is.
HARMLESS: Final = frozenset({Kind.REFUSED, Kind.TOO_LONG, Kind.REJECTED, Kind.STRANGE, Kind.LENGTH})


_HEALTH: Final = {
    Kind.RATE_LIMITED: "the model's rate limit is reached",
    Kind.BUSY: "the model does not answer",
    Kind.KEY: "the model's key is refused",
    Kind.MODEL: "there is no such model",
    Kind.QUOTA: "the model's account has nothing left",
    Kind.SETUP: "the assistant is not set up",
}


class TroubleError(Exception):
    """A model gave no answer.

    Args:
        reason: for the log and the agent's health; names no key.
        retry_after_seconds: how long the provider asked us to wait.
        status: of HTTP, where there was one.
        said: the provider's own words, all of them; for our eyes only.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        *,
        retry_after_seconds: float | None = None,
        status: int | None = None,
        said: str = "",
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        self.status = status
        self.said = said
        #: Whether a request was made: one that waits for its key was not. Written by whoever makes them.
        self.asked = False

    @property
    def words(self) -> str:
        """What the person is told."""
        return WORDS[self.kind]


def health(trouble: TroubleError) -> str:
    """What the agent's health says of it."""
    return f"{_HEALTH.get(trouble.kind, 'the model fails')}: {trouble.reason}"


class BudgetExhaustedError(Exception):
    """There is nothing left to spend today; the text is the notice for the person."""


#: Most particular first: some of them are kinds of others.
_KINDS: Final[tuple[tuple[type[Exception], Kind], ...]] = (
    (ModelRateLimitError, Kind.RATE_LIMITED),
    (ModelQuotaExceededError, Kind.QUOTA),
    (ModelContextWindowExceededError, Kind.TOO_LONG),
    (ModelAuthenticationError, Kind.KEY),
    (ModelNotFoundError, Kind.MODEL),
    (ModelUnavailableError, Kind.BUSY),
    (ModelServerError, Kind.BUSY),
    (ModelConnectionError, Kind.BUSY),
    (ModelRequestTimeout, Kind.BUSY),
    (ModelRequestRejectedError, Kind.REJECTED),
    (ContentFilterError, Kind.REFUSED),
    (UnexpectedModelBehavior, Kind.STRANGE),
)
_REFUSED_CODES: Final = ("content_filter", "content_policy_violation")
#: Google says so of a key with 400, where others say 401; Anthropic of an account, also through gateways.
_KINDS_IN_WORDS: Final = {
    "API_KEY_INVALID": Kind.KEY,
    "API key not valid": Kind.KEY,
    "API key expired": Kind.KEY,
    "credit balance is too low": Kind.QUOTA,
}
#: Statuses of proxies that no category has.
_PASSING_STATUSES: Final = frozenset({408, 409, 425})
#: Proxies bound the bytes of a request.
_TOO_LARGE_STATUS: Final = 413
#: Kinds that servers give to what their words say is something else: a request above a minute's tokens is "limited".
_KINDS_BY_WORDING: Final = (Kind.REJECTED, Kind.RATE_LIMITED, Kind.BUSY)


def classify(error: Exception, where: object, key: str = "") -> TroubleError:
    """The one place where a failure of a model is judged.

    Args:
        where: the endpoint, for the reason.
        key: what was sent as its key, should the other side have repeated it.
    """
    kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), None)
    body = _text(getattr(error, "body", None))
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    if kind in (*_KINDS_BY_WORDING, None) and isinstance(error, ModelAPIError):
        kind = _by_words(error, status, body, kind)
    elif kind is None:
        kind = Kind.BUSY if isinstance(error, (TimeoutError, OSError)) else Kind.STRANGE
    said = f"HTTP {status}: {body}" if status is not None else f"{type(error).__name__}: {error}"
    retry_after = error.retry_after if isinstance(error, ModelAPIError) else None
    return TroubleError(
        kind,
        f"{where}: {clean(said, key)}",
        retry_after_seconds=retry_after,
        status=status,
        said=(body or str(error))[:MAX_ANSWER_CHARS],
    )


def _by_words(error: ModelAPIError, status: int | None, body: str, kind: Kind | None) -> Kind:
    """What a refusal is that its status alone does not tell."""
    if error.provider_error_code in _REFUSED_CODES or (kind is Kind.REJECTED and is_filtered(body)):
        return Kind.REFUSED
    if said := next((found for words, found in _KINDS_IN_WORDS.items() if words in body), None):
        return said
    if status == _TOO_LARGE_STATUS or is_too_long(body or str(error)):
        return Kind.TOO_LONG
    if kind is Kind.RATE_LIMITED:
        return kind
    if status is None or status in _PASSING_STATUSES or status >= 500:
        return Kind.BUSY
    return Kind.REJECTED


def clean(text: str, key: str = "") -> str:
    """Text of the other side on one short line, without the key."""
    if len(key) > 4:
        text = text.replace(key, "…")
    return " ".join(text.split())[:MAX_REASON_CHARS]


def _text(body: object) -> str:
    if body is None or isinstance(body, str):
        return body or ""
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"]) + (f" ({body['code']})" if body.get("code") else "")
    try:
        return json.dumps(body, ensure_ascii=False)
    except (TypeError, ValueError):
        return type(body).__name__
