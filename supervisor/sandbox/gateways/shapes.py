"""The shapes of what the platform sends and keeps, per generation, as the recordings have them."""

import json
from collections.abc import Mapping
from typing import Any

from supervisor.sandbox.world.ids import timestamp
from supervisor.sandbox.world.sessions import Session
from supervisor.sandbox.world.state import StoredMessage
from supervisor.sandbox.world.tokens import Identity, IdentityKind


def actor(identity: Identity, organisation_id: str) -> dict[str, Any]:
    """v1: who did something."""
    return {
        "userId": identity.id if identity.kind == "user" else "",
        "roles": [f"organization.{identity.role}"],
        "orgId": organisation_id,
        "groupId": "",
        "agentId": identity.id if identity.kind == "agent" else "",
        "appId": "",
    }


def document_v1(
    checked: Mapping[str, Any],
    *,
    metadata: Any,
    message_id: str,
    conversation_id: str,
    author: dict[str, Any],
    attachments: list[str],
    created_at: str,
) -> dict[str, Any]:
    """v1: a stored message with the platform's defaults, in its order of fields.

    Args:
        checked: The fields that passed validation.
        metadata: The sender's, which the platform passes through.
        message_id: The client's ``_id`` or a new one.
        conversation_id: Where it belongs.
        author: The :func:`actor` who sent it.
        attachments: The checked attachments.
        created_at: Time of creation as the platform writes it.
    """
    owner = {key: value for key, value in author.items() if key != "roles"}
    document: dict[str, Any] = {} if metadata is None else {"metadata": metadata}
    document |= {
        "owner": {"orgId": owner.pop("orgId"), "groupId": owner.pop("groupId"), **owner},
        "createdBy": author,
        "updatedBy": dict(author),
        "conversationId": conversation_id,
        **checked,
        "status": checked.get("status", "sent"),
        "attachments": attachments,
        "_id": message_id,
        "createdAt": created_at,
        "updatedAt": created_at,
    }
    document.setdefault("toolCalls", [])
    document.setdefault("toolResults", [])
    document["__v"] = 0
    return document


def document_v2(payload: Mapping[str, Any], *, message_id: str, conversation_id: Any) -> dict[str, Any]:
    """v2: the payload itself, unknown fields and all, under the server's ``_id``."""
    document = {"conversationId": conversation_id, **payload}
    document.pop("_id", None)
    document["conversationId"] = conversation_id
    document["_id"] = message_id
    return document


def document_v3(payload: Mapping[str, Any], *, message_id: str, kept_type: str, agent_id: str) -> dict[str, Any]:
    """v3: an agent's message as people and, in stage iii, the agent itself get it; attachments are not shown live."""
    return {
        "_id": message_id,
        "conversationId": payload["conversationId"],
        "role": "assistant",
        "type": kept_type,
        "content": payload["content"],
        "agentId": agent_id,
        "platform": "portal",
        "isFinal": kept_type == "message",
    }


def as_text(value: Any) -> str:
    """A scalar as the platform's store casts it."""
    return value if isinstance(value, str) else json.dumps(value)


def history_row_v1(message: StoredMessage) -> dict[str, Any]:
    """v1: a row of ``/messages/conversation/{id}``; live rows carry ``deletedAt`` too."""
    return {"isDeleted": False, **message.document, "deletedAt": message.created_at}


def history_row_v2(message: StoredMessage, *, agent_id: str | None, organisation_id: str) -> dict[str, Any]:
    """v2: a row of ``/actions/conversation/{id}``; the role is the sender's kind, whatever role it gave."""
    sender_id = message.sender_id
    is_agent = message.sender_kind == "agent"
    person = message.document.get("externalUsername")
    author: dict[str, Any] = {"role": "agent" if is_agent else "user"}
    if person is None:
        author |= {"agentId" if is_agent else "userId": sender_id, "displayName": sender_id}
    else:
        author |= {"displayName": person, "externalId": sender_id, "externalUsername": person}
    return {
        "owner": {
            "orgId": organisation_id,
            "agentId": agent_id or "",
            "userId": "" if is_agent else sender_id,
            "groupId": "",
            "appId": "",
        },
        "isDeleted": False,
        "createdBy": sender_id,
        "updatedBy": sender_id,
        "conversationId": message.conversation_id,
        "type": "notice" if message.type == "system" else "message",
        "actor": author,
        "content": message.content,
        "status": "completed",
        "_id": message.id,
        "createdAt": message.created_at,
        "updatedAt": message.created_at,
        "deletedAt": message.created_at,
        "__v": 0,
    }


def online_v1(session: Session) -> dict[str, Any]:
    """v1: a ``presence:update`` names both kinds of ids, and an agent's conversation."""
    update: dict[str, Any] = {"type": session.identity.kind, "userId": None, "agentId": None}
    update[f"{session.identity.kind}Id"] = session.identity.id
    if session.default_conversation is not None:
        update["conversationId"] = session.default_conversation
    return update | {"status": "online", "timestamp": timestamp()}


def online_v2(session: Session) -> dict[str, Any]:
    """v2: a ``presence:update``; an anonymous person's carries the id of the agent it talks to."""
    identity = session.identity
    if identity.kind == "agent":
        return agent_online(identity.id)
    update: dict[str, Any] = {"type": identity.kind, "userId": identity.id}
    if identity.kind == "anonymous":
        update |= {"agentId": identity.agent_id, "conversationId": session.default_conversation}
    return update | {"status": "online", "timestamp": timestamp()}


def agent_online(agent_id: str) -> dict[str, Any]:
    """v2 and v3: an agent's ``presence:update``."""
    return {"type": "agent", "agentId": agent_id, "status": "online", "timestamp": timestamp()}


def offline(kind: IdentityKind, owner_id: str) -> dict[str, Any]:
    """A ``presence:update`` at a socket's closing, of all generations."""
    owner = {"agentId" if kind == "agent" else "userId": owner_id}
    return {"type": kind, **owner, "status": "offline", "timestamp": timestamp()}


def activity(session: Session, conversation_id: str, **fields: Any) -> dict[str, Any]:
    """What typing, joins, leaves and read receipts have in common.

    v2 names the conversation's agent in what people do, v1 does not.
    """
    return {
        "type": session.identity.kind,
        "userId": None if session.agent_id is not None else session.identity.id,
        "agentId": session.acting_agent,
        "conversationId": conversation_id,
        **fields,
        "timestamp": timestamp(),
    }


def person_joined(session: Session, conversation_id: str) -> dict[str, Any]:
    """v2: what those in a conversation hear when its user connects to the agent."""
    return {
        "type": "user",
        "userId": session.identity.id,
        "conversationId": conversation_id,
        "timestamp": timestamp(),
    }
