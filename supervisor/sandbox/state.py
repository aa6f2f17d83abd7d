"""What the sandbox knows: agents, conversations, stored messages.

Everything lives in memory and belongs to one event loop.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack

from supervisor.sandbox.ids import is_object_id, new_object_id
from supervisor.sandbox.log import ConnectAttempt, EventLog, TokenRequest
from supervisor.sandbox.tokens import IdentityKind

AgentStatus = Literal["active", "inactive", "suspended", "deleted"]

#: Roles that may create messages; below them the platform answers "You do not have permission to create."
ROLES_THAT_CREATE = frozenset({"owner", "admin", "editor"})


@dataclass(slots=True)
class Agent:
    """An agent as the platform knows it."""

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
        """Whether its role is high enough to send messages."""
        return self.role in ROLES_THAT_CREATE


class AgentFields(TypedDict, total=False):
    """What may be told of an agent that is added; see :func:`make_agent`."""

    name: str | None
    role: str
    status: AgentStatus
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
            lower ones may not send messages. ``status`` is ``active``, ``inactive`` (treated the same),
            ``suspended`` or ``deleted``. ``instruction`` is the system prompt, or the whole object. ``settings``,
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
        status=fields.get("status", "active"),
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


@dataclass(slots=True)
class Conversation:
    """A conversation; ``agent_id`` is None for one that came about by a send to an unknown id (v1)."""

    id: str
    agent_id: str | None
    user_id: str | None = None
    messages: list[StoredMessage] = field(default_factory=list)


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

    def add_agent(self, agent: Agent) -> None:
        """Register an agent, or put it in the place of an earlier one."""
        self.agents[agent.id] = agent
        self.log.add("agent_added", agent.id)

    def agent_conversation(self, agent_id: str) -> Conversation:
        """v1: the agent's one conversation, found or made."""
        conversation_id = self._v1_conversation.get(agent_id)
        if conversation_id is None:
            conversation_id = self._v1_conversation[agent_id] = self._new_conversation(agent_id, None)
        return self.conversations[conversation_id]

    def pair_conversation(self, agent_id: str, user_id: str) -> Conversation:
        """v2: the conversation of a user with an agent, found or made."""
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
        """Keep a message; an unknown conversation comes about by it (v1)."""
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

    def record_connect(
        self, agent_id: str | None, namespace: str, outcome: str, token_via: str = "", token_id: str = ""
    ) -> None:
        """Record a namespace CONNECT."""
        self.connects.append(ConnectAttempt(agent_id, namespace, time.time(), outcome, token_via, token_id))
        self.log.add("connect", agent_id, namespace=namespace, outcome=outcome)

    def has_message(self, message_id: str) -> bool:
        """Whether the id is taken (``E11000``)."""
        return message_id in self._message_ids

    def _new_conversation(self, agent_id: str, user_id: str | None) -> str:
        conversation = Conversation(id=new_object_id(), agent_id=agent_id, user_id=user_id)
        self.conversations[conversation.id] = conversation
        return conversation.id
