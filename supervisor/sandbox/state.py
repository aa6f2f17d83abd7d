"""What the sandbox knows: agents, conversations, stored messages, and a log of what happened.

Everything lives in memory and belongs to one event loop. Each change is appended to the log, which wakes those who
wait for it: tests never have to sleep and hope.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar

from supervisor.sandbox.ids import new_object_id
from supervisor.sandbox.tokens import IdentityKind

AgentStatus = Literal["active", "inactive", "suspended", "deleted"]

#: Roles that may create messages; below them the platform answers "You do not have permission to create."
ROLES_THAT_CREATE = frozenset({"owner", "admin", "editor"})

_LOG_LIMIT = 200_000

T = TypeVar("T")


@dataclass(slots=True)
class Agent:
    """An agent as the platform knows it (PROTOCOL.md §1)."""

    id: str
    secret: str | None = field(repr=False)
    name: str
    role: str = "editor"
    status: AgentStatus = "active"
    instruction: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    mcp_servers: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None
    allowed_functions: list[str] = field(default_factory=list)

    @property
    def may_create(self) -> bool:
        """Whether its role is high enough to send messages (PROTOCOL.md §4)."""
        return self.role in ROLES_THAT_CREATE


@dataclass(slots=True)
class StoredMessage:
    """A message the platform keeps."""

    id: str
    conversation_id: str
    role: str
    content: str
    type: str | None
    sender_kind: IdentityKind
    sender_id: str
    created_at: str
    document: dict[str, Any]
    """The message as ``message:new`` carries it, in the profile's shape (PROTOCOL.md §5)."""


@dataclass(slots=True)
class Conversation:
    """A conversation; ``agent_id`` is None for one that came about by a send to an unknown id (v1, PROTOCOL.md §4)."""

    id: str
    agent_id: str | None
    user_id: str | None = None
    messages: list[StoredMessage] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the sandbox, for assertions."""

    kind: str
    at: float
    agent_id: str | None
    fields: dict[str, Any]


@dataclass(slots=True)
class TokenRequest:
    """One request to the token endpoint.

    ``status`` stays None when it was never answered; ``over_at`` is when it was answered in full or its client had
    gone, None while neither has happened.
    """

    agent_id: str
    at: float
    status: int | None = None
    over_at: float | None = None


@dataclass(frozen=True, slots=True)
class ConnectAttempt:
    """One namespace CONNECT.

    ``outcome`` is accepted, refused, invalid namespace, or the fault that struck it; ``token_via`` is where the token
    was found: auth, header, query, or empty. ``token_id`` is the token's ``jti``, the same at each attempt with it,
    good or expired; empty for a token that is not the sandbox's.
    """

    agent_id: str | None
    namespace: str
    at: float
    outcome: str
    token_via: str = ""
    token_id: str = ""


class Subscription:
    """The events since the subscription was made, as an async iterator; close it when done."""

    def __init__(self, close: Callable[["Subscription"], None]) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._close = close

    def put(self, event: Event) -> None:
        """Called by the log."""
        self._queue.put_nowait(event)

    def close(self) -> None:
        """Stop receiving."""
        self._close(self)

    def __enter__(self) -> Self:
        """Use as a context manager to close it reliably."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop receiving."""
        self.close()

    def __aiter__(self) -> Self:
        """Iterate for ever."""
        return self

    async def __anext__(self) -> Event:
        """The next event, whenever it comes."""
        return await self._queue.get()


class EventLog:
    """Keeps the last events and wakes those who wait for a condition."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=_LOG_LIMIT)
        self._changed = asyncio.Event()
        self._subscriptions: set[Subscription] = set()

    def add(self, kind: str, agent_id: str | None = None, **fields: Any) -> None:
        """Record an event and wake every waiter."""
        event = Event(kind=kind, at=time.time(), agent_id=agent_id, fields=fields)
        self.events.append(event)
        for subscription in self._subscriptions:
            subscription.put(event)
        self._changed.set()
        self._changed = asyncio.Event()

    def subscribe(self) -> Subscription:
        """All events from now on."""
        subscription = Subscription(self._subscriptions.discard)
        self._subscriptions.add(subscription)
        return subscription

    async def wait_until(self, predicate: Callable[[], T], timeout: float) -> T:
        """Return the first true value of ``predicate``, asked anew after each event.

        Raises:
            TimeoutError: It was still false after ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            while not (value := predicate()):
                await self._changed.wait()
        return value


class PlatformState:
    """Agents, conversations and messages; the gateway and the REST routes are its only writers."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.conversations: dict[str, Conversation] = {}
        self.log = EventLog()
        self.token_requests: list[TokenRequest] = []
        self.connects: list[ConnectAttempt] = []
        self._message_ids: set[str] = set()
        self._v1_conversation: dict[str, str] = {}
        self._v2_conversation: dict[tuple[str, str], str] = {}

    def agent_conversation(self, agent_id: str) -> Conversation:
        """v1: the agent's one conversation, found or made (PROTOCOL.md §3.5)."""
        conversation_id = self._v1_conversation.get(agent_id)
        if conversation_id is None:
            conversation_id = self._v1_conversation[agent_id] = self._new_conversation(agent_id, None)
        return self.conversations[conversation_id]

    def pair_conversation(self, agent_id: str, user_id: str) -> Conversation:
        """v2: the conversation of a user with an agent, found or made (PROTOCOL.md §3.5)."""
        conversation_id = self._v2_conversation.get((agent_id, user_id))
        if conversation_id is None:
            conversation_id = self._new_conversation(agent_id, user_id)
            self._v2_conversation[agent_id, user_id] = conversation_id
        return self.conversations[conversation_id]

    def renew_pair_conversation(self, agent_id: str, user_id: str) -> None:
        """v2: begin one more conversation of a user with an agent; the next ``agent:connect`` leads to it."""
        self._v2_conversation[agent_id, user_id] = self._new_conversation(agent_id, user_id)

    def conversation_agent(self, conversation_id: str) -> str | None:
        """Whose conversation it is."""
        conversation = self.conversations.get(conversation_id)
        return conversation.agent_id if conversation else None

    def store(self, message: StoredMessage) -> None:
        """Keep a message; an unknown conversation comes about by it (v1, PROTOCOL.md §4)."""
        conversation = self.conversations.setdefault(
            message.conversation_id, Conversation(id=message.conversation_id, agent_id=None)
        )
        conversation.messages.append(message)
        self._message_ids.add(message.id)
        self.log.add(
            "message",
            message.sender_id if message.sender_kind == "agent" else conversation.agent_id,
            message=message,
        )

    def note_connect(
        self, agent_id: str | None, namespace: str, outcome: str, token_via: str = "", token_id: str = ""
    ) -> None:
        """Record a namespace CONNECT."""
        self.connects.append(ConnectAttempt(agent_id, namespace, time.time(), outcome, token_via, token_id))
        self.log.add("connect", agent_id, namespace=namespace, outcome=outcome)

    def has_message(self, message_id: str) -> bool:
        """Whether the id is taken (PROTOCOL.md §4, ``E11000``)."""
        return message_id in self._message_ids

    def _new_conversation(self, agent_id: str, user_id: str | None) -> str:
        conversation = Conversation(id=new_object_id(), agent_id=agent_id, user_id=user_id)
        self.conversations[conversation.id] = conversation
        return conversation.id
