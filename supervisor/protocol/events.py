"""The platform's smaller events (docs/protocol.md#5-receiving)."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from supervisor.protocol.fields import InvalidEventError


class Presence(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``presence:update`` (docs/protocol.md#3-acceptance): broadcast, names an agent or a user, never a socket."""

    type: str
    status: str
    agent_id: str | None = None
    user_id: str | None = None
    conversation_id: str | None = None


class Typing(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``user:typing`` and ``agent:typing``."""

    type: str
    conversation_id: str
    is_typing: bool
    agent_id: str | None = None
    user_id: str | None = None


class Membership(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``user:joined`` and ``user:left``."""

    type: str
    conversation_id: str
    agent_id: str | None = None
    user_id: str | None = None


class ReadReceipt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``message:read``."""

    type: str
    conversation_id: str
    message_id: str
    agent_id: str | None = None
    user_id: str | None = None


class SendOutcome(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``message:sent`` and ``message:error``: nothing in them ties them to a send (docs/protocol.md#4-sending)."""

    success: bool
    message_id: str | None = None
    error: str | None = None


_Event = TypeVar("_Event", Presence, Typing, Membership, ReadReceipt, SendOutcome)


def parse_event(kind: type[_Event], payload: object) -> _Event:
    """Read one of the platform's smaller events.

    Raises:
        InvalidEventError: a required field is missing or of the wrong type.
    """
    try:
        return msgspec.convert(payload, kind)
    except msgspec.ValidationError as error:
        raise InvalidEventError("malformed", f"{kind.__name__}: {error}") from None


def parse_ack(answer: object) -> SendOutcome | None:
    """Read the acknowledgement of a send; None where it says that the send was taken and not what became of it."""
    if not isinstance(answer, dict):
        return None
    success, error = answer.get("success"), answer.get("error")
    if success is True:
        message = answer.get("message")
        message_id = message.get("_id") if isinstance(message, dict) else None
        return SendOutcome(success=True, message_id=message_id if isinstance(message_id, str) else None)
    if success is False or isinstance(error, str):
        return SendOutcome(success=False, error=error if isinstance(error, str) else "no reason given")
    return None
