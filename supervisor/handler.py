"""All that the author of a handler imports.

A handler answers the messages of one agent. The shortest is a function in a file of the agents folder::

    async def on_message(message, ctx):
        return f"Echo: {message.content}"

A plain ``def`` runs in a thread, of which each agent has a share; its time-out counts from the moment it has one.
Nothing can stop it from outside: bound all that it waits for, as with the ``timeout`` of an HTTP call.

A class keeps state for its agent; it may subclass :class:`Handler` and take part in the agent's life through the
hooks. Return text or a :class:`Reply`, or ``yield`` several parts, which are sent as they come; return ``None`` to say
nothing. An exception makes the supervisor try again (transient trouble) and at last write a dead letter and tell the
person politely; raise :class:`Permanent` where trying again is pointless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from supervisor.core.errors import ConfigurationError, PlatformError
from supervisor.core.history import HistoryItem, Remembered
from supervisor.core.parts import Reply, Thinking, ToolCall, ToolResult
from supervisor.core.usage import Budget, ModelCall, Usage
from supervisor.protocol import InboundMessage as Message
from supervisor.protocol.answers import Deployment, Instruction
from supervisor.protocol.attachments import Attachment, AttachmentDetails
from supervisor.protocol.fields import Source
from supervisor.protocol.inbound import TaskFacts
from supervisor.protocol.senders import Reference, Sender

__all__ = [
    "AgentContext",
    "AgentInfo",
    "Attachment",
    "AttachmentDetails",
    "Budget",
    "ConfigurationError",
    "Context",
    "Handler",
    "HistoryItem",
    "Message",
    "ModelCall",
    "Part",
    "Permanent",
    "Permission",
    "PlatformError",
    "Reference",
    "Remembered",
    "Reply",
    "Result",
    "Sender",
    "Source",
    "TaskFacts",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "Usage",
]

_T = TypeVar("_T")


#: What only the deployment can allow: SUPERVISOR_ALLOW_COMMANDS and SUPERVISOR_ALLOW_PRIVATE_WEBHOOKS.
Permission: TypeAlias = Literal["commands", "private_webhooks"]
Part: TypeAlias = str | Reply | Thinking | ToolCall | ToolResult
Result: TypeAlias = Part | Awaitable[Part | None] | AsyncIterator[Part] | Iterator[Part] | None


class Permanent(Exception):  # noqa: N818  it reads as a word at the place where it is raised
    """Raise it in a handler when trying again cannot help: the message becomes a dead letter at once.

    Args:
        apology: what the person hears in place of the usual apology; it must hold no secret.
    """

    def __init__(self, *args: object, apology: str | None = None) -> None:
        super().__init__(*args)
        self.apology = apology


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """Who the handler works for."""

    id: str
    name: str
    labels: Mapping[str, str]


class AgentContext(Protocol):
    """What hooks get: the agent, without a conversation."""

    @property
    def agent(self) -> AgentInfo: ...
    @property
    def instruction(self) -> Instruction:
        """The platform's instruction; ``instruction.configured`` is false for its placeholders."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """The platform's settings for the agent, overlaid with those of its registry row."""
        ...

    @property
    def mcp_servers(self) -> Mapping[str, Any]:
        """The platform's tool servers; their headers hold the current token."""
        ...

    @property
    def deployment(self) -> Deployment | None: ...
    @property
    def allowed_functions(self) -> Sequence[str]:
        """Names ``mcp__Server__tool``; empty means all."""
        ...

    @property
    def log(self) -> Any:
        """A logger that carries the agent's id (and the conversation's): ``ctx.log.info("looked up", rows=3)``."""
        ...

    def token(self) -> str:
        """The agent's current platform token; ask each time, it changes."""
        ...

    def secret(self, reference: str) -> str:
        """The secret behind ``env:NAME``, ``file:/path`` or ``fernet:…``; handlers never read the environment.

        Raises:
            ConfigurationError: it is no reference, outside what the deployment allows, or there is nothing.
        """
        ...

    @property
    def own_settings(self) -> Mapping[str, Any]:
        """The settings of the agent's row alone: for what the platform must not decide, such as a program to run."""
        ...

    def reaches(self, url: str) -> bool:
        """Whether the deployment lets agents send secrets to the host of ``url``: the platform's, and ALLOWED_HOSTS."""
        ...

    def permits(self, permission: Permission) -> bool:
        """Whether the deployment lets handlers do this at the word of a row's settings."""
        ...

    def budget(self) -> Budget:
        """What may still be spent today: the agent's own budget or the fleet's, whichever is nearer to its end."""
        ...

    def model_call(
        self, model: str, *, provider: str = "unknown", expected: Usage | None = None
    ) -> AbstractContextManager[ModelCall]:
        """Time one model call, for the metrics and the trace; an exception inside is counted under its class's name.

        ``with ctx.model_call("gpt-4o", provider="openai"): answer = await client.ask(…)``

        Args:
            expected: about what it will cost, held against the budgets while it is under way.
        """
        ...

    async def load(self, reference: str) -> Any:
        """``module:name``, an object of a module of the agents folder or of HANDLER_PACKAGES, as rows name handlers.

        Raises:
            ConfigurationError: it is not allowed, is not there, or its module fails.
        """
        ...

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        """What a plain function returns that is called in one of the threads for handlers; it cannot be stopped there.

        Raises:
            whatever the function raises, as a RuntimeError where that is no ``Exception``.
        """
        ...

    def note_health(self, reason: str | None) -> None:
        """Say that the agent cannot answer well ("the model key is wrong"): it stays online, its health is failing.

        It stays so, whatever it answers, until the handler says None.
        """
        ...


class Context(AgentContext, Protocol):
    """What ``on_message`` gets: the agent and the conversation that the message belongs to."""

    @property
    def conversation(self) -> str:
        """The conversation's id."""
        ...

    @property
    def idempotency_key(self) -> str:
        """The same at every attempt at this message, another once a person replays it: printable, 64 characters."""
        ...

    @property
    def deadline(self) -> float:
        """When the handler is timed out, in seconds since the epoch."""
        ...

    async def send(self, part: Part) -> None:
        """Send a part now; returns once the platform has it or the outbox will see to it.

        Raises:
            InvalidReplyError: the platform would refuse it.
        """
        ...

    async def history(self, limit: int = 20) -> list[HistoryItem]:
        """The last ``limit`` messages of this conversation up to the one being answered, oldest first.

        Each answer stands behind what it answers, whatever came meanwhile. Commands (``/stop`` …) and what was answered
        to them are left out, and so are apologies and notices: nobody said them to the handler. Where the
        journal holds fewer, what was said before that is read from the platform, if it keeps a history.
        """
        ...

    async def remembered(self) -> Remembered | None:
        """What :meth:`remember` was last given in this conversation; None once a message that it stands for is gone."""
        ...

    async def remember(self, text: str, items: Sequence[HistoryItem]) -> bool:
        """Keep ``text`` in place of ``items`` of the history and of what :meth:`remembered` gave.

        It is shown to nobody, and encrypted, pruned and purged like what it stands for. May be called once the message
        is answered, too.

        Returns:
            Whether it is kept: not where the conversation was erased meanwhile, or a text is kept for later messages.

        Raises:
            ValueError: it is longer than 100,000 characters.
        """
        ...

    def typing(self, on: bool = True) -> None:
        """Show or hide "is typing …"; the supervisor does both around ``on_message`` by itself."""
        ...

    def mark_read(self) -> None:
        """Tell the sender that the message was read."""
        ...

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
        """Count the tokens of one model call, as :class:`Usage` has them; the next reply without ``usage`` of its own
        carries the sum.

        They count in the metrics, in ``supervisor usage`` and against the budgets, as those of ``Reply.usage`` do.
        """
        ...

    def tool_call(self, name: str, *, call_id: str | None = None) -> AbstractContextManager[None]:
        """Time one use of a tool for the message's trace: ``with ctx.tool_call("weather"): answer = look_up(…)``.

        An exception inside is told under the name of its class. Neither arguments nor results are part of a trace.
        """
        ...

    def span(self, name: str) -> AbstractContextManager[None]:
        """Time anything else for the message's trace: ``with ctx.span("search the index"): …``. Spans may be nested."""
        ...

    def trace_headers(self) -> dict[str, str]:
        """Headers for an HTTP request, so that whoever answers it goes on with the trace; none where there is none."""
        ...

    async def online_users(self) -> list[str]:
        """The ids of the users who are in this conversation now."""
        ...

    async def channel_send(
        self,
        part: str | Mapping[str, Any],
        *,
        caption: str | None = None,
        connection: str | None = None,
        channel: str | None = None,
    ) -> None:
        """Write into a channel of Discord, Telegram or their like; only the third generation of the platform can.

        It is published at once, beside the answer: another attempt at the message publishes it again.

        Args:
            part: text, an embed ``{title, description, color, url, imageUrl, footer, fields}``, or a file: what
                :meth:`upload` gives, with or without a ``caption``.
            connection, channel: where; without them where the message came from (``message.sender``).

        Raises:
            ValueError: the message came through no channel. PlatformError: the platform has none, or refused it.
        """
        ...

    async def upload(self, content: bytes, name: str, media_type: str | None = None) -> Attachment:
        """Upload a file, for a :class:`Reply` or :meth:`channel_send`; its name tells the media type where nobody does.

        Raises:
            PlatformError: the platform takes no files, or trouble on the way.
        """
        ...

    async def join(self, conversation_id: str) -> None:
        """Join another conversation."""
        ...

    async def leave(self, conversation_id: str) -> None:
        """Leave a conversation."""
        ...


class Handler:
    """A base for handlers that keep state; subclassing it is optional. One instance serves one agent.

    Every hook may be a plain method, which runs in a thread, or a coroutine. ``on_message`` may also be a generator of
    parts. ``__init__`` runs in a thread too: what needs the event loop, such as an HTTP session, is made in
    :meth:`on_start`.

    Attributes:
        concurrency: how many conversations of one agent suit it at once, where neither the row nor
            SUPERVISOR_AGENT_CONCURRENCY says; None: 4 in threads, half of the fleet's places for a coroutine.
    """

    concurrency: ClassVar[int | None] = None

    def on_message(self, message: Message, ctx: Context) -> Result:
        """Answer one message; messages of a conversation come one at a time, in order."""
        raise NotImplementedError(f"{type(self).__name__} has no on_message")

    def on_start(self, ctx: AgentContext) -> Awaitable[None] | None:
        """Called once before the first message, each time the handler is loaded."""

    def on_stop(self, ctx: AgentContext) -> Awaitable[None] | None:
        """Called when the agent is paused, removed, reloaded or the supervisor stops."""

    def on_reload(self, ctx: AgentContext) -> Awaitable[None] | None:
        """Called after instruction or settings were fetched anew."""

    def on_presence(self, presence: Mapping[str, Any], ctx: AgentContext) -> Awaitable[None] | None:
        """Called when somebody in the agent's conversations comes or goes: ``status``, ``type``, ``user_id`` …"""

    def on_typing(self, typing: Mapping[str, Any], ctx: AgentContext) -> Awaitable[None] | None:
        """Called when somebody types: ``conversation_id``, ``is_typing``, ``user_id`` …"""

    def on_read(self, receipt: Mapping[str, Any], ctx: AgentContext) -> Awaitable[None] | None:
        """Called when somebody read a message: ``message_id``, ``conversation_id``, ``user_id``."""
