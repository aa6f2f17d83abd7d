"""Runs a handler in a chat: a real supervisor, the sandbox, and a person who talks to it."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from supervisor.core.errors import HandlerError
from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.sandbox import Profile, Sandbox, SandboxUser, StoredMessage
from supervisor.service import Service
from supervisor.settings import Settings
from supervisor.testing.context import AGENT_ID, ANSWER_SECONDS
from supervisor.testing.folder import agents_folder, packages_of

#: How long an agent may take to come online: a handler may import large libraries on a busy machine.
START_SECONDS: Final = 120.0
#: So many lines of the log are told where an agent did not answer.
_LOG_LINES: Final = 10


class _Log(logging.Handler):
    """The last warnings and errors of the supervisor's log, while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=_LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> _Log:
        logging.getLogger("supervisor").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("supervisor").removeHandler(self)


class Chat:
    """A person's conversation with the tested handler. ``sandbox`` and ``service`` are there for what is special."""

    def __init__(
        self, sandbox: Sandbox, service: Service, user: SandboxUser, conversation: str, log: _Log | None = None
    ) -> None:
        self.sandbox = sandbox
        self.service = service
        self.user = user
        self.conversation = conversation
        self._log = log or _Log()

    async def ask(self, text: str, *, timeout: float = ANSWER_SECONDS, **fields: Any) -> StoredMessage:
        """Say something; the first answer as the platform keeps it.

        An apology is one: it has no type of its own, and ``error`` in its ``document`` (v1, v2).

        Args:
            fields: further fields of the message, as ``attachments`` and, from v2 on, ``references``.

        Raises:
            TimeoutError: none came within ``timeout`` seconds; says what came, and what the agent was doing.
        """
        message = await self.user.say(self.conversation, text, **fields)
        try:
            replies = await self.user.wait_for_reply(self.conversation, after=message, timeout=timeout)
        except TimeoutError:
            raise TimeoutError(
                f"no answer to {text!r} came within {timeout:g} s; what came: {self._since(message)}\n"
                f"{_account(self.service, self._log)}"
            ) from None
        return next(reply for reply in reversed(replies) if reply.type in (None, "text", "error"))

    def _since(self, message: str) -> str:
        """What was said after a message, in a line."""
        said = self.messages
        after = said[[one.id for one in said].index(message) + 1 :]
        return ", ".join(f"{one.type or 'text'}: {one.content!r}" for one in after) or "nothing"

    @property
    def messages(self) -> list[StoredMessage]:
        """All that was said so far, thinking and tool calls among it."""
        return self.sandbox.messages(self.conversation)


@asynccontextmanager
async def sandboxed(
    handler: str,
    *,
    agents_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    profile: Profile = "v1",
    instruction: str | None = None,
    model: str | None = None,
    **deployment: Any,
) -> AsyncIterator[Chat]:
    """A local platform, a supervisor with one agent of that handler, and a person who talks to it.

    Args:
        handler: its name in the agents folder, or ``package.module:attribute``.
        agents_dir: the folder of handlers; without one it is looked for as ``supervisor run`` does.
        settings: the settings of the agent's row.
        profile: the generation of the platform: v1, v2 or v3.
        instruction: what the platform tells the agent to be; none unless given.
        model: v2: the name of a made-up model behind the platform's proxy, which says what it was told.
        deployment: further deployment settings, as ``timeout_seconds=5``.

    Raises:
        ConfigurationError: there is no such handler, or a setting is none of its own or does not fit; says which.
        HandlerError: the handler cannot be loaded or started; says why.
        TimeoutError: the agent did not come online; says what it waited for.
    """
    with tempfile.TemporaryDirectory(prefix="supervisor-test-") as name, _Log() as log:
        folder = Path(name)
        (folder / "secret").write_text("secret-of-the-test")
        async with Sandbox(profile=profile) as sandbox:
            sandbox.add_agent(AGENT_ID, "secret-of-the-test", name="Agent", instruction=instruction)
            if model is not None:
                sandbox.deploy(AGENT_ID, model=model)
            values = {"agents_dir": agents_folder(agents_dir), "handler_packages": packages_of(handler), **deployment}
            service = await Service.start(_settings(folder, sandbox, values))
            try:
                record = AgentRecord(
                    id=AGENT_ID, handler=handler, secret=f"file:{folder / 'secret'}", settings=dict(settings or {})
                )
                # As a command would: what it refuses, no test takes.
                await service.control.add(record)
                await _online(service, log)
                user = await sandbox.user()
                yield Chat(sandbox, service, user, await user.open(AGENT_ID), log)
            finally:
                await service.stop(grace_seconds=1)


def _settings(folder: Path, sandbox: Sandbox, values: Mapping[str, Any]) -> Settings:
    return Settings(
        _env_file=None,
        **{
            "registry_url": f"sqlite+aiosqlite:///{folder / 'supervisor.db'}",
            "api_url": sandbox.api_url,
            "ws_url": sandbox.ws_url,
            "admin_port": 0,
            "secret_dirs": (folder,),
            "agents_file": None,
            **values,
        },
    )


async def _online(service: Service, log: _Log) -> None:
    waiting = asyncio.ensure_future(service.fleet.wait_online(1, START_SECONDS))
    while not waiting.done():
        status = service.control.status(AGENT_ID)
        if status.state in (AgentState.FAULTED, AgentState.REJECTED):
            waiting.cancel()
            raise HandlerError(status.reason)
        await asyncio.wait([waiting], timeout=0.02)
    try:
        waiting.result()
    except TimeoutError:
        raise TimeoutError(f"the agent is not online after {START_SECONDS:g} s\n{_account(service, log)}") from None


def _account(service: Service, log: _Log) -> str:
    """What the agent is doing, and what its log said that matters: a line each, and where its handler stands."""
    status = service.control.status(AGENT_ID)
    lines = [f"the agent is {status.state}{f': {status.reason}' if status.reason else ''}; health: {status.health}"]
    lines += [f"its handler stands at\n{one.stack.rstrip()}" for one in status.handling]
    return "\n".join(lines + [f"the log: {line}" for line in log.lines])
