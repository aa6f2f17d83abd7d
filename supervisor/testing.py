"""For the tests of handlers: run one alone, or in a chat on a local platform.

Alone, with all that it gives checked as the supervisor does::

    reply = await ask("shout", "hello", agents_dir="agents")
    assert reply.content == "HELLO"

What it sees and does beside that is in a :class:`FakeContext`::

    ctx = FakeContext(settings={"tone": "friendly"})
    await ask(on_message, "hello", ctx)
    assert ctx.used.total_tokens == 30

And as people meet it, through a real supervisor and the sandbox::

    async with sandboxed("shout", agents_dir="agents") as chat:
        reply = await chat.ask("hello")

No framework is needed: ``asyncio.run(ask(…))`` does in a plain test function.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from supervisor.core.errors import ConfigurationError, HandlerError, InvalidReplyError
from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.handler import (
    AgentInfo,
    Budget,
    Context,
    Handler,
    HistoryItem,
    Message,
    ModelCall,
    Part,
    Permission,
    Reply,
    Usage,
)
from supervisor.handlers.loader import HandlerLoader, MountedHandler, find_agents_dir
from supervisor.handlers.parts import to_outbound
from supervisor.handlers.threads import DaemonThreads, ThreadShare
from supervisor.protocol import Deployment, Instruction, InvalidMessageError, check_outbound
from supervisor.sandbox import Profile, Sandbox, SandboxUser, StoredMessage
from supervisor.service import Service
from supervisor.settings import Settings
from supervisor.telemetry.logs import get_logger

__all__ = ["AGENT_ID", "CONVERSATION_ID", "Chat", "FakeContext", "ask", "sandboxed"]

#: Whom the tested handler works for, and where it is spoken to.
AGENT_ID = "a" * 24
CONVERSATION_ID = "c" * 24

#: How long an answer may take before a test fails rather than hangs.
ANSWER_SECONDS = 30.0
#: What a message may hold (PROTOCOL §2), less the frame around it.
_MAX_BYTES = 1_000_000 - 1024
_UNLIMITED = Budget(exhausted=False, notice="", spent_tokens=0, limit_tokens=None, spent_cost=0.0, limit_cost=None)


class FakeContext:
    """A :class:`supervisor.handler.Context` without a platform: it gives what it is given and records what is done.

    Args:
        settings: as ``ctx.settings``.
        instruction: the platform's system prompt, or all of the instruction.
        history: what was said before, the message being answered aside: texts of a person, or items.
        secrets: what each reference, as ``env:KEY``, resolves to.
        permissions: what the deployment allows.
        budget: what may still be spent; nothing limits it unless given.
        online_users: the ids of who is in the conversation.

    Attributes:
        parts: what was sent or answered, in order.
        typed: each ``typing()``: shown or hidden.
        read: whether the message was marked as read.
        used: the tokens of all ``usage()`` together, under the last model's name.
        models: the models of ``model_call()``, those that answered.
        tools: the names of ``tool_call()``, in the order in which they ended.
        spans: the names of ``span()``, likewise.
        health: the reason of the last ``note_health()``.
        conversations: others that were joined and not left.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, Any] | None = None,
        instruction: str | Instruction = "",
        history: Iterable[str | HistoryItem] = (),
        agent: AgentInfo | None = None,
        mcp_servers: Mapping[str, Any] | None = None,
        deployment: Deployment | None = None,
        allowed_functions: Sequence[str] = (),
        secrets: Mapping[str, str] | None = None,
        permissions: Iterable[Permission] = (),
        budget: Budget = _UNLIMITED,
        online_users: Iterable[str] = (),
    ) -> None:
        self.agent = agent or AgentInfo(AGENT_ID, "Agent", {})
        self.settings: Mapping[str, Any] = dict(settings or {})
        self.instruction = Instruction(system_prompt=instruction) if isinstance(instruction, str) else instruction
        self.mcp_servers: Mapping[str, Any] = dict(mcp_servers or {})
        self.deployment = deployment
        self.allowed_functions = tuple(allowed_functions)
        self.conversation = CONVERSATION_ID
        self.idempotency_key = "0" * 64
        self.deadline = time.time() + ANSWER_SECONDS
        self.log: Any = get_logger("supervisor.testing")
        self.parts: list[Part] = []
        self.typed: list[bool] = []
        self.read = False
        self.used = Usage(0, 0)
        self.models: list[str] = []
        self.tools: list[str] = []
        self.spans: list[str] = []
        self.health: str | None = None
        self.conversations: set[str] = set()
        self._history = [HistoryItem("user", item, 0.0) if isinstance(item, str) else item for item in history]
        self._secrets = dict(secrets or {})
        self._permissions = frozenset(permissions)
        self._budget = budget
        self._online_users = list(online_users)

    def token(self) -> str:
        return "token-of-the-test"

    def secret(self, reference: str) -> str:
        try:
            return self._secrets[reference]
        except KeyError:
            raise ConfigurationError(f"FakeContext has no secret {reference}; give secrets={{…}}") from None

    @property
    def own_settings(self) -> Mapping[str, Any]:
        return self.settings

    def reaches(self, url: str) -> bool:  # noqa: ARG002 - promised
        return True

    def permits(self, permission: Permission) -> bool:
        return permission in self._permissions

    def budget(self) -> Budget:
        return self._budget

    @contextmanager
    def model_call(self, model: str, *, provider: str = "unknown") -> Iterator[ModelCall]:  # noqa: ARG002 - promised
        call = ModelCall(model)
        try:
            yield call
        finally:
            self.models.append(call.model)

    @contextmanager
    def tool_call(self, name: str, *, call_id: str | None = None) -> Iterator[None]:  # noqa: ARG002 - promised
        try:
            yield
        finally:
            self.tools.append(name)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        try:
            yield
        finally:
            self.spans.append(name)

    def trace_headers(self) -> dict[str, str]:
        return {}

    def note_health(self, reason: str | None) -> None:
        self.health = reason

    async def send(self, part: Part) -> None:
        self.take(part)

    def take(self, part: Part) -> None:
        """Record a part.

        Raises:
            InvalidReplyError: the platform would refuse it.
        """
        message = to_outbound(part, conversation_id=CONVERSATION_ID, agent_id=AGENT_ID)
        try:
            check_outbound(message, _MAX_BYTES)
        except InvalidMessageError as error:
            raise InvalidReplyError(f"the handler's reply cannot be sent: {error}") from error
        self.parts.append(part)

    async def history(self, limit: int = 20) -> list[HistoryItem]:
        return self._history[-limit:] if limit > 0 else []

    def note_message(self, message: Message) -> None:
        """What is being answered is part of the history."""
        self._history.append(HistoryItem(message.role, message.content, time.time()))

    def typing(self, on: bool = True) -> None:
        self.typed.append(on)

    def mark_read(self) -> None:
        self.read = True

    def usage(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        model: str = "unknown",
        cached_tokens: int = 0,
        provider: str = "unknown",
    ) -> None:
        before = self.used
        self.used = Usage(
            before.prompt_tokens + prompt_tokens,
            before.completion_tokens + completion_tokens,
            model,
            before.cached_tokens + cached_tokens,
            provider,
        )

    async def online_users(self) -> list[str]:
        return list(self._online_users)

    async def join(self, conversation_id: str) -> None:
        self.conversations.add(conversation_id)

    async def leave(self, conversation_id: str) -> None:
        self.conversations.discard(conversation_id)


def _conforms(context: FakeContext) -> Context:
    """For the type checker: it is what handler authors are promised."""
    return context


# ── a handler alone ──────────────────────────────────────────────────────────────────────────────────────────────────


async def ask(
    handler: str | Callable[..., Any] | Handler,
    text: str | Message,
    context: FakeContext | None = None,
    *,
    agents_dir: str | Path | None = None,
    timeout: float = ANSWER_SECONDS,
) -> Reply:
    """What a handler answers to one message, run from ``on_start`` to ``on_stop`` as the supervisor does.

    Args:
        handler: its name in the agents folder, ``package.module:attribute``, a function, a class or an object.
        text: what a person says, or a whole message.
        context: what it sees; all that it gives is in its ``parts`` afterwards.
        agents_dir: the folder of handlers; without one it is looked for as ``supervisor run`` does.
        timeout: seconds.

    Returns:
        The last part as a reply; text becomes one.

    Raises:
        HandlerError: there is no such handler. InvalidReplyError: the platform would refuse what it gives.
        LookupError: it said nothing, or nothing that is text. TimeoutError: it took too long. Or what it raises.
    """
    ctx = context or FakeContext()
    message = (
        text if isinstance(text, Message) else Message(conversation_id=ctx.conversation, role="user", content=text)
    )
    ctx.note_message(message)
    threads = DaemonThreads(2, "handler")
    try:
        async with asyncio.timeout(timeout):
            mounted = await _mounted(handler, agents_dir, threads)
            await mounted.hook("on_start", ctx)
            try:
                async for part in mounted.parts(message, ctx):
                    ctx.take(part)
            finally:
                await mounted.hook("on_stop", ctx)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    last = ctx.parts[-1] if ctx.parts else None
    if isinstance(last, str):
        return Reply(last)
    if isinstance(last, Reply):
        return last
    raise LookupError(f"the handler gave no reply; it gave {ctx.parts!r}")


async def _mounted(
    handler: str | Callable[..., Any] | Handler, agents_dir: str | Path | None, threads: DaemonThreads
) -> MountedHandler:
    if isinstance(handler, str):
        loader = HandlerLoader(_folder(agents_dir), packages=_packages(handler))
        # Its threads are never used: they begin with the first call, and this handler's are the caller's.
        loaded = await asyncio.to_thread(loader.load, handler)
        loader.close()
        return loaded.using(ThreadShare(threads, 1))
    target = await asyncio.to_thread(handler) if isinstance(handler, type) else handler
    name = getattr(handler, "__name__", type(handler).__name__)
    on_message = getattr(target, "on_message", target)
    if not callable(on_message):
        raise HandlerError(f"Handler {name!r} has no on_message")
    return MountedHandler(name, target, on_message, ThreadShare(threads, 1))


def _folder(agents_dir: str | Path | None) -> Path:
    return find_agents_dir(None if agents_dir is None else Path(agents_dir))


def _packages(handler: str) -> list[str]:
    """The installed package that a reference names, which the test allows by naming it."""
    module = handler.partition(":")[0]
    return [module.partition(".")[0]] if "." in module else []


# ── a handler in a chat ──────────────────────────────────────────────────────────────────────────────────────────────


class Chat:
    """A person's conversation with the tested handler. ``sandbox`` and ``service`` are there for what is special."""

    def __init__(self, sandbox: Sandbox, service: Service, user: SandboxUser, conversation: str) -> None:
        self.sandbox = sandbox
        self.service = service
        self.user = user
        self.conversation = conversation

    async def ask(self, text: str, *, timeout: float = ANSWER_SECONDS) -> StoredMessage:
        """Say something; the first answer, a text or an error, as the platform keeps it.

        Raises:
            TimeoutError: none came within ``timeout`` seconds.
        """
        message = await self.user.say(self.conversation, text)
        replies = await self.user.wait_for_reply(self.conversation, after=message, timeout=timeout)
        return next(reply for reply in reversed(replies) if reply.type in (None, "text", "error"))

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
    **deployment: Any,
) -> AsyncIterator[Chat]:
    """A local platform, a supervisor with one agent of that handler, and a person who talks to it.

    Args:
        handler: its name in the agents folder, or ``package.module:attribute``.
        agents_dir: the folder of handlers; without one it is looked for as ``supervisor run`` does.
        settings: the settings of the agent's row.
        profile: the generation of the platform, v1 or v2.
        deployment: further deployment settings, as ``timeout_seconds=5``.

    Raises:
        HandlerError: the handler cannot be loaded or started; says why.
    """
    with tempfile.TemporaryDirectory(prefix="supervisor-test-") as name:
        folder = Path(name)
        (folder / "secret").write_text("secret-of-the-test")
        async with Sandbox(profile=profile) as sandbox:
            sandbox.add_agent(AGENT_ID, "secret-of-the-test", name="Agent")
            values = {"agents_dir": _folder(agents_dir), "handler_packages": _packages(handler), **deployment}
            service = await Service.start(_settings(folder, sandbox, values))
            try:
                record = AgentRecord(
                    id=AGENT_ID, handler=handler, secret=f"file:{folder / 'secret'}", settings=dict(settings or {})
                )
                await service.registry.add_agent(record)
                await service.fleet.reconcile()
                await _online(service)
                user = await sandbox.user()
                yield Chat(sandbox, service, user, await user.open(AGENT_ID))
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
            **values,
        },
    )


async def _online(service: Service) -> None:
    waiting = asyncio.ensure_future(service.fleet.wait_online(1, ANSWER_SECONDS))
    while not waiting.done():
        status = service.control.status(AGENT_ID)
        if status.state in (AgentState.FAULTED, AgentState.REJECTED):
            waiting.cancel()
            raise HandlerError(status.reason)
        await asyncio.wait([waiting], timeout=0.02)
    waiting.result()
