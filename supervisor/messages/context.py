"""What a handler sees of the supervisor: the contexts of :mod:`supervisor.handler`, made for one agent or message."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from supervisor import handler
from supervisor.core.clock import Clock
from supervisor.core.errors import SupervisorError
from supervisor.core.records import JournaledMessage
from supervisor.handler import AgentInfo, Budget, HistoryItem, ModelCall, Part, Permission, Usage
from supervisor.handlers import TimeLimit
from supervisor.messages.typing_indicator import TypingIndicator
from supervisor.platform.connection import Connection
from supervisor.platform.tokens import Grant
from supervisor.protocol.answers import Deployment, Instruction
from supervisor.telemetry.tracing import AttemptTrace


class AgentView(Protocol):
    """What the contexts need of an agent's runner."""

    @property
    def info(self) -> AgentInfo: ...
    @property
    def grant(self) -> Grant | None: ...
    @property
    def handler_settings(self) -> Mapping[str, Any]: ...
    @property
    def connection(self) -> Connection | None: ...
    @property
    def log(self) -> Any: ...
    async def join(self, conversation_id: str) -> None: ...
    async def leave(self, conversation_id: str) -> None: ...
    async def online_users(self, conversation_id: str) -> list[str]: ...
    async def history(self, conversation_id: str, limit: int) -> list[HistoryItem]: ...
    def count_usage(self, usage: Usage) -> None: ...
    def secret(self, reference: str) -> str: ...
    def permits(self, permission: Permission) -> bool: ...
    def reaches(self, url: str) -> bool: ...
    def budget(self) -> Budget: ...
    def model_call(self, model: str, provider: str) -> AbstractContextManager[ModelCall]: ...
    def note_health(self, reason: str | None) -> None: ...


class AgentContext:
    """The context of hooks; see :class:`supervisor.handler.AgentContext`."""

    def __init__(self, agent: AgentView) -> None:
        self._agent = agent

    @property
    def agent(self) -> AgentInfo:
        return self._agent.info

    @property
    def instruction(self) -> Instruction:
        grant = self._agent.grant
        return grant.answer.instruction if grant else Instruction()

    @property
    def settings(self) -> Mapping[str, Any]:
        grant = self._agent.grant
        return {**(grant.answer.settings if grant else {}), **self._agent.handler_settings}

    @property
    def mcp_servers(self) -> Mapping[str, Any]:
        grant = self._agent.grant
        return grant.answer.mcp_servers if grant else {}

    @property
    def deployment(self) -> Deployment | None:
        grant = self._agent.grant
        return grant.answer.deployment if grant else None

    @property
    def allowed_functions(self) -> Sequence[str]:
        grant = self._agent.grant
        return grant.answer.allowed_functions if grant else ()

    @property
    def log(self) -> Any:
        return self._agent.log

    def token(self) -> str:
        grant = self._agent.grant
        if grant is None:
            raise SupervisorError(f"Agent {self._agent.info.id} has no token yet")
        return grant.token

    def secret(self, reference: str) -> str:
        return self._agent.secret(reference)

    @property
    def own_settings(self) -> Mapping[str, Any]:
        return self._agent.handler_settings

    def reaches(self, url: str) -> bool:
        return self._agent.reaches(url)

    def permits(self, permission: Permission) -> bool:
        return self._agent.permits(permission)

    def budget(self) -> Budget:
        return self._agent.budget()

    def model_call(self, model: str, *, provider: str = "unknown") -> AbstractContextManager[ModelCall]:
        return self._agent.model_call(model, provider)

    def note_health(self, reason: str | None) -> None:
        self._agent.note_health(reason)


class MessageContext(AgentContext):
    """The context of ``on_message``; see :class:`supervisor.handler.Context`.

    ``typing`` and ``mark_read`` may be called from a handler's thread.
    """

    def __init__(
        self,
        agent: AgentView,
        row: JournaledMessage,
        clock: Clock,
        *,
        time_limit: TimeLimit,
        send: Callable[[Part], Awaitable[None]],
        trace: AttemptTrace,
    ) -> None:
        super().__init__(agent)
        self._row = row
        self._clock = clock
        self._time_limit = time_limit
        self._send = send
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._typing = TypingIndicator(self._emit_typing)
        self._usage: Usage | None = None
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
            self._log = self._agent.log.bind(**ids)
        return self._log

    async def send(self, part: Part) -> None:
        await self._send(part)

    async def history(self, limit: int = 20) -> list[HistoryItem]:
        return await self._agent.history(self.conversation, limit)

    def typing(self, on: bool = True) -> None:
        self._typing.show(on)

    def end(self) -> None:
        """The handler is over: "typing …" is taken back, and nothing shows it again."""
        self._typing.end()

    def mark_read(self) -> None:
        if self._row.message.id:
            self._emit("message:read", {"conversationId": self.conversation, "messageId": self._row.message.id})

    def usage(
        self,
        prompt_tokens: int,
        completion_tokens: int,
        *,
        model: str = "unknown",
        cached_tokens: int = 0,
        provider: str = "unknown",
    ) -> None:
        spent = Usage(prompt_tokens, completion_tokens, model, cached_tokens, provider)
        self._agent.count_usage(spent)
        self._usage = spent if self._usage is None else _sum(self._usage, spent)

    @contextmanager
    def model_call(self, model: str, *, provider: str = "unknown") -> Iterator[ModelCall]:
        with self._agent.model_call(model, provider) as call, self._trace.model_call(call, provider):
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
        return await self._agent.online_users(self.conversation)

    async def join(self, conversation_id: str) -> None:
        await self._agent.join(conversation_id)

    async def leave(self, conversation_id: str) -> None:
        await self._agent.leave(conversation_id)

    def _emit_typing(self, on: bool) -> None:
        self._emit("message:typing", {"conversationId": self.conversation, "isTyping": on})

    def _emit(self, event: str, payload: Mapping[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._emit_now, event, payload)

    def _emit_now(self, event: str, payload: Mapping[str, Any]) -> None:
        if (connection := self._agent.connection) is not None:
            connection.emit(event, payload)


def _sum(before: Usage, spent: Usage) -> Usage:
    """Both together, under the model that worked last."""
    return Usage(
        before.prompt_tokens + spent.prompt_tokens,
        before.completion_tokens + spent.completion_tokens,
        spent.model,
        before.cached_tokens + spent.cached_tokens,
        spent.provider,
    )


def _conforms(agent: AgentContext, message: MessageContext) -> tuple[handler.AgentContext, handler.Context]:
    """For the type checker: these are what handler authors are promised."""
    return agent, message
