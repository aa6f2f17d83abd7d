"""What the chat gateways of v1 and v2 share, and v3's too where people are: joins, leaves, read receipts."""

from typing import Any

from supervisor.sandbox.gateways import shapes
from supervisor.sandbox.gateways.base import Ack, Gateway, conversation_of, field_of
from supervisor.sandbox.world.sessions import Session
from supervisor.sandbox.world.shared import Shared


class ChatGateway(Gateway):
    """A gateway at which conversations can be joined and left."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._handlers |= {
            "message:read": self._read,
            "conversation:join": self._join,
            "conversation:leave": self._leave,
            "conversation:online": self._online,
        }

    def _read(self, session: Session, payload: Any) -> Ack:
        conversation_id, message_id = conversation_of(payload), field_of(payload, "messageId")
        if isinstance(conversation_id, str):
            update = shapes.activity(session, conversation_id, messageId=message_id)
            self._rooms.emit(conversation_id, "message:read", update, but=session)
        self._log(session, "read", conversation_id, message_id=message_id)
        return {"success": True}

    def _join(self, session: Session, payload: Any) -> Ack:
        conversation_id = conversation_of(payload)
        # Any text names a room.
        if isinstance(conversation_id, str):
            self._rooms.enter(session, conversation_id)
            self._rooms.emit(conversation_id, "user:joined", shapes.activity(session, conversation_id), but=session)
        session.default_conversation = conversation_id
        self._log(session, "join", conversation_id, owner=session.identity.id)
        return {"success": True, "conversationId": conversation_id}

    def _leave(self, session: Session, payload: Any) -> Ack:
        """Leave a conversation; whichever it is, the socket has no default conversation from now on."""
        conversation_id = conversation_of(payload)
        session.default_conversation = None
        if isinstance(conversation_id, str):
            self._rooms.leave(session, conversation_id)
            self._rooms.emit(conversation_id, "user:left", shapes.activity(session, conversation_id))
        self._log(session, "leave", conversation_id, owner=session.identity.id)
        return {"success": True, "conversationId": conversation_id}

    def _online(self, _: Session, payload: Any) -> Ack:
        present = self._rooms.in_room(conversation_of(payload) or "")
        people = dict.fromkeys(other.identity.id for other in present if other.agent_id is None)
        return {"success": True, "onlineUsers": list(people)}
