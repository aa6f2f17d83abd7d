"""What a handler sees of the supervisor: the contexts of :mod:`supervisor.handler`, made for one agent or message."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from supervisor import handler
from supervisor.core.errors import SupervisorError
from supervisor.core.history import in_place_of
from supervisor.core.records import JournaledMessage
from supervisor.handler import (
    AgentInfo,
    Attachment,
    Budget,
    HistoryItem,
    ModelCall,
    Part,
    Permission,
    Remembered,
    Usage,
)
from supervisor.handlers import TimeLimit
from supervisor.handlers.threads import call_in_loop
from supervisor.messages.participation import Participation
from supervisor.messages.profile import Profile
from supervisor.messages.typing_indicator import TypingIndicator
from supervisor.protocol.answers import Deployment, Instruction
from supervisor.telemetry.tracing import AttemptTrace

_T = TypeVar("_T")


class AgentContext:
    """The context of hooks; see :class:`supervisor.handler.AgentContext`."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    @property
    def agent(self) -> AgentInfo:
        return self._profile.info

    @property
    def instruction(self) -> Instruction:
        return self._profile.answer.instruction

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._profile.merged_settings

    @property
    def mcp_servers(self) -> Mapping[str, Any]:
        return self._profile.answer.mcp_servers

    @property
    def deployment(self) -> Deployment | None:
        return self._profile.answer.deployment

    @property
    def allowed_functions(self) -> Sequence[str]:
        return self._profile.answer.allowed_functions

    @property
    def log(self) -> Any:
        return self._profile.scope.log

    def token(self) -> str:
        if self._profile.grant is None:
            raise SupervisorError(f"Agent {self._profile.scope.agent_id} has no token yet")
        return self._profile.token

    def secret(self, reference: str) -> str:
        return self._profile.secrecy.resolve(reference)

    @property
    def own_settings(self) -> Mapping[str, Any]:
        return self._profile.own_settings

    def reaches(self, url: str) -> bool:
        return self._profile.reaches(url)

    def permits(self, permission: Permission) -> bool:
        return self._profile.permits(permission)

    def budget(self) -> Budget:
        return self._profile.spending.budget()

    def model_call(
        self, model: str, *, provider: str = "unknown", expected: Usage | None = None
    ) -> AbstractContextManager[ModelCall]:
        return self._profile.spending.model_call(model, provider, expected)

    async def load(self, reference: str) -> Any:
        return await self._profile.handler.load(reference)

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        return await self._profile.handler.in_thread(function)

    def note_health(self, reason: str | None) -> None:
        self._profile.health.report(reason)


class MessageContext(AgentContext):
    """The context of ``on_message``; see :class:`supervisor.handler.Context`.

    ``typing`` and ``mark_read`` may be called from a handler's thread.

    Args:
        sending: whether answers of this conversation are on their way.

    Attributes:
        indicator: what the person sees of "typing …".
    """

    def __init__(
        self,
        profile: Profile,
        participation: Participation,
        row: JournaledMessage,
        *,
        time_limit: TimeLimit,
        send: Callable[[Part], Awaitable[None]],
        sending: Callable[[], bool],
        trace: AttemptTrace,
    ) -> None:
        super().__init__(profile)
        self._participation = participation
        self._row = row
        self._clock = profile.scope.clock
        self._time_limit = time_limit
        self._send = send
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self.indicator = TypingIndicator(self._emit_typing, held=sending)
        self._usage: Usage | None = None
        self._remembered: Remembered | None = None
        self._log: Any = None

    @property
    def conversation(self) -> str:
        return self._row.conversation_id

    @property
    def idempotency_key(self) -> str:
        # The journal's key is the platform's _id, or a random one where it sent none.
        parts = (self._row.agent_id, self._row.key, str(self._row.replay))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def deadline(self) -> float:
        return self._clock.now() + self._time_limit.left

    @property
    def log(self) -> Any:
        if self._log is None:
            # Bound here too: a handler may log from a thread of its own, which knows of no message.
            ids = {"conversation": self.conversation, "message_id": self._row.key, **self._trace.log_fields}
            self._log = self._profile.scope.log.bind(**ids)
        return self._log

    async def send(self, part: Part) -> None:
        await self._send(part)

    async def history(self, limit: int = 20) -> list[HistoryItem]:
        return await self._participation.history(self.conversation, limit, self._row.id)

    async def remembered(self) -> Remembered | None:
        self._remembered = await self._participation.remembered(self.conversation)
        return self._remembered

    async def remember(self, text: str, items: Sequence[HistoryItem]) -> bool:
        new = in_place_of(items, self._remembered, text, self._row.received_at)
        return await self._participation.remember(self._row, new)

    def typing(self, on: bool = True) -> None:
        self.indicator.show(on)

    def end(self) -> None:
        """The handler is over: "typing …" is taken back, and nothing shows it again."""
        self.indicator.end()

    def mark_read(self) -> None:
        for one in (*self._row.earlier, self._row):
            if one.message.id and one.message.said:
                payload = {"conversationId": self.conversation, "messageId": one.message.id}
                call_in_loop(self._loop, self._participation.emit, "message:read", payload)

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
        self._profile.spending.count(spent)
        self._usage = spent if self._usage is None else _sum(self._usage, spent)

    @contextmanager
    def model_call(
        self, model: str, *, provider: str = "unknown", expected: Usage | None = None
    ) -> Iterator[ModelCall]:
        spending, trace = self._profile.spending, self._trace
        with spending.model_call(model, provider, expected, trace.trace_id) as call, trace.model_call(call, provider):
            yield call

    def tool_call(self, name: str, *, call_id: str | None = None) -> AbstractContextManager[None]:
        return self._trace.tool_call(name, call_id)

    def span(self, name: str) -> AbstractContextManager[None]:
        return self._trace.span(name)

    def trace_headers(self) -> dict[str, str]:
        return self._trace.headers()

    def take_usage(self) -> Usage | None:
        """The sum of :meth:`usage` since the last reply that carried one."""
        usage, self._usage = self._usage, None
        return usage

    async def online_users(self) -> list[str]:
        return await self._participation.online_users(self.conversation) if self._row.message.said else []

    async def join(self, conversation_id: str) -> None:
        await self._participation.join(conversation_id)

    async def leave(self, conversation_id: str) -> None:
        await self._participation.leave(conversation_id)

    async def channel_send(
        self,
        part: str | Mapping[str, Any],
        *,
        caption: str | None = None,
        connection: str | None = None,
        channel: str | None = None,
    ) -> None:
        sender = self._row.message.sender
        payload = channel_payload(part, caption, connection or sender.connection, channel or sender.channel)
        if self._row.message.said:
            payload["conversationId"] = self.conversation
        await self._participation.channel_send(payload)

    async def upload(self, content: bytes, name: str, media_type: str | None = None) -> Attachment:
        guessed = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        return await self._participation.upload(bytes(content), name, guessed)

    def _emit_typing(self, on: bool) -> None:
        row = self._row
        if row.message.said:
            # The indicator runs on the loop, and what it shows must not come after what follows it.
            self._participation.emit("message:typing", {"conversationId": row.conversation_id, "isTyping": on})


def _sum(before: Usage, spent: Usage) -> Usage:
    """Both together, under the model that worked last."""
    return Usage(
        before.prompt_tokens + spent.prompt_tokens,
        before.completion_tokens + spent.completion_tokens,
        spent.model,
        before.cached_tokens + spent.cached_tokens,
        spent.provider,
        before.reasoning_tokens + spent.reasoning_tokens,
        before.estimated or spent.estimated,
    )


def channel_payload(
    part: str | Mapping[str, Any], caption: str | None, connection: str | None, channel: str | None
) -> dict[str, Any]:
    """The payload of a ``channel:send`` (docs/protocol.md#8-third-generation, 8).

    Raises:
        ValueError: nobody says where.
    """
    if not connection or not channel:
        raise ValueError("the message came through no channel: name connection and channel")
    payload: dict[str, Any] = {"connectionId": connection, "channelId": channel}
    if isinstance(part, Attachment):
        facts = {"filename": part.name, "mimeType": part.media_type, "caption": caption}
        known = {name: fact for name, fact in facts.items() if fact is not None}
        return {**payload, "file": {"fileUrl": str(part), **known}}
    return {**payload, "content": part} if isinstance(part, str) else {**payload, "embed": dict(part)}


def _conforms(agent: AgentContext, message: MessageContext) -> tuple[handler.AgentContext, handler.Context]:
    """For the type checker: these are what handler authors are promised."""
    return agent, message
