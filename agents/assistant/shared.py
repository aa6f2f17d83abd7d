"""What all assistants of the process share: HTTP connections, models, and what is known of each provider's key.

A model object holds no key: the key is set on each request as it goes out, so that one object serves every agent and a
key or token that changes is used at once. What an endpoint taught one agent all know.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import ssl
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, ClassVar, Final, Self, TypeVar
from weakref import WeakKeyDictionary

import httpx2
from pydantic_ai.models import Model
from pydantic_ai.profiles import ModelProfile

from .cleaning import NO_TAGS
from .endpoints import Endpoint
from .gates import KeyGate, Slots, digest
from .learned import Learned
from .listing import ToolsClient
from .settings import MisconfiguredError
from .wire import AnswersClient, Provider

#: Rows and the platform name models and addresses: what is kept of them is bounded.
MAX_MODELS: Final = 256
MAX_GATES: Final = 4096
CONNECT_SECONDS: Final = 10.0
#: Stands where the clients want a key; what goes out is that of the exchange under way (see `wire`).
_PLACEHOLDER: Final = "set-on-each-request"

#: With a provider's first model its client is imported, long after the supervisor has loaded (and frozen) this handler:
#: hundreds to thousands of modules, which the garbage collector need not look through for ever.
_HEAVY_IMPORT_MODULES: Final = 200

_V = TypeVar("_V")


_Client = TypeVar("_Client", bound=httpx2.AsyncClient)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The authorities that are trusted; to read them takes long enough to be done once."""
    return httpx2.create_ssl_context()


def http_client(kind: type[_Client], *, read_seconds: float, follow_redirects: bool) -> _Client:
    """A client that keeps no cookies: they would pass from one agent to the other."""
    return kind(
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=follow_redirects,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
        timeout=httpx2.Timeout(read_seconds, connect=CONNECT_SECONDS, pool=None),
        verify=_certificates(),
    )


class Shared:
    """One for each event loop; see :meth:`take`."""

    _by_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Shared]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._users = 0
        # No redirects: the key would go along. The time of a whole call is bounded by whoever makes it.
        self._model_http = http_client(AnswersClient, read_seconds=3600, follow_redirects=False)
        #: For tool servers. Their headers are set on each request, see `tools`.
        self.tool_http = http_client(ToolsClient, read_seconds=300, follow_redirects=True)
        self._models: OrderedDict[tuple[Provider, str, str], Model] = OrderedDict()
        self._clients: OrderedDict[tuple[Provider, str], Any] = OrderedDict()
        self._key_gates: OrderedDict[str, KeyGate] = OrderedDict()
        self._slots: OrderedDict[str, Slots] = OrderedDict()
        self._learned: OrderedDict[tuple[Provider, str, str], Learned] = OrderedDict()
        self._preparing = asyncio.Lock()
        self._prepared: set[Provider] = set()

    @classmethod
    def take(cls) -> Self:
        """The one of the running event loop; to be given back."""
        loop = asyncio.get_running_loop()
        shared = cls._by_loop.get(loop)
        if not isinstance(shared, cls):
            shared = cls._by_loop[loop] = cls()
        shared._users += 1
        return shared

    async def give_back(self) -> None:
        """Close the connections when nobody uses them any more."""
        self._users -= 1
        if self._users == 0:
            loop = asyncio.get_running_loop()
            if self._by_loop.get(loop) is self:
                del self._by_loop[loop]
            await self._model_http.aclose()
            await self.tool_http.aclose()

    async def prepare(self, chosen: Iterable[Endpoint]) -> None:
        """Make each provider's first model, in a thread: that imports its client, and the event loop must not wait.

        Raises:
            MisconfiguredError: the client is not installed.
        """
        for endpoint in chosen:
            if endpoint.provider in self._prepared:
                continue
            # One thread for all who wait: the others are for whoever looks up a name.
            async with self._preparing:
                if endpoint.provider not in self._prepared:
                    client, model = await asyncio.to_thread(self._first, endpoint)
                    place = (endpoint.provider, endpoint.base_url)
                    self._clients[place], self._models[*place, endpoint.model] = client, model
                    self._prepared.add(endpoint.provider)

    def _first(self, endpoint: Endpoint) -> tuple[Any, Model]:
        """A provider's first client and model."""
        modules = len(sys.modules)
        try:
            client = self._client(endpoint.provider, endpoint.base_url)
            model = self._make(endpoint, client)
        except ImportError as error:
            raise MisconfiguredError(
                f"the client for {endpoint.provider} is not installed; it comes with: "
                "pip install 'aiwm-supervisor[llm]'"
            ) from error
        if len(sys.modules) - modules >= _HEAVY_IMPORT_MODULES:
            # As after the handler's own import: cyclic garbage of this moment stays too, once for each provider.
            gc.freeze()
        return client, model

    def key_gate(self, endpoint: Endpoint, key: str) -> KeyGate:
        """What all who use this key at this address share."""
        name = digest(endpoint.provider, endpoint.base_url, key)
        return _kept(self._key_gates, name, KeyGate, MAX_GATES)

    def slots(self, endpoint: Endpoint) -> Slots:
        """The calls to this address."""
        return _kept(self._slots, f"{endpoint.provider} {endpoint.base_url}", Slots, MAX_GATES)

    def learned(self, endpoint: Endpoint) -> Learned:
        """What is known of this model at this address."""
        return _kept(self._learned, (endpoint.provider, endpoint.base_url, endpoint.model), Learned, MAX_GATES)

    def model(self, endpoint: Endpoint) -> Model:
        """The model as pydantic-ai knows it, once it is prepared.

        Retries of its client are off: ours know the message's deadline.
        """
        place = (endpoint.provider, endpoint.base_url)
        return _kept(
            self._models,
            (*place, endpoint.model),
            lambda: self._make(endpoint, _kept(self._clients, place, lambda: self._client(*place), MAX_MODELS)),
            MAX_MODELS,
        )

    # Imported here, for only the providers in use shall be: Anthropic's client takes seconds and tens of megabytes.

    def _make(self, endpoint: Endpoint, client: Any) -> Model:
        match endpoint.provider:
            case "openai":
                from pydantic_ai.models.openai import OpenAIChatModel  # noqa: PLC0415
                from pydantic_ai.providers.openai import OpenAIProvider  # noqa: PLC0415

                profile = ModelProfile(thinking_tags=NO_TAGS)
                return OpenAIChatModel(endpoint.model, provider=OpenAIProvider(openai_client=client), profile=profile)
            case "anthropic":
                from pydantic_ai.models.anthropic import AnthropicModel  # noqa: PLC0415
                from pydantic_ai.providers.anthropic import AnthropicProvider  # noqa: PLC0415

                return AnthropicModel(endpoint.model, provider=AnthropicProvider(anthropic_client=client))
            case "google":
                from pydantic_ai.models.google import GoogleModel  # noqa: PLC0415
                from pydantic_ai.providers.google import GoogleProvider  # noqa: PLC0415

                return GoogleModel(endpoint.model, provider=GoogleProvider(client=client))

    def _client(self, provider: Provider, base_url: str) -> Any:
        http = self._model_http
        match provider:
            case "openai":
                from .wire.openai_client import JsonOpenAI  # noqa: PLC0415

                return JsonOpenAI(base_url=base_url, api_key=_PLACEHOLDER, http_client=http, max_retries=0)
            case "anthropic":
                from anthropic import AsyncAnthropic  # noqa: PLC0415

                return AsyncAnthropic(base_url=base_url, api_key=_PLACEHOLDER, http_client=http, max_retries=0)
            case "google":
                from google.genai import Client as GoogleClient  # noqa: PLC0415
                from google.genai.types import HttpOptions  # noqa: PLC0415

                options = HttpOptions(base_url=base_url, httpx_async_client=http)
                return GoogleClient(vertexai=False, api_key=_PLACEHOLDER, http_options=options)


def _kept(store: OrderedDict[Any, _V], name: Any, make: Callable[[], _V], limit: int) -> _V:
    """The newest ``limit`` of what was asked for."""
    if name not in store:
        store[name] = make()
        if len(store) > limit:
            store.popitem(last=False)
    store.move_to_end(name)
    return store[name]
