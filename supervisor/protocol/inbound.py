"""Reading ``message:new``: leniently where the platform is known to vary, strictly where a reply depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.protocol.fields import InvalidEventError, Thinking, ToolCall, ToolResult, Usage
from supervisor.protocol.text import MAX_ID_CHARS, clean_text, is_attachment

MAX_LIST_ITEMS: Final = 100


class InboundMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A ``message:new`` as the supervisor keeps it: content cleaned, attachments checked."""

    conversation_id: str
    role: str
    content: str
    id: str | None = msgspec.field(default=None, name="_id")
    type: str = "text"
    participant_id: str | None = None
    sender_agent_id: str | None = None
    sender_user_id: str | None = None
    external_username: str | None = None
    attachments: tuple[str, ...] = ()
    thinking: Thinking | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    usage: Usage | None = None
    latency: float | None = None
    created_at: str | None = None
    parent_id: str | None = None
    truncated: bool = False


def _required_text(payload: Mapping[str, Any], field: str, limit: int) -> str:
    value = payload.get(field)
    if not isinstance(value, str):
        kind = "missing" if value is None else "mistyped"
        raise InvalidEventError(f"{kind}_{field}", f"message:new: {field} is {kind}")
    if len(value) > limit:
        raise InvalidEventError(f"mistyped_{field}", f"message:new: {field} has {len(value)} characters")
    return value


_OPTIONAL: Final[Mapping[str, tuple[str, Any]]] = {
    "_id": ("id", str),
    "type": ("type", str),
    "participantId": ("participant_id", str),
    "externalUsername": ("external_username", str),
    "attachments": ("attachments", tuple[str, ...]),
    "thinking": ("thinking", Thinking),
    "toolCalls": ("tool_calls", tuple[ToolCall, ...]),
    "toolResults": ("tool_results", tuple[ToolResult, ...]),
    "usage": ("usage", Usage),
    "latency": ("latency", float),
    "createdAt": ("created_at", str),
    "parentId": ("parent_id", str),
}
_IDS: Final = frozenset({"id", "participant_id", "parent_id"})
_LISTS: Final = frozenset({"attachments", "tool_calls", "tool_results"})
_SHORT_TEXTS: Final = frozenset({"type", "external_username", "created_at"})


def _optional_fields(payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Read the optional fields that are present; name those that are not what they should be."""
    fields: dict[str, Any] = {}
    malformed: list[str] = []
    for wire_name, (name, kind) in _OPTIONAL.items():
        value = payload.get(wire_name)
        if value is None or (value == [] and name in _LISTS):
            continue
        try:
            read = _storable(msgspec.convert(value, kind), kind)
        except (ValueError, RecursionError):
            malformed.append(wire_name)
            continue
        if name in _IDS and not _is_id(read):
            # Cut or cleaned it would be another id.
            malformed.append(wire_name)
            continue
        if isinstance(read, tuple) and len(read) > MAX_LIST_ITEMS:
            read = read[:MAX_LIST_ITEMS]
            malformed.append(wire_name)
        if name in _SHORT_TEXTS:
            read = clean_text(read, MAX_ID_CHARS)[0]
        fields[name] = read
    return fields, malformed


def _storable(value: Any, kind: Any) -> Any:
    """``value``, if the journal could write it and read it again; else ValueError or RecursionError.

    JSON text may hold what UTF-8 cannot (lone surrogates), and Python's numbers and nesting go further than JSON's.
    """
    if not isinstance(value, str | float):
        msgspec.json.decode(msgspec.json.encode(value), type=kind)
    return value


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS and value.isprintable()


def parse_message(payload: object) -> tuple[InboundMessage, Sequence[str]]:
    """Read a ``message:new``.

    Returns:
        The message, and the wire names of optional fields that were left out or cut because they were malformed.

    Raises:
        InvalidEventError: it is no object, or ``conversationId``, ``role`` or ``content`` is missing or mistyped.
    """
    if not isinstance(payload, Mapping):
        raise InvalidEventError("not_an_object", "message:new: the payload is not an object")
    conversation_id = _required_text(payload, "conversationId", MAX_ID_CHARS)
    role = _required_text(payload, "role", MAX_ID_CHARS)
    raw_content = payload.get("content")
    if not isinstance(raw_content, str):
        raise InvalidEventError("mistyped_content" if raw_content is not None else "missing_content", "message:new")
    if not _is_id(conversation_id):
        raise InvalidEventError("mistyped_conversationId", "message:new: conversationId is not an id")
    fields, malformed = _optional_fields(payload)
    if "attachments" in fields:
        allowed = tuple(a for a in fields["attachments"] if is_attachment(a) and a.isprintable())
        if len(allowed) != len(fields["attachments"]):
            malformed.append("attachments")
        fields["attachments"] = allowed
    content, truncated = clean_text(raw_content)
    author = payload.get("createdBy")
    if isinstance(author, Mapping):
        fields["sender_agent_id"] = _id_or_none(author.get("agentId"))
        fields["sender_user_id"] = _id_or_none(author.get("userId"))
    message = InboundMessage(conversation_id=conversation_id, role=role, content=content, truncated=truncated, **fields)
    return message, malformed


def _id_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and _is_id(value) else None
