"""The models that an assistant may ask, at their addresses and with their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from supervisor.handler import AgentContext

from .settings import AssistantSettings, FallbackModel, MisconfiguredError, url
from .wire import Provider

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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model at one address.

    Args:
        key: gives its key as it is now: it is asked each time, because it changes.
        bearer: whether the key goes into ``Authorization``, whatever the provider's own API wants.
    """

    provider: Provider
    model: str
    base_url: str
    key: Callable[[], str]
    bearer: bool = False

    @property
    def host(self) -> str:
        """Where it is, in words."""
        return urlsplit(self.base_url).netloc

    def __repr__(self) -> str:
        return f"{self.provider}:{self.model} at {self.host}"


def endpoints(settings: AssistantSettings, ctx: AgentContext) -> tuple[list[Endpoint], list[str]]:
    """The models to use, in order, and what is wrong with those that cannot be used.

    Raises:
        MisconfiguredError: there is none.
    """
    first: Endpoint | None = None
    usable: list[Endpoint] = []
    wrong: list[MisconfiguredError] = []
    try:
        first = _first(settings, ctx)
        usable.append(first)
    except MisconfiguredError as error:
        wrong.append(error)
    for chosen in settings.fallback_models:
        try:
            usable.append(_own(chosen, ctx, first))
        except MisconfiguredError as error:
            wrong.append(error)
    if not usable:
        raise wrong[0]
    return usable, [str(error) for error in wrong]


def _first(settings: AssistantSettings, ctx: AgentContext) -> Endpoint:
    if not settings.model:
        return _deployed(ctx)
    chosen = FallbackModel(model=settings.model, base_url=settings.base_url, api_key=settings.api_key)
    return _own(chosen, ctx)


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
        return Endpoint(provider, name.strip(), base_url, first.key, first.bearer)
    if chosen.base_url is not None:
        return Endpoint(provider, name.strip(), base_url, lambda: NO_KEY)
    raise MisconfiguredError(f"the model {provider}:{name.strip()} needs an api_key: a reference such as env:AGENT_KEY")


def _deployed(ctx: AgentContext) -> Endpoint:
    """The platform's own proxy: each provider's API under its own path, the agent's token as the key of all."""
    deployment = ctx.deployment
    if deployment is None or not deployment.model:
        raise MisconfiguredError("there is no model: set one (model, api_key), or give the agent a deployment")
    provider = _PROVIDERS.get((deployment.provider or "").lower(), "openai")
    try:
        address = url(deployment.base_api_endpoint or deployment.api_endpoint or "")
    except ValueError:
        raise MisconfiguredError("the platform's deployment has no address") from None
    # It reads Authorization only (docs/protocol.md#1-tokens).
    return Endpoint(provider, deployment.model, _root(provider, address), ctx.token, bearer=True)


def _root(provider: Provider, address: str) -> str:
    """The address as the provider's client wants it: OpenAI's with /v1 where no path is given, others without."""
    root = address.removesuffix("/chat/completions").removesuffix("/messages").removesuffix("/v1beta")
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
