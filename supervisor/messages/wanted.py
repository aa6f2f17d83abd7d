"""Which messages an agent is to answer (docs/protocol.md#5-receiving)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from supervisor.protocol import InboundMessage, InvalidEventError, parse_message
from supervisor.protocol.fields import ROLES

#: Types of messages that somebody has said; all others are parts of answers and notices.
_TEXT_TYPE: Final = "text"


def is_own(payload: dict[str, Any], agent_id: str) -> bool:
    """Whether a frame is the echo of one of an agent's own: v1 and v2 name the participant, v3 the agent.

    What people write may name the agent that they write to.
    """
    named = payload.get("participantId"), payload.get("agentId") if payload.get("role") != "user" else None
    return agent_id in named


def unwanted(message: InboundMessage, agent_id: str, roles: Collection[str]) -> str | None:
    """Why a message does not run the handler, or None when it does.

    Args:
        roles: whose messages run it.
    """
    if agent_id in (message.participant_id, message.sender_agent_id):
        return "own_echo"
    if message.role not in roles:
        return "role" if message.role in ROLES else "unknown_role"
    if message.type != _TEXT_TYPE:
        # Parts of others' answers, notices, and what later platforms may send beside messages.
        return "type"
    return None if message.content.strip() or message.attachments else "empty"


def wanted(payload: object, agent_id: str, roles: Collection[str]) -> InboundMessage | None:
    """The message that a ``message:new`` is, where it is one to be answered; else None."""
    if isinstance(payload, dict) and is_own(payload, agent_id):
        return None
    try:
        message, _ = parse_message(payload)
    except InvalidEventError:
        return None
    return None if message.skip_agent or unwanted(message, agent_id, roles) is not None else message
