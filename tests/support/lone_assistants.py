"""One assistant without a platform, on models that a test plays: what it asks of them, says, counts and notes."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from supervisor.handler import Budget, HistoryItem, Message, Part, Reply, Usage
from supervisor.handlers.loader import PACKAGE, HandlerLoader
from supervisor.handlers.mounted import MountedHandler
from supervisor.protocol.answers import Deployment
from supervisor.protocol.inbound import collected
from supervisor.testing import CONVERSATION_ID, FakeContext
from tests.support.fake_mcp import FakeMcp
from tests.support.fake_models import MODEL_KEY, FakeModels, fake_models
from tests.support.paths import ROOT

KEY = "env:AGENT_MODEL_KEY"


class CountingContext(FakeContext):
    """A context that keeps each call of ``usage()`` apart."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.calls: list[Usage] = []

    def usage(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        model: str = "unknown",
        cached_tokens: int = 0,
        provider: str = "unknown",
        reasoning_tokens: int = 0,
        estimated: bool = False,
    ) -> None:
        spent = Usage(prompt_tokens, completion_tokens, model, cached_tokens, provider, reasoning_tokens, estimated)
        super().usage(
            prompt_tokens,
            completion_tokens,
            model=model,
            cached_tokens=cached_tokens,
            provider=provider,
            reasoning_tokens=reasoning_tokens,
            estimated=estimated,
        )
        self.calls.append(spent)


@dataclass
class LoneAssistant:
    """An assistant in one conversation; what was said is kept between its messages as the platform would.

    Attributes:
        settings: its row's.
        given: what else its context has: ``budget``, ``deployment``, ``mcp_servers`` …
        ctx: the context of the last message.
        said: the conversation so far.
        calls: what each model call cost, of all messages.
    """

    models: FakeModels
    handler: MountedHandler
    settings: dict[str, Any]
    given: dict[str, Any]
    instruction: Any = "Be brief."
    seconds: float = 30.0
    said: list[HistoryItem] = field(default_factory=list)
    calls: list[Usage] = field(default_factory=list)
    _ctx: CountingContext | None = None

    @property
    def ctx(self) -> CountingContext:
        assert self._ctx is not None, "nothing was asked yet"
        return self._ctx

    @property
    def health(self) -> str | None:
        """The last word on its health."""
        return self.ctx.health

    def context(self) -> CountingContext:
        """A context as the next message has it."""
        ctx = CountingContext(
            settings=self.settings,
            instruction=self.instruction,
            history=self.said,
            secrets={KEY: MODEL_KEY},
            **self.given,
        )
        ctx.handler = self.handler
        ctx.deadline += self.seconds - 30.0
        if self._ctx is not None:
            ctx.health = self._ctx.health
            ctx.memory = self._ctx.memory
        return ctx

    async def start(self) -> None:
        """As when its agent starts."""
        self._ctx = self.context()
        await self.handler.hook("on_start", self._ctx)

    async def settled(self) -> None:
        """Return once nothing goes on beside its answers."""
        name = f"summary {self.ctx.agent.id}"
        await asyncio.wait_for(asyncio.gather(*[one for one in asyncio.all_tasks() if one.get_name() == name]), 30)

    async def stop(self) -> None:
        """As when its agent stops."""
        await self.handler.hook("on_stop", self.ctx)

    async def parts(self, text: str = "hello", *, earlier: Sequence[Message] = (), **message: Any) -> list[Part]:
        """All that it answers to a message, together with those before it."""
        said = collected(Message(conversation_id=CONVERSATION_ID, role="user", content=text, **message), earlier)
        # Prepared before the context is: the history ends with the message.
        self._ctx = ctx = self.context()
        ctx.note_message(said)
        self.said.append(HistoryItem("user", text, 0.0))
        try:
            async for part in self.handler.parts(said, ctx):
                ctx.take(part)
        finally:
            self.calls += ctx.calls
        for part in ctx.parts:
            if isinstance(part, Reply) and part.type is None:
                self.said.append(HistoryItem("assistant", part.content, 0.0))
        return ctx.parts

    async def ask(self, text: str = "hello", **message: Any) -> Reply:
        """The last part of its answer."""
        last = (await self.parts(text, **message))[-1]
        assert isinstance(last, Reply)
        return last


@functools.cache
def _loader() -> HandlerLoader:
    return HandlerLoader(ROOT / "agents")


def mounted() -> MountedHandler:
    """A fresh assistant, as the supervisor loads it; its code is read once."""
    return _loader().load("assistant")


@asynccontextmanager
async def lone_assistant(
    provider: str = "openai",
    model: str = "gpt-4o",
    *,
    servers: dict[str, FakeMcp] | None = None,
    deployment: str | None = None,
    budget: Budget | None = None,
    allowed: Sequence[str] = (),
    seconds: float = 30.0,
    functions: Any = (),
    **settings: Any,
) -> AsyncIterator[LoneAssistant]:
    """A running assistant on fake models.

    Args:
        deployment: the provider of a deployment of the platform's, in place of a model of the row's.
        seconds: how long it has for a message.
        functions: its own tools.
        settings: more of its row's.
    """
    async with fake_models() as models:
        base_url = models.openai_url if provider == "openai" else models.url
        row: dict[str, Any] = {"model": f"{provider}:{model}", "base_url": base_url, "api_key": KEY}
        given: dict[str, Any] = {"allowed_functions": allowed}
        if deployment is not None:
            row = {}
            given["deployment"] = Deployment(provider=deployment, model="m", base_api_endpoint=models.proxy_url)
        if servers:
            given["mcp_servers"] = {name: {"type": "http", "url": server.url} for name, server in servers.items()}
            row["allow_local_tools"] = True
        if budget is not None:
            given["budget"] = budget
        handler = await asyncio.to_thread(mounted)
        handler.target.tools = functions
        assistant = LoneAssistant(models, handler, {**row, **settings}, given, seconds=seconds)
        await assistant.start()
        try:
            yield assistant
        finally:
            await assistant.stop()


def part(name: str) -> Any:
    """One of the assistant's modules, as the supervisor loads them."""
    mounted()
    return importlib.import_module(f"{PACKAGE}.assistant.{name}")
