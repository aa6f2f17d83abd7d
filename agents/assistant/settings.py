"""What a row's ``settings`` may say about the assistant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from supervisor.handler import AgentContext


class MisconfiguredError(Exception):
    """The assistant cannot work as it is set up; the text is for whoever looks after it and holds no secret."""


def url(value: str) -> str:
    """A URL as it may be used; raises ValueError."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must be a URL that starts with https:// or http://, without a user name")
    return value.rstrip("/")


def _listed(value: object) -> object:
    """Read ``a, b`` or JSON as a list; a single model as a list of it."""
    if isinstance(value, str):
        if value.lstrip().startswith(("[", "{")):
            try:
                return _listed(json.loads(value))
            except (ValueError, RecursionError):
                raise ValueError("must be a list of models") from None
        return [item.strip() for item in value.split(",") if item.strip()]
    return [value] if isinstance(value, Mapping) else value


def _texts(value: object) -> object:
    """Read ``a, b`` as a list."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _object(value: object) -> object:
    """Read JSON as an object."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("must be an object") from None


def _named(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


#: Settings that say which secret goes to whom, which code is run, and what opens a way to this machine.
_ROWS_ALONE: Final = (
    *("base_url", "api_key", "fallback_models", "model_settings", "tools"),
    *("allow_local_tools", "allow_private"),
)
Url = Annotated[str, AfterValidator(url)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class FallbackModel(_Settings):
    """A model to use when those before it give no answer; without a key of its own it has the first one's."""

    model: str = Field(min_length=1, max_length=200)
    base_url: Url | None = None
    api_key: str | None = None


class AssistantSettings(_Settings):
    """A row's settings, over those that the platform has for the agent.

    Args:
        model: ``openai:gpt-4o``, ``anthropic:…`` or ``google:…``; None: the platform's deployment.
        base_url: where the model is served, if not by the provider itself.
        api_key: a reference to its key: ``env:NAME``, ``file:/path``.
        fallback_models: models to use in this order when the first does not answer: names, or objects with ``model``,
            ``base_url`` and ``api_key``.
        instruction_extra: what the model is told besides the platform's instruction.
        temperature, max_output_tokens, thinking: passed to the model where it takes them.
        model_settings: more of the model's settings by pydantic-ai's names: ``top_p``, ``seed``, ``stop_sequences``,
            ``extra_body`` with what only this server knows …
        max_steps: model answers for one message, tools used in between; the last one has to do without tools.
        retries: how many requests for one message may come to nothing.
        budget_message_tokens: about how many tokens one message may cost; the step that would cost more is the last.
        history_tokens, history_messages: how much of the conversation the model is shown.
        summarise: what has no room in it any more is summed up by the model, and stands there as that; where there is a
            budget, for at most a tenth of what the day's answers cost.
        attachments: whether the model is shown the images, PDFs and texts that people attach.
        allow_private: fetch them from private addresses too; needs SUPERVISOR_ALLOW_PRIVATE_WEBHOOKS.
        parallel_calls: model calls at once to one server, of all agents.
        request_seconds: how long one model call may take.
        tool_seconds: how long one tool call may take.
        tool_result_chars: how much of a tool's result the model gets.
        connect_seconds: how long a tool server may take to be ready.
        notice_seconds: after how long a person hears that it takes longer; 0: never.
        failing_after: how many apologies in a row make the agent's health failing.
        person_limit: how many messages of one person are answered in a minute.
        tools: modules whose ``tools`` are the agent's own: ``my_tools``, or ``my_tools:some`` (docs/handlers.md).
        allow_local_tools: use tool servers at localhost too; the platform's default is one, and unreachable.
    """

    model: str | None = Field(None, max_length=200)
    base_url: Url | None = None
    api_key: str | None = None
    fallback_models: Annotated[
        tuple[Annotated[FallbackModel, BeforeValidator(_named)], ...], BeforeValidator(_listed), Field(max_length=10)
    ] = ()
    instruction_extra: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100_000)] = ""
    temperature: float | None = Field(None, ge=0, le=2)
    max_output_tokens: int | None = Field(None, ge=1)
    thinking: bool | Literal["minimal", "low", "medium", "high"] | None = None
    model_settings: Annotated[dict[str, Any], BeforeValidator(_object)] = {}
    max_steps: int = Field(20, ge=1, le=200)
    retries: int = Field(10, ge=0, le=100)
    budget_message_tokens: int | None = Field(None, ge=1)
    history_tokens: int = Field(8000, ge=0)
    history_messages: int = Field(50, ge=1, le=500)
    summarise: bool = False
    attachments: bool = True
    allow_private: bool = False
    parallel_calls: int = Field(256, ge=1)
    request_seconds: Seconds = 120.0
    tool_seconds: Seconds = 60.0
    tool_result_chars: int = Field(100_000, ge=100)
    connect_seconds: Seconds = 10.0
    notice_seconds: float = Field(60.0, ge=0, le=3600, allow_inf_nan=False)
    failing_after: int = Field(3, ge=1, le=1000)
    person_limit: int | None = Field(None, ge=1)
    tools: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()
    allow_local_tools: bool = False

    @classmethod
    def read(cls, ctx: AgentContext) -> Self:
        """Read them; of :data:`_ROWS_ALONE` only the row's count: the platform must not choose among our secrets.

        Raises:
            MisconfiguredError: one is of the wrong kind; says which.
        """
        own = ctx.own_settings
        try:
            theirs = {name: value for name, value in ctx.settings.items() if name not in _ROWS_ALONE}
            return cls.model_validate(theirs | {name: own[name] for name in _ROWS_ALONE if name in own})
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "settings"
            raise MisconfiguredError(f"settings: {place}: {first['msg'].removeprefix('Value error, ')}") from None
