"""What the platform does on each client event, and on coming and going.

One class for both generations: the few points where they differ are asked of ``self._profile`` where they occur.
"""

from collections.abc import Callable, Mapping
from typing import Any

from supervisor.sandbox import shapes
from supervisor.sandbox.ids import new_object_id, timestamp
from supervisor.sandbox.sessions import Session
from supervisor.sandbox.shared import Shared
from supervisor.sandbox.state import StoredMessage
from supervisor.sandbox.validation import RefusedError, check_attachments, check_conversation_id, check_v1, check_v2

Ack = dict[str, Any]

#: What a client sent when it sent nothing at all, as opposed to null.
MISSING = object()

_NO_CONVERSATION = {
    "v1": "No conversation found. Please join a conversation first.",
    "v2": "No conversation found. Please emit agent:connect or conversation:join first.",
}


class BrokenPayloadError(Exception):
    """The platform's handler would throw on this payload: the client gets ``exception`` and no ack."""


class Chat:
    """The platform's chat logic: no I/O but through sessions."""

    def __init__(self, shared: Shared) -> None:
        self._profile = shared.config.profile
        self._organisation_id = shared.config.organisation_id
        self._state = shared.state
        self._rooms = shared.rooms
        self._handlers: dict[str, Callable[[Session, Mapping[str, Any]], Ack]] = {
            "message:typing": self._typing,
            "message:read": self._read,
            "conversation:join": self._join,
            "conversation:leave": self._leave,
            "conversation:online": self._online,
        }
        if self._profile == "v2":
            self._handlers["agent:connect"] = self._agent_connect

    def register(self, session: Session) -> None:
        """Make an accepted session known: v1 puts an agent into its conversation, and all hear of it."""
        conversation_id = None
        if session.agent_id is not None and self._profile == "v1":
            conversation_id = self._state.agent_conversation(session.agent_id).id
            self._rooms.enter(session, conversation_id)
            session.default_conversation = conversation_id
        session.registered = True
        self._broadcast_presence(session, online=True, conversation_id=conversation_id)
        self._state.log.add("online", session.agent_id, owner=session.identity.id, sid=session.sid)

    def depart(self, session: Session) -> None:
        """Take a session away; all others hear ``offline``, even when the owner has another one."""
        if not self._rooms.remove(session) or not session.registered:
            return
        session.registered = False
        self._broadcast_presence(session, online=False)
        self._state.log.add("offline", session.agent_id, owner=session.identity.id, sid=session.sid)

    def _broadcast_presence(self, session: Session, *, online: bool, conversation_id: str | None = None) -> None:
        identity = session.identity
        update = shapes.presence(
            self._profile, identity.kind, identity.id, online=online, conversation_id=conversation_id
        )
        self._rooms.broadcast("presence:update", update)

    def handles(self, event: str) -> bool:
        """Whether the platform knows the event; unknown ones are never acked."""
        return event in self._handlers

    def handle(self, session: Session, event: str, payload: Any) -> Ack:
        """Act on any event but ``message:send`` and return its ack.

        Raises:
            BrokenPayloadError: The payload is not an object.
        """
        if not isinstance(payload, Mapping):
            raise BrokenPayloadError
        try:
            return self._handlers[event](session, payload)
        except RefusedError as refusal:
            return {"success": False, "error": str(refusal)}

    def _activity(self, session: Session, conversation_id: str, **fields: Any) -> dict[str, Any]:
        identity = session.identity
        agent_id = self._state.conversation_agent(conversation_id)
        return shapes.activity(
            self._profile, identity.kind, identity.id, agent_id=agent_id, conversation_id=conversation_id, **fields
        )

    def _typing(self, session: Session, payload: Mapping[str, Any]) -> Ack:
        conversation_id = _conversation_of(session, payload)
        is_typing = bool(payload.get("isTyping"))
        event = f"{session.identity.kind}:typing"
        update = self._activity(session, conversation_id, isTyping=is_typing)
        self._rooms.emit(conversation_id, event, update, but=session)
        self._state.log.add("typing", session.agent_id, conversation_id=conversation_id, is_typing=is_typing)
        return {"success": True}

    def _read(self, session: Session, payload: Mapping[str, Any]) -> Ack:
        conversation_id = _conversation_of(session, payload)
        message_id = payload.get("messageId")
        update = self._activity(session, conversation_id, messageId=message_id)
        self._rooms.emit(conversation_id, "message:read", update, but=session)
        self._state.log.add("read", session.agent_id, conversation_id=conversation_id, message_id=message_id)
        return {"success": True}

    def _join(self, session: Session, payload: Mapping[str, Any]) -> Ack:
        conversation_id = _conversation_of(session, payload)
        if self._profile == "v2":
            self._check_access(session, conversation_id)
        self._rooms.enter(session, conversation_id)
        session.default_conversation = conversation_id
        update = self._activity(session, conversation_id)
        self._rooms.emit(conversation_id, "user:joined", update, but=session)
        if self._profile == "v2":
            self._tell_agent_presence(session, self._state.conversation_agent(conversation_id))
        self._state.log.add("join", session.agent_id, owner=session.identity.id, conversation_id=conversation_id)
        return {"success": True, "conversationId": conversation_id}

    def _leave(self, session: Session, payload: Mapping[str, Any]) -> Ack:
        conversation_id = _conversation_of(session, payload)
        self._rooms.leave(session, conversation_id)
        if session.default_conversation == conversation_id:
            session.default_conversation = None
        self._rooms.emit(conversation_id, "user:left", self._activity(session, conversation_id))
        self._state.log.add("leave", session.agent_id, owner=session.identity.id, conversation_id=conversation_id)
        return {"success": True, "conversationId": conversation_id}

    def _online(self, session: Session, payload: Mapping[str, Any]) -> Ack:
        conversation_id = _conversation_of(session, payload)
        present = self._rooms.in_room(conversation_id)
        users = dict.fromkeys(other.identity.id for other in present if other.identity.kind == "user")
        return {"success": True, "onlineUsers": list(users)}

    def _agent_connect(self, session: Session, payload: Mapping[str, Any]) -> Ack:
        """v2, a user's event: its conversation with the agent; the agent's sockets join silently."""
        agent_id = payload.get("agentId")
        agent = self._state.agents.get(agent_id) if isinstance(agent_id, str) else None
        if agent is None or agent.status == "deleted":
            raise RefusedError(f"Agent with ID {agent_id} not found")
        conversation_id = self._state.pair_conversation(agent.id, session.identity.id).id
        self._rooms.enter(session, conversation_id)
        session.default_conversation = conversation_id
        for agent_session in self._rooms.of_owner(agent.id):
            self._rooms.enter(agent_session, conversation_id)
        self._tell_agent_presence(session, agent.id)
        self._state.log.add("agent_connect", agent.id, owner=session.identity.id, conversation_id=conversation_id)
        return {"success": True, "conversationId": conversation_id}

    def _tell_agent_presence(self, session: Session, agent_id: str | None) -> None:
        if agent_id is not None:
            online = any(other.registered for other in self._rooms.of_owner(agent_id))
            session.emit("presence:update", shapes.presence(self._profile, "agent", agent_id, online=online))

    def _check_access(self, session: Session, conversation_id: str) -> None:
        """v2: only its agent and its user may use a conversation."""
        check_conversation_id(conversation_id)
        conversation = self._state.conversations.get(conversation_id)
        if conversation is None or session.identity.id not in (conversation.agent_id, conversation.user_id):
            raise RefusedError(f"Entity with ID {conversation_id} not found or access denied")

    def send(self, session: Session, payload: Any) -> StoredMessage:
        """Check, store and deliver a ``message:send``; the sender hears its own echo in its rooms.

        Raises:
            RefusedError: The platform refuses it, in its own words.
        """
        payload = self._check_object(payload)
        conversation_id = payload.get("conversationId") or session.default_conversation
        if not conversation_id:
            raise RefusedError(_NO_CONVERSATION[self._profile])
        if not self._may_create(session):
            raise RefusedError("You do not have permission to create.")
        build = self._build_v1 if self._profile == "v1" else self._build_v2
        message = build(session, payload, conversation_id)
        self._state.store(message)
        self._rooms.emit(conversation_id, "message:new", message.document)
        return message

    def _may_create(self, session: Session) -> bool:
        agent = self._state.agents.get(session.identity.id)
        return agent is None or agent.may_create

    @staticmethod
    def _check_object(payload: Any) -> Mapping[str, Any]:
        if isinstance(payload, Mapping):
            return payload
        if payload is None or payload is MISSING:
            nothing = "null" if payload is None else "undefined"
            raise RefusedError(f"Cannot read properties of {nothing} (reading 'conversationId')")
        return {}

    def _build_v1(self, session: Session, payload: Mapping[str, Any], conversation_id: Any) -> StoredMessage:
        attachments = check_attachments(payload)
        check_conversation_id(conversation_id)
        checked = check_v1(payload)
        message_id = str(payload.get("_id") or new_object_id()).lower()
        if self._state.has_message(message_id):
            raise RefusedError(
                "E11000 duplicate key error collection: core_aiwm.messages index: _id_ dup key: "
                f"{{ _id: ObjectId('{message_id}') }}"
            )
        created_at = timestamp()
        document = shapes.v1_document(
            checked,
            payload=payload,
            message_id=message_id,
            conversation_id=conversation_id,
            sender=(session.identity.kind, session.identity.id, session.role),
            organisation_id=self._organisation_id,
            attachments=attachments,
            created_at=created_at,
        )
        return self._stored(session, document, created_at)

    def _build_v2(self, session: Session, payload: Mapping[str, Any], conversation_id: Any) -> StoredMessage:
        self._check_access(session, conversation_id)
        check_v2(payload)
        document = shapes.v2_document(payload, message_id=new_object_id(), conversation_id=conversation_id)
        return self._stored(session, document, timestamp())

    @staticmethod
    def _stored(session: Session, document: dict[str, Any], created_at: str) -> StoredMessage:
        return StoredMessage(
            id=document["_id"],
            conversation_id=document["conversationId"],
            role=document.get("role") or "",
            content=document["content"] if isinstance(document["content"], str) else str(document["content"]),
            type=document.get("type"),
            sender_kind=session.identity.kind,
            sender_id=session.identity.id,
            created_at=created_at,
            document=document,
        )

    def bridge(self, conversation_id: str, content: str, *, username: str) -> None:
        """v2: a message from Discord or Telegram, which has no ``_id``; it is delivered, not stored."""
        self._rooms.emit(
            conversation_id,
            "message:new",
            {
                "conversationId": conversation_id,
                "orgId": self._organisation_id,
                "role": "user",
                "content": content,
                "externalUsername": username,
            },
        )


def _conversation_of(session: Session, payload: Mapping[str, Any]) -> str:
    conversation_id = payload.get("conversationId") or session.default_conversation
    if not isinstance(conversation_id, str):
        raise RefusedError("No conversation specified")
    return conversation_id
