"""Assistants in a running stack, on models and tool servers that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.core.records import AgentRecord
from supervisor.sandbox import StoredMessage
from tests.support.fake_mcp import FakeMcp
from tests.support.fake_models import MODEL_KEY, FakeModels, fake_models
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, stack

#: Importing the models' clients takes seconds, on a busy machine many.
ONLINE_SECONDS = 60.0
KEY_FILE = "model-key"
_SHOWN = ("thinking", "tool_call", "tool_result")


@dataclass
class Assistants:
    """What a test plays with."""

    stack: Stack
    models: FakeModels
    added: int = 0

    def settings(self, provider: str = "openai", model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
        """A row's settings for a model of the fake servers."""
        base_url = self.models.openai_url if provider == "openai" else self.models.url
        key = f"file:{self.stack.folder / KEY_FILE}"
        return {"model": f"{provider}:{model}", "base_url": base_url, "api_key": key, **more}

    async def add(
        self,
        number: int | None = None,
        *,
        instruction: str | dict[str, Any] | None = "Be brief.",
        servers: dict[str, FakeMcp] | None = None,
        allowed: list[str] | None = None,
        deployment: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        online: bool = True,
        **more: Any,
    ) -> str:
        """Register an assistant, the next or that number; ``more`` is added to the settings of :meth:`settings`."""
        self.added += 1
        identity = agent_id(number or self.added)
        tools = {name: {"type": "http", "url": server.url} for name, server in (servers or {}).items()}
        self.stack.sandbox.add_agent(
            identity,
            SECRET,
            instruction=instruction,
            mcp_servers=tools,
            deployment=deployment,
            allowed_functions=allowed,
        )
        chosen = self.settings(allow_local_tools=True, **more) if settings is None else settings
        secret = f"file:{self.stack.folder / SECRET_FILE}"
        record = AgentRecord(id=identity, handler="assistant", secret=secret, settings=chosen)
        await self.stack.service.registry.add_agent(record)
        if online:
            await self.stack.online(self.added, ONLINE_SECONDS)
        return identity

    async def say(self, identity: str, text: str) -> tuple[str, str]:
        """Say something as a user of one's own; returns conversation and message."""
        user = await self.stack.sandbox.user()
        conversation = await user.open(identity)
        return conversation, await user.say(conversation, text)

    async def ask(self, identity: str, text: str, *, timeout: float = 30.0, count: int = 1) -> list[StoredMessage]:
        """Say something and wait for all of the answer: ``count`` messages that are no sign of work."""
        conversation, message = await self.say(identity, text)
        return await self.answer(conversation, message, timeout=timeout, count=count)

    async def answer(
        self, conversation: str, message: str, *, timeout: float = 30.0, count: int = 1
    ) -> list[StoredMessage]:
        """What came after a message, once ``count`` messages that are no sign of work are there."""

        def said() -> list[StoredMessage] | None:
            messages = self.stack.sandbox.messages(conversation)
            number = next(n for n, one in enumerate(messages) if one.id == message)
            later = [one for one in messages[number + 1 :] if one.sender_kind == "agent"]
            return later if sum(one.type not in _SHOWN for one in later) >= count else None

        return await self.stack.sandbox.wait_until(said, timeout) or []

    def health(self, identity: str) -> str:
        """What the agent's status says of its health."""
        return self.stack.service.control.status(identity).health


@asynccontextmanager
async def assistants(folder: Path, *, sandbox: dict[str, Any] | None = None, **given: Any) -> AsyncIterator[Assistants]:
    """A stack beside fake models."""
    (folder / KEY_FILE).write_text(MODEL_KEY)
    async with fake_models() as models, stack(folder, sandbox_settings=sandbox, **given) as running:
        yield Assistants(running, models)
