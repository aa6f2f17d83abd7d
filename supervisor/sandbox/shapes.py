"""The shapes of what the platform sends and keeps, per profile, as the recordings have them."""

from collections.abc import Mapping
from typing import Any

from supervisor.sandbox.config import Profile
from supervisor.sandbox.ids import timestamp
from supervisor.sandbox.state import StoredMessage
from supervisor.sandbox.tokens import IdentityKind


def _actor(kind: IdentityKind, actor_id: str, role: str, organisation_id: str) -> dict[str, Any]:
    return {
        "userId": actor_id if kind == "user" else "",
        "roles": [f"organization.{role}"],
        "orgId": organisation_id,
        "groupId": "",
        "agentId": actor_id if kind == "agent" else "",
        "appId": "",
    }


def v1_document(
    checked: Mapping[str, Any],
    *,
    payload: Mapping[str, Any],
    message_id: str,
    conversation_id: str,
    sender: tuple[IdentityKind, str, str],
    organisation_id: str,
    attachments: list[str],
    created_at: str,
) -> dict[str, Any]:
    """v1: a stored message with the platform's defaults, in its order of fields.

    Args:
        checked: The fields that passed validation.
        payload: What was sent; only its ``metadata`` is looked at, which the platform passes through.
        message_id: The client's ``_id`` or a new one.
        conversation_id: Where it belongs.
        sender: Kind, id and role of the sender.
        organisation_id: The organisation of sender and conversation.
        attachments: The checked attachments.
        created_at: Time of creation as the platform writes it.
    """
    kind, sender_id, role = sender
    actor = _actor(kind, sender_id, role, organisation_id)
    owner = {key: value for key, value in actor.items() if key != "roles"}
    document: dict[str, Any] = {}
    if payload.get("metadata") is not None:
        document["metadata"] = payload["metadata"]
    document |= {
        "owner": {"orgId": owner.pop("orgId"), "groupId": owner.pop("groupId"), **owner},
        "createdBy": actor,
        "updatedBy": dict(actor),
        "conversationId": conversation_id,
        **checked,
        "status": "sent",
        "attachments": attachments,
        "_id": message_id,
        "createdAt": created_at,
        "updatedAt": created_at,
    }
    document.setdefault("toolCalls", [])
    document.setdefault("toolResults", [])
    document["__v"] = 0
    return document


def v2_document(payload: Mapping[str, Any], *, message_id: str, conversation_id: str) -> dict[str, Any]:
    """v2: the payload itself, unknown fields and all, under the server's ``_id``."""
    document = {"conversationId": conversation_id, **payload}
    document.pop("_id", None)
    document["conversationId"] = conversation_id
    document["_id"] = message_id
    return document


def v1_history_row(message: StoredMessage) -> dict[str, Any]:
    """v1: a row of ``/messages/conversation/{id}``; live rows carry ``deletedAt`` too."""
    return {"isDeleted": False, **message.document, "deletedAt": message.created_at}


def v2_history_row(message: StoredMessage, *, agent_id: str | None, organisation_id: str) -> dict[str, Any]:
    """v2: a row of ``/actions/conversation/{id}``."""
    kind, sender_id = message.sender_kind, message.sender_id
    return {
        "owner": {
            "orgId": organisation_id,
            "agentId": agent_id or "",
            "userId": sender_id if kind == "user" else "",
            "groupId": "",
            "appId": "",
        },
        "isDeleted": False,
        "createdBy": sender_id,
        "updatedBy": sender_id,
        "conversationId": message.conversation_id,
        "type": "message",
        "actor": {"role": kind, f"{kind}Id": sender_id, "displayName": sender_id},
        "content": message.content,
        "status": "completed",
        "_id": message.id,
        "createdAt": message.created_at,
        "updatedAt": message.created_at,
        "deletedAt": message.created_at,
        "__v": 0,
    }


def presence(
    profile: Profile, kind: IdentityKind, owner_id: str, *, online: bool, conversation_id: str | None = None
) -> dict[str, Any]:
    """A ``presence:update``; v2 and every ``offline`` leave out the id that does not apply."""
    update: dict[str, Any] = {"type": kind}
    if profile == "v1" and online:
        update |= {"userId": None, "agentId": None}
    update[f"{kind}Id"] = owner_id
    if profile == "v1" and online and conversation_id is not None:
        update["conversationId"] = conversation_id
    update |= {"status": "online" if online else "offline", "timestamp": timestamp()}
    return update


def activity(
    profile: Profile, kind: IdentityKind, owner_id: str, *, agent_id: str | None, conversation_id: str, **fields: Any
) -> dict[str, Any]:
    """What typing, joins, leaves and read receipts have in common.

    v2 names the conversation's agent in what its users do, v1 does not.
    """
    named_agent = agent_id if profile == "v2" else None
    return {
        "type": kind,
        "userId": owner_id if kind == "user" else None,
        "agentId": owner_id if kind == "agent" else named_agent,
        "conversationId": conversation_id,
        **fields,
        "timestamp": timestamp(),
    }
