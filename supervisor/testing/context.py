"""What a tested handler sees of the supervisor, and what it did."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote

from supervisor.core.errors import ConfigurationError, InvalidReplyError
from supervisor.core.history import in_place_of
from supervisor.handler import (
    AgentInfo,
    Attachment,
    Budget,
    Context,
    HistoryItem,
    Message,
    ModelCall,
    Part,
    Permission,
    PlatformError,
    Remembered,
    Sender,
    Usage,
)
from supervisor.handlers import MountedHandler, to_outbound
from supervisor.handlers.foreign import contained
from supervisor.messages.context import channel_payload
from supervisor.protocol import InvalidMessageError, check_outbound
from supervisor.protocol.answers import Deployment, Instruction
from supervisor.telemetry.logs import get_logger

#: Whom the tested handler works for, and where it is spoken to.
AGENT_ID = "a" * 24
CONVERSATION_ID = "c" * 24

#: How long an answer may take before a test fails rather than hangs.
ANSWER_SECONDS = 30.0
#: What a message may hold, less the frame around it: the platform drops a socket that sends more than 1 MB.
_MAX_BYTES = 1_000_000 - 1024
_UNLIMITED = Budget(exhausted=False, notice="", spent_tokens=0, limit_tokens=None, spent_cost=0.0, limit_cost=None)

_T = TypeVar("_T")


class _Timed:
    """What a tested handler times, by name."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.tools: list[str] = []
        self.spans: list[str] = []

    @contextmanager
    def model_call(
        self,
        model: str,
        *,
        provider: str = "unknown",  # noqa: ARG002 - promised
        expected: Usage | None = None,  # noqa: ARG002 - promised
    ) -> Iterator[ModelCall]:
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


class FakeContext(_Timed):
    """A :class:`supervisor.handler.Context` without a platform: it gives what it is given and records what is done.

    Args:
        settings: as ``ctx.settings``.
        instruction: the platform's system prompt, or all of the instruction.
        history: what was said before, the message being answered aside: texts of a person, or items.
        secrets: what each reference, as ``env:KEY``, resolves to.
        permissions: what the deployment allows.
        budget: what may still be spent; nothing limits it unless given.
        online_users: the ids of who is in the conversation.
        trouble: what ``channel_send()`` and ``upload()`` raise, as on a platform that has neither.

    Attributes:
        parts: what was sent or answered, in order.
        typed: each ``typing()``: shown or hidden.
        read: whether the message was marked as read.
        used: the tokens of all ``usage()`` together, under the last model's name.
        models: the models of ``model_call()``, those that answered.
        tools: the names of ``tool_call()``, in the order in which they ended.
        spans: the names of ``span()``, likewise.
        memory: what ``remember()`` was last given.
        health: the reason of the last ``note_health()``.
        conversations: others that were joined and not left.
        channels: the payload of each ``channel_send()``.
        handler: the one that ``ask()`` runs with it, for ``load()``.
        files: what was uploaded, by the URL that ``upload()`` gave.
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
        trouble: PlatformError | None = None,
    ) -> None:
        super().__init__()
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
        self.memory: Remembered | None = None
        self.health: str | None = None
        self.conversations: set[str] = set()
        self.channels: list[Mapping[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.handler: MountedHandler | None = None
        self._sender = Sender()
        self._trouble = trouble
        self._history: list[HistoryItem] = []
        for item in history:
            said = HistoryItem("user", item, 0.0) if isinstance(item, str) else item
            self._history.append(_numbered(said, self._history))
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

    async def load(self, reference: str) -> Any:
        if self.handler is None:
            raise ConfigurationError("FakeContext loads nothing by itself; let ask() run the handler")
        return await self.handler.load(reference)

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(contained, function)

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

    async def remembered(self) -> Remembered | None:
        return self.memory

    async def remember(self, text: str, items: Sequence[HistoryItem]) -> bool:
        self.memory = in_place_of(items, self.memory, text, time.time())
        return True

    def note_message(self, message: Message) -> None:
        """What is being answered is part of the history, and says where ``channel_send()`` leads."""
        self._sender = message.sender
        self._history.append(_numbered(HistoryItem(message.role, message.content, time.time()), self._history))

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
        reasoning_tokens: int = 0,
        estimated: bool = False,
    ) -> None:
        before = self.used
        self.used = Usage(
            before.prompt_tokens + prompt_tokens,
            before.completion_tokens + completion_tokens,
            model,
            before.cached_tokens + cached_tokens,
            provider,
            before.reasoning_tokens + reasoning_tokens,
            before.estimated or estimated,
        )

    async def online_users(self) -> list[str]:
        return list(self._online_users)

    async def channel_send(
        self,
        part: str | Mapping[str, Any],
        *,
        caption: str | None = None,
        connection: str | None = None,
        channel: str | None = None,
    ) -> None:
        sender = self._sender
        payload = channel_payload(part, caption, connection or sender.connection, channel or sender.channel)
        if self._trouble is not None:
            raise self._trouble
        self.channels.append(payload)

    async def upload(self, content: bytes, name: str, media_type: str | None = None) -> Attachment:
        if self._trouble is not None:
            raise self._trouble
        url = f"https://files.example/{len(self.files) + 1}/{quote(name)}"
        self.files[url] = bytes(content)
        return Attachment(url, name=name, media_type=media_type, size=len(content))

    async def join(self, conversation_id: str) -> None:
        self.conversations.add(conversation_id)

    async def leave(self, conversation_id: str) -> None:
        self.conversations.discard(conversation_id)


def _numbered(item: HistoryItem, before: Sequence[HistoryItem]) -> HistoryItem:
    """An item with a number, as each has that a supervisor journaled."""
    newest = before[-1].id or 0 if before else 0
    return item if item.id is not None else replace(item, id=newest + 1)


def _conforms(context: FakeContext) -> Context:
    """For the type checker: it is what handler authors are promised."""
    return context
