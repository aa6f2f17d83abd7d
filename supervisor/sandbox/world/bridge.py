"""Discord, Telegram and their like: people who talk to agents through a bridge (docs/protocol.md#7-findings, 3 and 4).

The bridge of v2 keeps a message, tells the gateway to put the agent's sockets into the conversation, and to broadcast.
Fields and forms of v3 were read, not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor.sandbox.world.ids import new_object_id, timestamp
from supervisor.sandbox.world.state import Conversation, Platform, StoredMessage

if TYPE_CHECKING:
    from supervisor.sandbox.world.shared import Shared


class BridgedPerson:
    """Somebody on Discord, Telegram or another platform; made by :meth:`Bridge.person`."""

    def __init__(self, bridge: Bridge, platform: Platform, username: str) -> None:
        self._bridge = bridge
        self.platform = platform
        self.username = username
        #: The id there, and the channel in which the person writes.
        self.external_id, self.channel_id = new_object_id(), new_object_id()
        #: The texts that came back, in order.
        self.received: list[str] = []

    @property
    def user_id(self) -> str:
        """The person as a conversation's user."""
        return f"{self.platform}:{self.external_id}"

    def say(self, agent_id: str, content: str, **fields: Any) -> str:
        """Write to an agent and return the conversation's id.

        Args:
            agent_id: The agent.
            content: The text.
            fields: Further fields of the ``message:new`` of v3, such as ``attachments`` and ``references``.

        Raises:
            LookupError: There is no such agent.
            ValueError: v1 has no bridge.
        """
        return self._bridge.take(self, agent_id, content, fields)


class Bridge:
    """The bridge of one sandbox."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        #: v3: the id that messages name as their ``connectionId``.
        self.connection_id = new_object_id()
        self._replies_to: dict[str, BridgedPerson] = {}

    def person(self, platform: Platform = "discord", username: str = "somebody#1") -> BridgedPerson:
        """A new person."""
        return BridgedPerson(self, platform, username)

    def restart(self) -> None:
        """Forget where replies go: they are lost until the person writes again."""
        self._replies_to.clear()

    def take(self, person: BridgedPerson, agent_id: str, content: str, fields: dict[str, Any]) -> str:
        """Keep and deliver what a person wrote; returns the conversation's id."""
        state, config = self._shared.state, self._shared.config
        if state.living_agent(agent_id) is None:
            raise LookupError(f"no agent {agent_id} on the sandbox; add_agent() first")
        if config.profile == "v1":
            raise ValueError("v1 has no bridge")
        conversation = state.conversation_of(agent_id, person.user_id, anonymous=True, platform=person.platform)
        message = self._message(person, conversation, content, fields)
        is_first = not state.messages(conversation.id)
        state.store(message)
        state.touch(message, "user")
        self._replies_to[conversation.id] = person
        if not (is_first and config.profile == "v2" and config.first_bridged_lost):
            self._shared.gather(conversation)
        times = 2 if config.apart else 1
        for _ in range(times):
            self._shared.rooms.emit(conversation.id, "message:new", message.document)
        self._shared.gather(conversation)
        return conversation.id

    def forward(self, message: StoredMessage) -> None:
        """Send an agent's message out to the person of its conversation.

        v2 sends whatever has the role ``assistant``, thinking and tool calls too; v3 what has no type or is of type
        ``message`` or ``system``.
        """
        person = self._replies_to.get(message.conversation_id)
        if person is None or message.role != "assistant":
            return
        if self._shared.config.profile == "v2" or message.type in (None, "message", "system"):
            person.received.append(message.content)
            self._shared.state.log.add("bridged_out", message.sender_id, message=message)

    def _message(
        self, person: BridgedPerson, conversation: Conversation, content: str, fields: dict[str, Any]
    ) -> StoredMessage:
        config = self._shared.config
        message_id = new_object_id()
        document: dict[str, Any] = {"conversationId": conversation.id, "orgId": config.organisation_id}
        document |= {"role": "user", "content": content, "externalUsername": person.username}
        if config.profile == "v3":
            document |= {
                "_id": message_id,
                "externalUserId": person.external_id,
                "channelId": person.channel_id,
                "connectionId": self.connection_id,
                "platform": person.platform,
                **fields,
            }
            if self._shared.state.agents[conversation.agent_id].asleep:
                document["skipAgent"] = True
        return StoredMessage(
            id=message_id,
            conversation_id=conversation.id,
            role="user",
            content=content,
            type=None,
            sender_kind="user",
            sender_id=person.user_id,
            created_at=timestamp(),
            document=document,
        )
