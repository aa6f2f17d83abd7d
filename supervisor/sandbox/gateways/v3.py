"""The third generation's gateways (spring 2026), read in public files and not run.

See docs/protocol.md#8-third-generation; where it is silent a gateway does what v2's does.
"""

import time
from collections.abc import Mapping
from typing import Any

from supervisor.sandbox.gateways import shapes
from supervisor.sandbox.gateways.base import Ack, Gateway, Receipt, field_of
from supervisor.sandbox.gateways.v2 import GatewayV2
from supervisor.sandbox.gateways.validation import RefusedError, check_v2, storing_failure
from supervisor.sandbox.world.heartbeats import HeartbeatError
from supervisor.sandbox.world.ids import new_object_id, timestamp
from supervisor.sandbox.world.sessions import Session
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.state import StoredMessage
from supervisor.sandbox.world.tokens import Identity

#: Types of the parts of an answer; a message of any other type is stored as an ordinary one.
PART_TYPES = ("thinking", "tool_use", "tool_result", "system")

_TOLD_TOKEN_SECONDS = 3600.0
_JOINED_AGE_SECONDS = 86_400.0
_EQUAL_SECONDS = 5.0


def beat(shared: Shared, session: Session, payload: Any, *, gives_tokens: bool) -> Ack:
    """Act on an ``agent:heartbeat``.

    Args:
        gives_tokens: Whether a fresh token comes when less than an hour of the present one is left.

    Raises:
        RefusedError: The agent is suspended or gone, or the heartbeat makes no sense.
    """
    if session.agent_id is None:
        raise RefusedError("Only agents can emit agent:heartbeat")
    try:
        answer = shared.heartbeats.by_event(session.agent_id, payload if isinstance(payload, Mapping) else {})
    except HeartbeatError as error:
        raise RefusedError(str(error)) from error
    if gives_tokens and session.token_expires_at - time.time() < _TOLD_TOKEN_SECONDS:
        agent = shared.state.agents[session.agent_id]
        seconds = shared.config.expires_in_seconds
        answer["token"] = shared.tokens.for_agent(agent.id, role=agent.role, expires_in_seconds=seconds)
        session.token_expires_at = time.time() + seconds
    return answer


class StageOneGateway(GatewayV2):
    """Stage i, ``/ws/chat``: v2's gateway with heartbeats, which do not renew where the agent is found."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._handlers["agent:heartbeat"] = lambda session, payload: beat(shared, session, payload, gives_tokens=False)

    def _message(self, session: Session, payload: Mapping[str, Any], conversation_id: Any) -> StoredMessage:
        message = super()._message(session, payload, conversation_id)
        agent = self._state.agents.get(self._state.conversation_agent(message.conversation_id) or "")
        if session.agent_id is None and agent is not None and agent.asleep:
            message.document["skipAgent"] = True
        return message


class PeopleGateway(StageOneGateway):
    """Stage iii, people's process: namespace ``/`` at ``/chat/socket.io``.

    It registers an agent that connects here without a word: only acks prove it. Frames into a room that the socket is
    not in are refused.
    """

    announces_agents = False

    def _accept(self, session: Session, payload: Mapping[str, Any]) -> Receipt:
        conversation_id = payload.get("conversationId") or session.default_conversation
        if conversation_id and conversation_id not in self._rooms.rooms_of(session):
            raise RefusedError("You must join the conversation before sending messages.")
        return super()._accept(session, payload)


class AliasGateway(PeopleGateway):
    """Stage iii, the alias ``/ws/chat`` of people's process: it registers and delivers, and handles no event at all."""

    def handles(self, event: str) -> bool:
        """Nothing is handled, so nothing is acked."""
        del event
        return False


class AgentsGateway(Gateway):
    """Stages ii and iii: for agents only, without join, leave, online and read.

    It joins by itself: at connect the active conversations that changed within a day, older ones when a person connects
    to them. It kicks agents of another type than engineer.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._handlers = {"agent:heartbeat": self._heartbeat, "channel:send": self._channel_send}
        #: When the sends end that count as equal to one that comes: conversation, agent, role, type, content.
        self._equal_until: dict[tuple[Any, ...], float] = {}

    def admits(self, identity: Identity) -> bool:
        """Whether it is an agent of type engineer."""
        agent = self._state.agents.get(identity.id)
        return identity.kind == "agent" and agent is not None and agent.type == "engineer"

    def _enter(self, session: Session) -> None:
        self._presence.add(session.identity.id, session.sid)
        since = time.time() - _JOINED_AGE_SECONDS
        for conversation in self._state.conversations_of(session.identity.id):
            if conversation.status == "active" and conversation.updated_at >= since:
                self._rooms.enter(session, conversation.id)

    def _presence_of(self, session: Session) -> dict[str, Any]:
        return shapes.agent_online(session.identity.id)

    def _heartbeat(self, session: Session, payload: Any) -> Ack:
        return beat(self._shared, session, payload, gives_tokens=True)

    def _channel_send(self, session: Session, payload: Any) -> Ack:
        """Publish to a channel of a bridge; success means published only."""
        connection_id, channel_id = field_of(payload, "connectionId"), field_of(payload, "channelId")
        if not connection_id or not channel_id:
            raise RefusedError("connectionId and channelId are required")
        if not any(field_of(payload, name) for name in ("content", "embed", "file")):
            raise RefusedError("content, embed or file is required")
        self._state.log.add("channel_send", session.agent_id, payload=dict(payload))
        return {"success": True, "connectionId": connection_id, "channelId": channel_id}

    def _accept(self, session: Session, payload: Mapping[str, Any]) -> Receipt:
        conversation_id = payload.get("conversationId")
        if not conversation_id:
            raise RefusedError("conversationId is required")
        if self._is_equal(session, payload):
            return self._receipt("dedup")
        check_v2(payload)
        self._refuse_by_switch(session, stored=False)
        failure = storing_failure(conversation_id, payload["content"])
        if failure is None and conversation_id not in self._state.conversations:
            failure = f"Entity with ID {conversation_id} not found or access denied"
        if failure is not None:
            raise RefusedError(failure)
        message = self._message(session, payload)
        self._state.store(message)
        self._state.touch(message, "agent")
        self._refuse_by_switch(session, stored=True)
        self._deliver(message, session)
        return self._receipt(message.id, message)

    def _is_equal(self, session: Session, payload: Mapping[str, Any]) -> bool:
        """Whether an equal send came less than 5 s ago; kept before it is stored, so one that failed counts too."""
        now = self._shared.config.clock()
        # The first to be kept is the first to end.
        while self._equal_until and next(iter(self._equal_until.values())) <= now:
            del self._equal_until[next(iter(self._equal_until))]
        fields = (payload.get(name) for name in ("conversationId", "role", "type", "content"))
        key = (session.identity.id, *map(repr, fields))
        if key in self._equal_until:
            return True
        self._equal_until[key] = now + _EQUAL_SECONDS
        return False

    @staticmethod
    def _receipt(message_id: str, message: StoredMessage | None = None) -> Receipt:
        confirmation = {"success": True, "messageId": message_id, "timestamp": timestamp()}
        return Receipt({"success": True}, ("message:sent", confirmation), message)

    def refusal(self, error: str) -> Receipt:
        """Only the ack: there is no ``message:error``."""
        return Receipt({"success": False, "error": error})

    def _message(self, session: Session, payload: Mapping[str, Any]) -> StoredMessage:
        """What is kept; ``_id``, usage, participantId and unknown fields are dropped."""
        message_id = new_object_id()
        given_type = payload.get("type")
        kept_type = given_type if given_type in PART_TYPES else "message"
        return StoredMessage(
            id=message_id,
            conversation_id=str(payload["conversationId"]),
            role="assistant",
            content=payload["content"],
            type=None if kept_type == "message" else kept_type,
            sender_kind="agent",
            sender_id=session.identity.id,
            created_at=timestamp(),
            document=shapes.document_v3(
                payload, message_id=message_id, kept_type=kept_type, agent_id=session.identity.id
            ),
            attachments=list(payload.get("attachments") or ()),
            sources=list(payload.get("sources") or ()),
        )

    def _deliver(self, message: StoredMessage, sender: Session) -> None:
        self._rooms.emit(message.conversation_id, "message:new", message.document, but=sender)
        self._shared.bridge.forward(message)


class StageThreeGateway(AgentsGateway):
    """Stage iii, agents' process: namespace ``/`` at ``/agent/socket.io``.

    The own reply comes back, as follows from the namespace and adapter that it shares with people's process. Each
    connect and heartbeat makes its socket the only one under which the agent is found.
    """

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._handlers["message:typing"] = self._typing

    def _enter(self, session: Session) -> None:
        super()._enter(session)
        self._presence.replace(session.identity.id, session.sid)

    def _heartbeat(self, session: Session, payload: Any) -> Ack:
        answer = super()._heartbeat(session, payload)
        self._presence.replace(session.identity.id, session.sid)
        return answer

    def _deliver(self, message: StoredMessage, sender: Session) -> None:
        del sender
        self._rooms.emit(message.conversation_id, "message:new", message.document)
        self._shared.bridge.forward(message)
