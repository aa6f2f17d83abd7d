"""A sandbox and a supervisor beside it, over real sockets and a real SQLite file, for integration tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.sandbox import Sandbox, SandboxUser, StoredMessage
from supervisor.service import Service
from supervisor.settings import Settings
from supervisor.store.dialect import Dialect
from tests.support.registries import opener

SECRET = "s3cret-of-the-test"
SECRET_FILE = "agent-secret"
#: How long a test waits for what comes at once on a machine that does nothing else.
PATIENCE_SECONDS = 30.0


def handler_module(name: str) -> Any:
    """The module of a handler as the running supervisor loaded it."""
    return sys.modules[f"supervisor_agents.{name}"]


def agent_id(number: int) -> str:
    """The id of the test's n-th agent: 24 hex digits."""
    return f"{number:024x}"


def is_apology(message: StoredMessage) -> bool:
    """Whether a message tells its person of a failure, in the form that people's clients draw: without a type.

    v1 stores what has no type as text.
    """
    return message.type in (None, "text") and bool(message.document.get("error"))


class Addresses(Protocol):
    """Where a platform is."""

    @property
    def api_url(self) -> str:
        """Its REST side."""

    @property
    def ws_url(self) -> str:
        """Its sockets."""


def make_settings(folder: Path, sandbox: Addresses, **given: Any) -> Settings:
    """Settings for a supervisor beside ``sandbox``, with waits that suit a test."""
    values: dict[str, Any] = {
        "registry_url": f"sqlite+aiosqlite:///{folder / 'supervisor.db'}",
        "api_url": sandbox.api_url,
        "ws_url": sandbox.ws_url,
        "admin_port": 0,
        "secret_dirs": (folder,),
        "backoff_initial_seconds": 0.05,
        "backoff_cap_seconds": 0.4,
        "drain_seconds": 5.0,
        "connect_rate": 1000,
        "auth_rate": 1000,
        **given,
    }
    return Settings(**values)


@dataclass
class Stack:
    """What a test plays with."""

    folder: Path
    sandbox: Sandbox
    settings: Settings
    service: Service
    users: list[SandboxUser] = field(default_factory=list)
    #: What :meth:`Service.start` is given besides the settings.
    parts: Mapping[str, Any] = field(default_factory=dict)

    async def add(self, number: int = 1, handler: str = "echo", **fields: Any) -> str:
        """Register an agent with the platform and in the registry; returns its id."""
        identity = agent_id(number)
        self.sandbox.add_agent(identity, SECRET, name=f"Agent {number}")
        record = AgentRecord(id=identity, handler=handler, secret=f"file:{self.folder / SECRET_FILE}", **fields)
        await self.service.registry.add_agent(record)
        return identity

    async def online(self, count: int = 1, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until so many agents are online."""
        await self.service.fleet.wait_online(count, timeout)

    async def state(self, identity: str, *states: AgentState, timeout: float = PATIENCE_SECONDS) -> str:
        """Wait until an agent is in one of ``states``; returns the reason it gives."""
        # Looked at in every turn of the loop: a backoff may be over within a millisecond.
        async with asyncio.timeout(timeout):
            while not any(s.id == identity and s.state in states for s in self.service.control.statuses()):
                await asyncio.sleep(0)
        return self.service.control.status(identity).reason

    async def until(self, condition: Callable[[], object], timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until ``condition`` holds; it is looked at whenever the event loop has had a turn."""
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.005)

    async def ask(
        self, identity: str, text: str, *, count: int = 1, timeout: float = PATIENCE_SECONDS
    ) -> list[StoredMessage]:
        """Say something to an agent as a user and wait for ``count`` messages of its answer."""
        user = self.users[0] if self.users else await self.sandbox.user()
        if not self.users:
            self.users.append(user)
        conversation = await user.open(identity)
        message = await user.say(conversation, text)
        return await user.wait_for_reply(conversation, after=message, count=count, timeout=timeout)

    async def restart(self, *, grace_seconds: float | None = None, **given: Any) -> None:
        """Stop the supervisor and start another on the same registry."""
        await self.service.stop(grace_seconds)
        self.settings = self.settings.model_copy(update=given)
        self.service = await Service.start(self.settings, **self.parts)


@asynccontextmanager
async def stack(
    folder: Path,
    *,
    sandbox_settings: dict[str, Any] | None = None,
    dialect: Dialect | None = None,
    parts: Mapping[str, Any] | None = None,
    **given: Any,
) -> AsyncIterator[Stack]:
    """A running sandbox and supervisor; both are gone afterwards, whatever the test did.

    Args:
        dialect: of the registry's database; SQLite as it comes unless given.
        parts: what :meth:`Service.start` is given besides: a clock, the traces.
        given: settings of the deployment.
    """
    (folder / SECRET_FILE).write_text(SECRET)
    async with Sandbox(**(sandbox_settings or {})) as sandbox:
        settings = make_settings(folder, sandbox, **given)
        made = {**({} if dialect is None else {"open_registry": opener(dialect)}), **(parts or {})}
        running = Stack(folder, sandbox, settings, await Service.start(settings, **made), parts=made)
        try:
            yield running
        finally:
            await running.service.stop(grace_seconds=1)
