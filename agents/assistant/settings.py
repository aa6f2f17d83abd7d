"""What a row's ``settings`` may say about the assistant, and which endpoints that makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from supervisor.handler import AgentContext

Provider = Literal["openai", "anthropic", "google"]

#: Where each provider's own API is; "openai" is spoken by many others, under their ``base_url``.
BASE_URLS: Final[Mapping[Provider, str]] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
}
_PROVIDERS: Final[Mapping[str, Provider]] = {
    "openai": "openai",
    "openai-compatible": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "gemini": "google",
    "vertex": "google",
}
#: What a server that asks for no key is sent.
NO_KEY: Final = "none"


class MisconfiguredError(Exception):
    """The assistant cannot work as it is set up; the text is for whoever looks after it and holds no secret."""


def _url(value: str) -> str:
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


def _named(value: object) -> object:
    return {"model": value} if isinstance(value, str) else value


#: Settings that say which secret goes to whom, and what opens a way to this machine.
_ROWS_ALONE = ("base_url", "api_key", "fallback_models", "allow_local_tools")
Url = Annotated[str, AfterValidator(_url)]
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
        temperature, max_output_tokens, thinking: passed to the model where it takes them.
        max_steps: model requests for one message.
        history_tokens, history_messages: how much of the conversation the model is shown.
        parallel_calls: model calls at once to one server, of all agents.
        request_seconds: how long one model call may take.
        tool_seconds: how long one tool call may take.
        connect_seconds: how long a tool server may take to be ready.
        allow_local_tools: use tool servers at localhost too; the platform's default is one, and unreachable.
    """

    model: str | None = Field(None, max_length=200)
    base_url: Url | None = None
    api_key: str | None = None
    fallback_models: Annotated[
        tuple[Annotated[FallbackModel, BeforeValidator(_named)], ...], BeforeValidator(_listed), Field(max_length=10)
    ] = ()
    temperature: float | None = Field(None, ge=0, le=2)
    max_output_tokens: int | None = Field(None, ge=1)
    thinking: bool | Literal["minimal", "low", "medium", "high"] | None = None
    max_steps: int = Field(20, ge=1, le=200)
    history_tokens: int = Field(8000, ge=0)
    history_messages: int = Field(50, ge=1, le=500)
    parallel_calls: int = Field(256, ge=1)
    request_seconds: Seconds = 120.0
    tool_seconds: Seconds = 60.0
    connect_seconds: Seconds = 10.0
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
            raise MisconfiguredError(f"settings: {place}: {first['msg']}") from None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model at one address. ``key`` gives its key as it is now: it is asked each time, because it changes."""

    provider: Provider
    model: str
    base_url: str
    key: Callable[[], str]

    @property
    def host(self) -> str:
        """Where it is, in words."""
        return urlsplit(self.base_url).netloc

    def __repr__(self) -> str:
        return f"{self.provider}:{self.model} at {self.host}"


def endpoints(settings: AssistantSettings, ctx: AgentContext) -> list[Endpoint]:
    """The models to use, in order.

    Raises:
        MisconfiguredError: there is none, or one lacks its key.
    """
    if not settings.model:
        first = _deployed(ctx)
    else:
        first = _own(FallbackModel(model=settings.model, base_url=settings.base_url, api_key=settings.api_key), ctx)
    return [first, *(_own(model, ctx, first) for model in settings.fallback_models)]


def _own(chosen: FallbackModel, ctx: AgentContext, first: Endpoint | None = None) -> Endpoint:
    prefix, colon, name = chosen.model.partition(":")
    provider = _PROVIDERS.get(prefix.strip().lower()) if colon else None
    if provider is None or not name.strip():
        raise MisconfiguredError("model: write openai:NAME, anthropic:NAME or google:NAME")
    like_first = first is not None and first.provider == provider and chosen.base_url is None
    base_url = first.base_url if first and like_first else _root(provider, chosen.base_url or BASE_URLS[provider])
    if chosen.api_key is not None and base_url != _root(provider, BASE_URLS[provider]) and not ctx.reaches(base_url):
        host = urlsplit(base_url).hostname
        raise MisconfiguredError(f"base_url: keys may not be sent to {host}; add it to SUPERVISOR_ALLOWED_HOSTS")
    if chosen.api_key is not None:
        return Endpoint(provider, name.strip(), base_url, _Secret(ctx, chosen.api_key))
    if first is not None and like_first:
        return Endpoint(provider, name.strip(), base_url, first.key)
    if chosen.base_url is not None:
        return Endpoint(provider, name.strip(), base_url, lambda: NO_KEY)
    raise MisconfiguredError(f"the model {provider}:{name.strip()} needs an api_key: a reference such as env:AGENT_KEY")


def _deployed(ctx: AgentContext) -> Endpoint:
    """The platform's own proxy: OpenAI-compatible under /v1, Google under /v1beta (PROTOCOL §1)."""
    deployment = ctx.deployment
    if deployment is None or not deployment.model:
        raise MisconfiguredError("there is no model: set one (model, api_key), or give the agent a deployment")
    provider: Provider = "google" if _PROVIDERS.get((deployment.provider or "").lower()) == "google" else "openai"
    try:
        address = _url(deployment.base_api_endpoint or deployment.api_endpoint or "")
    except ValueError:
        raise MisconfiguredError("the platform's deployment has no address") from None
    return Endpoint(provider, deployment.model, _root(provider, address), ctx.token)


def _root(provider: Provider, url: str) -> str:
    """The address as the provider's client wants it: OpenAI's with /v1 where no path is given, others without."""
    root = url.removesuffix("/chat/completions").removesuffix("/v1beta")
    if provider == "openai":
        return root if urlsplit(root).path.rstrip("/").endswith("/v1") else f"{root}/v1"
    return root.removesuffix("/v1")


@dataclass(frozen=True, slots=True)
class _Secret:
    ctx: AgentContext
    reference: str

    def __call__(self) -> str:
        try:
            return self.ctx.secret(self.reference)
        except Exception as error:
            # The supervisor's own words say what is wrong with the reference, and never what it holds.
            raise MisconfiguredError(f"api_key: {error}") from error
