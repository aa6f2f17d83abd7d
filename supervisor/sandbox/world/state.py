"""What the sandbox knows: agents, conversations, stored messages.

Everything lives in memory and belongs to one event loop.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack

from supervisor.sandbox.world.ids import is_object_id, new_object_id
from supervisor.sandbox.world.log import ConnectAttempt, EventLog, TokenRequest
from supervisor.sandbox.world.tokens import IdentityKind

#: v1 has ``active`` and ``inactive``, later ones ``inactive`` and ``idle``, v3 also ``sleep``.
AgentStatus = Literal["active", "inactive", "idle", "busy", "suspended", "sleep", "deleted"]
#: An ``assistant`` is also run by the platform's own worker: its people get two answers.
AgentType = Literal["assistant", "engineer"]
#: Where a conversation comes from: the portal, a bridge, or nowhere in particular.
Platform = Literal["portal", "discord", "telegram", "teams", "zalo"]

#: Roles that may create: below them v1 answers "You do not have permission to create." to a send.
ROLES_THAT_CREATE = frozenset({"owner", "admin", "editor"})

_PREVIEW_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Sleep:
    """v3: an agent that is asleep; ``until`` in seconds since the epoch, None is until it is woken."""

    reason: str
    since: float
    until: float | None = None

    @property
    def over(self) -> bool:
        """Whether its time has come."""
        return self.until is not None and self.until <= time.time()


@dataclass(slots=True)
class Agent:
    """An agent as the platform knows it."""

    id: str
    secret: str | None = field(repr=False)
    name: str
    role: str = "editor"
    status: AgentStatus = "inactive"
    type: AgentType = "engineer"
    instruction: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    mcp_servers: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None
    allowed_functions: list[str] = field(default_factory=list)
    sleep: Sleep | None = None

    @property
    def may_create(self) -> bool:
        """Whether its role is high enough to send messages on v1."""
        return self.role in ROLES_THAT_CREATE

    @property
    def asleep(self) -> bool:
        """v3: whether it is asleep and its time is not over: people's messages then carry ``skipAgent``."""
        return self.sleep is not None and not self.sleep.over


class AgentFields(TypedDict, total=False):
    """What may be told of an agent that is added; see :func:`make_agent`."""

    name: str | None
    role: str
    status: AgentStatus
    type: AgentType
    instruction: str | dict[str, Any] | None
    settings: dict[str, Any] | None
    mcp_servers: dict[str, Any] | None
    deployment: dict[str, Any] | None
    allowed_functions: list[str] | None


def make_agent(agent_id: str, secret: str | None, **fields: Unpack[AgentFields]) -> Agent:
    """An agent as the platform would keep it.

    Args:
        agent_id: 24 hex digits.
        secret: What the token endpoint wants; None for an agent without one.
        fields: ``name`` is shown on the chat page. ``role`` is ``owner``, ``admin``, ``editor`` (the default) or lower;
            lower ones may not send messages. ``status`` is ``inactive`` (the default), ``suspended``,
            ``deleted`` or another of :data:`AgentStatus`. ``type`` is ``engineer`` (the default) or ``assistant``.
            ``instruction`` is the system prompt, or the whole object. ``settings``,
            ``mcp_servers`` (``{name: {url, …}}``; the bearer header is added with each token), ``deployment`` (v2's LLM
            proxy, left out of the answer when None) and ``allowed_functions`` (v2; empty allows all) are parts of the
            token endpoint's answer.

    Raises:
        ValueError: The id is not 24 hex digits.
    """
    if not is_object_id(agent_id):
        raise ValueError(f"an agent id is 24 hex digits, not {agent_id!r}")
    instruction = fields.get("instruction")
    if isinstance(instruction, str):
        instruction = {"id": new_object_id(), "systemPrompt": instruction, "guidelines": []}
    return Agent(
        id=agent_id,
        secret=secret,
        name=fields.get("name") or f"Agent {agent_id[-4:]}",
        role=fields.get("role", "editor"),
        status=fields.get("status", "inactive"),
        type=fields.get("type", "engineer"),
        instruction=instruction,
        settings=fields.get("settings") or {},
        mcp_servers=fields.get("mcp_servers"),
        deployment=fields.get("deployment"),
        allowed_functions=fields.get("allowed_functions") or [],
    )


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
    """The message as ``message:new`` carries it, in the profile's shape."""
    shown: bool = True
    """Whether people see it; a refused send is stored and not shown (docs/protocol.md#7-findings, 9)."""
    attachments: list[Any] = field(default_factory=list)
    """v3: an agent's attachments, which are stored and not shown live."""
    sources: list[Any] = field(default_factory=list)
    """v3: what an agent gives as its sources."""


@dataclass(slots=True)
class Conversation:
    """A conversation of an agent: with a user, with an anonymous or bridged person, or v1's one with everybody."""

    id: str
    agent_id: str
    user_id: str | None = None
    anonymous: bool = False
    platform: Platform = "portal"
    status: Literal["active", "archived", "closed"] = "active"
    created_at: float = field(default_factory=time.time)
    updated_at: float = 0.0
    total_messages: int = 0
    last_message: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """A new one was last changed when it was made."""
        self.updated_at = self.updated_at or self.created_at


class PlatformState:
    """Agents, conversations and messages; the gateways, the bridge and the REST routes are its only writers."""

    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.conversations: dict[str, Conversation] = {}
        self.log = EventLog()
        self.token_requests: list[TokenRequest] = []
        self.connects: list[ConnectAttempt] = []
        self._messages: dict[str, list[StoredMessage]] = {}
        self._message_ids: set[str] = set()
        self._of_agent: dict[str, list[Conversation]] = {}
        self._latest: dict[tuple[str, str | None], str] = {}

    def add_agent(self, agent: Agent) -> None:
        """Register an agent, or put it in the place of an earlier one."""
        self.agents[agent.id] = agent
        self.log.add("agent_added", agent.id)

    def living_agent(self, agent_id: object) -> Agent | None:
        """The agent of that id, unless it was deleted."""
        agent = self.agents.get(agent_id) if isinstance(agent_id, str) else None
        return None if agent is None or agent.status == "deleted" else agent

    def conversation_of(
        self, agent_id: str, user_id: str | None = None, *, anonymous: bool = False, platform: Platform = "portal"
    ) -> Conversation:
        """The conversation of an agent with a person, found or made; ``user_id`` None is v1's one with everybody."""
        conversation = self.conversations.get(self._latest.get((agent_id, user_id), ""))
        if conversation is not None and conversation.status == "active":
            return conversation
        return self.begin_conversation(agent_id, user_id, anonymous=anonymous, platform=platform)

    def begin_conversation(
        self, agent_id: str, user_id: str | None, *, anonymous: bool = False, platform: Platform = "portal"
    ) -> Conversation:
        """Begin one more conversation of an agent with a person; :meth:`conversation_of` leads to it from now on."""
        conversation = Conversation(new_object_id(), agent_id, user_id, anonymous=anonymous, platform=platform)
        self.conversations[conversation.id] = conversation
        self._of_agent.setdefault(agent_id, []).append(conversation)
        self._latest[agent_id, user_id] = conversation.id
        return conversation

    def conversations_of(self, agent_id: str) -> list[Conversation]:
        """All conversations of an agent, the one that changed last first."""
        mine = self._of_agent.get(agent_id, ())
        return sorted(mine, key=lambda conversation: conversation.updated_at, reverse=True)

    def conversation_agent(self, conversation_id: str) -> str | None:
        """Whose conversation it is."""
        conversation = self.conversations.get(conversation_id)
        return conversation.agent_id if conversation else None

    def messages(self, conversation_id: str) -> list[StoredMessage]:
        """What is stored under a conversation's id, oldest first; the conversation itself may not exist."""
        return self._messages.get(conversation_id, [])

    def store(self, message: StoredMessage) -> None:
        """Keep a message, also under an id that no conversation has."""
        self._messages.setdefault(message.conversation_id, []).append(message)
        self._message_ids.add(message.id)
        agent_id = message.sender_id if message.sender_kind == "agent" else None
        self.log.add(
            "message" if message.shown else "stored",
            agent_id or self.conversation_agent(message.conversation_id),
            message=message,
        )

    def touch(self, message: StoredMessage, role: str) -> None:
        """Let the conversation of a message count it, thinking and tool calls too, and show it as the last one."""
        conversation = self.conversations.get(message.conversation_id)
        if conversation is None:
            return
        conversation.updated_at = time.time()
        conversation.total_messages += 1
        content = message.content[:_PREVIEW_CHARACTERS]
        conversation.last_message = {"content": content, "role": role, "createdAt": message.created_at}

    def record_connect(
        self, agent_id: str | None, namespace: str, outcome: str, token_via: str = "", token_id: str = ""
    ) -> None:
        """Record a namespace CONNECT."""
        self.connects.append(ConnectAttempt(agent_id, namespace, time.time(), outcome, token_via, token_id))
        self.log.add("connect", agent_id, namespace=namespace, outcome=outcome)

    def has_message(self, message_id: str) -> bool:
        """Whether the id is taken (``E11000``)."""
        return message_id in self._message_ids
