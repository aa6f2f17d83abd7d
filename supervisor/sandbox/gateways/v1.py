"""The first generation's chat gateway (Dec 2025): one conversation an agent, strict messages."""

from collections.abc import Mapping
from typing import Any

from supervisor.sandbox.gateways import shapes
from supervisor.sandbox.gateways.base import Receipt
from supervisor.sandbox.gateways.chat import ChatGateway
from supervisor.sandbox.gateways.validation import RefusedError, check_attachments, check_v1, storing_failure
from supervisor.sandbox.world.ids import new_object_id, timestamp
from supervisor.sandbox.world.sessions import Session
from supervisor.sandbox.world.state import ROLES_THAT_CREATE, StoredMessage


class GatewayV1(ChatGateway):
    """Namespace ``/ws``."""

    def _enter(self, session: Session) -> None:
        if session.agent_id is None:
            return
        self._presence.add(session.agent_id, session.sid)
        conversation_id = self._state.conversation_of(session.agent_id).id
        self._rooms.enter(session, conversation_id)
        session.default_conversation = conversation_id

    def _presence_of(self, session: Session) -> dict[str, Any]:
        return shapes.online_v1(session)

    def _accept(self, session: Session, payload: Mapping[str, Any]) -> Receipt:
        conversation_id = payload.get("conversationId") or session.default_conversation
        if not conversation_id:
            raise RefusedError("No conversation found. Please join a conversation first.")
        attachments = check_attachments(payload)
        if session.identity.role not in ROLES_THAT_CREATE:
            raise RefusedError("You do not have permission to create.")
        checked = check_v1({**payload, "conversationId": conversation_id})
        message = self._message(session, payload, checked, attachments)
        self._refuse_by_switch(session, stored=False)
        failure = storing_failure(conversation_id, payload.get("content"))
        message.shown = failure is None
        self._state.store(message)
        if failure is not None:
            raise RefusedError(failure)
        self._state.touch(message, message.role)
        self._refuse_by_switch(session, stored=True)
        self._rooms.emit(message.conversation_id, "message:new", message.document)
        confirmation = {"success": True, "messageId": message.id, "timestamp": timestamp()}
        ack = {"success": True, "message": message.document}
        return Receipt(ack, ("message:sent", confirmation), message)

    def _message(
        self, session: Session, payload: Mapping[str, Any], checked: dict[str, Any], attachments: list[str]
    ) -> StoredMessage:
        message_id = str(payload.get("_id") or new_object_id()).lower()
        if self._state.has_message(message_id):
            raise RefusedError(
                "E11000 duplicate key error collection: core_aiwm.messages index: _id_ dup key: "
                f"{{ _id: ObjectId('{message_id}') }}"
            )
        created_at = checked.pop("createdAt", None) or timestamp()
        conversation_id = checked.pop("conversationId")
        document = shapes.document_v1(
            checked,
            metadata=payload.get("metadata"),
            message_id=message_id,
            conversation_id=conversation_id,
            author=shapes.actor(session.identity, self._config.organisation_id),
            attachments=attachments,
            created_at=created_at,
        )
        return StoredMessage(
            id=message_id,
            conversation_id=conversation_id,
            role=document["role"],
            content=document["content"],
            type=document["type"],
            sender_kind=session.identity.kind,
            sender_id=session.identity.id,
            created_at=created_at,
            document=document,
        )
