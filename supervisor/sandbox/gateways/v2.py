"""The second generation's chat gateway (Mar 2026): many conversations an agent, hardly any check."""

from collections.abc import Mapping
from typing import Any

from supervisor.sandbox.gateways import shapes
from supervisor.sandbox.gateways.base import Ack, Receipt, conversation_of, field_of
from supervisor.sandbox.gateways.chat import ChatGateway
from supervisor.sandbox.gateways.validation import RefusedError, check_conversation_id, check_v2, storing_failure
from supervisor.sandbox.world.ids import is_object_id, new_object_id, timestamp
from supervisor.sandbox.world.sessions import Session
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.state import Conversation, StoredMessage

_NO_CONVERSATION = "No conversation found. Please emit agent:connect or conversation:join first."


class GatewayV2(ChatGateway):
    """Namespace ``/ws/chat``."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._handlers["agent:connect"] = self._agent_connect

    def _enter(self, session: Session) -> None:
        if session.agent_id is not None:
            self._presence.add(session.agent_id, session.sid)
        elif session.identity.kind == "anonymous":
            person, agent_id = session.identity.id, session.identity.agent_id or ""
            self._enter_conversation(session, self._state.conversation_of(agent_id, person, anonymous=True))

    def _presence_of(self, session: Session) -> dict[str, Any]:
        return shapes.online_v2(session)

    def _join(self, session: Session, payload: Any) -> Ack:
        """Join any conversation of the organisation; a foreign one makes an agent's socket that other agent."""
        conversation = self._existing(conversation_of(payload))
        heard_by = self._enter_conversation(session, conversation)
        for other in heard_by:
            other.emit("user:joined", shapes.activity(session, conversation.id))
        self._log(session, "join", conversation.id, owner=session.identity.id)
        return {"success": True, "conversationId": conversation.id}

    def _existing(self, conversation_id: Any) -> Conversation:
        if isinstance(conversation_id, str) and not is_object_id(conversation_id):
            raise RefusedError(f"Invalid ID format {conversation_id}")
        if conversation_id is not None:
            check_conversation_id(conversation_id)
        conversation = self._state.conversations.get(conversation_id or "")
        if conversation is None:
            shown = "undefined" if conversation_id is None else conversation_id
            raise RefusedError(f"Entity with ID {shown} not found or access denied")
        return conversation

    def _agent_connect(self, session: Session, payload: Any) -> Ack:
        """A user's event: its conversation with the agent, found or made."""
        if session.identity.kind != "user":
            raise RefusedError("Only authenticated users can emit agent:connect")
        agent_id = field_of(payload, "agentId")
        agent = self._state.living_agent(agent_id)
        if agent is None:
            raise RefusedError(f"Agent with ID {agent_id} not found")
        conversation = self._state.conversation_of(agent.id, session.identity.id)
        for other in self._enter_conversation(session, conversation):
            other.emit("user:joined", shapes.person_joined(session, conversation.id))
        self._log(session, "agent_connect", conversation.id, owner=session.identity.id)
        return {"success": True, "conversationId": conversation.id}

    def _enter_conversation(self, session: Session, conversation: Conversation) -> list[Session]:
        """Put a session into a conversation, and the agent's sockets as far as they are found.

        The latter come in a moment later than the former: returned are those who hear of the joining.
        """
        others = [other for other in self._rooms.in_room(conversation.id) if other is not session]
        self._rooms.enter(session, conversation.id)
        session.default_conversation = conversation.id
        session.acting_agent = conversation.agent_id
        if self._shared.gather(conversation):
            session.emit("presence:update", shapes.agent_online(conversation.agent_id))
        return others

    def _accept(self, session: Session, payload: Mapping[str, Any]) -> Receipt:
        conversation_id = payload.get("conversationId") or session.default_conversation
        if not conversation_id:
            raise RefusedError(_NO_CONVERSATION)
        check_v2({**payload, "conversationId": conversation_id})
        message = self._message(session, payload, conversation_id)
        self._refuse_by_switch(session, stored=False)
        failure = storing_failure(conversation_id, payload["content"])
        if failure is None and conversation_id not in self._state.conversations:
            failure = f"Entity with ID {conversation_id} not found or access denied"
        message.shown = failure is None
        self._state.store(message)
        if failure is not None:
            raise RefusedError(failure)
        # Whatever role the sender gives, it is stored as the agent's or the person's.
        self._state.touch(message, "agent" if session.agent_id is not None else "user")
        self._refuse_by_switch(session, stored=True)
        self._deliver(message)
        confirmation = {"success": True, "messageId": message.id, "timestamp": timestamp()}
        ack = {"success": True, "message": message.document}
        return Receipt(ack, ("message:sent", confirmation), message)

    def _deliver(self, message: StoredMessage) -> None:
        self._rooms.emit(message.conversation_id, "message:new", message.document)
        self._shared.bridge.forward(message)

    def _message(self, session: Session, payload: Mapping[str, Any], conversation_id: Any) -> StoredMessage:
        message_id = new_object_id()
        content = payload["content"]
        is_agent = session.agent_id is not None
        return StoredMessage(
            id=message_id,
            conversation_id=str(conversation_id),
            role=str(payload.get("role") or ""),
            content=content if isinstance(content, str) else shapes.as_text(content),
            type=payload.get("type"),
            sender_kind=session.identity.kind,
            sender_id=(session.acting_agent if is_agent else None) or session.identity.id,
            created_at=timestamp(),
            document=shapes.document_v2(payload, message_id=message_id, conversation_id=conversation_id),
        )
