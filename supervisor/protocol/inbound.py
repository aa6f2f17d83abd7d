"""Reading ``message:new``: leniently where the platform is known to vary, strictly where a reply depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from supervisor.protocol.attachments import Attachment, AttachmentDetails, read_attachments
from supervisor.protocol.fields import InvalidEventError, Thinking, ToolCall, ToolResult, Usage
from supervisor.protocol.senders import Reference, Sender, read_references, read_sender
from supervisor.protocol.text import MAX_ID_CHARS, clean_text, is_id

MAX_LIST_ITEMS: Final = 100
#: How v3 says that a message is a plain one (docs/protocol.md#8-third-generation, 4); v1 says ``text``.
PLAIN_TYPE: Final = "message"

Source = Literal["conversation", "work", "reminder"]


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the platform says of a work or a reminder; None where it does not. ``status`` is the one of then."""

    id: str
    title: str | None = None
    type: str | None = None
    status: str | None = None
    priority_level: int | None = None


class _Fields(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """A message as it is stored and sent on: plain values only, in which nothing can refer to itself."""

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
    attachment_details: tuple[AttachmentDetails, ...] = msgspec.field(default=(), name="attachment_details")
    sender: Sender = Sender()
    references: tuple[Reference, ...] = ()
    skip_agent: bool = False
    source: Source = "conversation"
    task: TaskFacts | None = None


class InboundMessage(_Fields, frozen=True, kw_only=True, gc=False):
    """A ``message:new`` as the supervisor keeps it: content cleaned, attachments checked.

    Beside what the platform sends there are ``sender`` (who speaks), ``references``, and for works and reminders that a
    heartbeat has brought ``source`` and ``task``: nobody has said these in a conversation.
    """

    def __post_init__(self) -> None:
        """Say who speaks also where only the older fields do: journals of earlier versions, handlers' tests."""
        if self.sender == _NOBODY:
            author = self.sender_user_id or self.sender_agent_id
            msgspec.structs.force_setattr(self, "sender", Sender(id=author, name=self.external_username))

    @property  # type: ignore[misc]
    def attachments(self) -> tuple[Attachment, ...]:
        """The files that came along: their URLs, which know what is known of the files."""
        urls = super().attachments
        if not urls:
            return ()
        known = self.attachment_details
        return tuple(
            Attachment(url, name=one.name, media_type=one.media_type, size=one.size)
            for url, one in zip(urls, known or (_NO_DETAILS,) * len(urls), strict=False)
        )

    @property
    def earlier(self) -> tuple[InboundMessage, ...]:
        """The messages before it that one answer is for as well, oldest first; empty unless ``when_busy`` collects."""
        return ()

    @property
    def bridged(self) -> bool:
        """Whether somebody wrote it elsewhere, on Discord, Telegram or their like (docs/protocol.md#5-receiving)."""
        return self.external_username is not None or self.sender.platform not in (None, "portal")

    @property
    def said(self) -> bool:
        """Whether somebody said it in a conversation, where an answer can be sent."""
        return self.source == "conversation"

    def __repr__(self) -> str:
        # The attachments may hold whole files.
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"InboundMessage({shown})"


# Handlers' authors know it as this, and meet it in errors.
InboundMessage.__name__ = "Message"


class CollectedMessage(InboundMessage, frozen=True, kw_only=True):
    """The newest of several messages that are answered together."""

    others: tuple[InboundMessage, ...] = ()

    @property
    def earlier(self) -> tuple[InboundMessage, ...]:
        """The others, oldest first."""
        return self.others


def collected(message: InboundMessage, earlier: Sequence[InboundMessage]) -> InboundMessage:
    """``message`` as a handler is given it together with those before it, oldest first."""
    if not earlier:
        return message
    fields = {name: getattr(message, name) for name in _Fields.__struct_fields__}
    fields["attachments"] = tuple(map(str, message.attachments))
    return CollectedMessage(**fields, others=tuple(earlier))


def is_task(conversation_id: str) -> bool:
    """Whether it stands for a work or a reminder, and is no conversation of the platform's."""
    return conversation_id.startswith(_TASK_PREFIXES)


_TASK_PREFIXES: Final = ("work:", "reminder:")
_NOBODY: Final = Sender()
_NO_DETAILS: Final = AttachmentDetails()


def _required_text(payload: Mapping[str, Any], field: str, limit: int) -> str:
    value = payload.get(field)
    if not isinstance(value, str):
        kind = "missing" if value is None else "mistyped"
        raise InvalidEventError(f"{kind}_{field}", f"message:new: {field} is {kind}")
    if len(value) > limit:
        raise InvalidEventError(f"mistyped_{field}", f"message:new: {field} has {len(value)} characters")
    return value


#: Which are texts, by their names on the wire.
_TEXTS: Final[Mapping[str, str]] = {
    "_id": "id",
    "type": "type",
    "participantId": "participant_id",
    "externalUsername": "external_username",
    "createdAt": "created_at",
    "parentId": "parent_id",
}
_IDS: Final = frozenset({"id", "participant_id", "parent_id"})
_STRUCTURES: Final[Mapping[str, tuple[str, Any]]] = {
    "thinking": ("thinking", Thinking),
    "toolCalls": ("tool_calls", tuple[ToolCall, ...]),
    "toolResults": ("tool_results", tuple[ToolResult, ...]),
    "usage": ("usage", Usage),
    "latency": ("latency", float),
}
_LISTS: Final = frozenset({"tool_calls", "tool_results"})


def _optional_fields(payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Read the optional fields that are present; name those that are not what they should be."""
    fields: dict[str, Any] = {}
    malformed: list[str] = []
    for wire_name, name in _TEXTS.items():
        value = payload.get(wire_name)
        if value is None:
            continue
        if not isinstance(value, str) or (name in _IDS and not is_id(value)):
            # Cut or cleaned an id would be another one.
            malformed.append(wire_name)
        else:
            fields[name] = value if name in _IDS else clean_text(value, MAX_ID_CHARS)[0]
    if not payload.keys().isdisjoint(_STRUCTURES):
        _read_structures(payload, fields, malformed)
    return fields, malformed


def _read_structures(payload: Mapping[str, Any], fields: dict[str, Any], malformed: list[str]) -> None:
    for wire_name, (name, kind) in _STRUCTURES.items():
        value = payload.get(wire_name)
        if value is None or (value == [] and name in _LISTS):
            continue
        try:
            read = _storable(msgspec.convert(value, kind), kind)
        except (ValueError, RecursionError):
            malformed.append(wire_name)
            continue
        if isinstance(read, tuple) and len(read) > MAX_LIST_ITEMS:
            read = read[:MAX_LIST_ITEMS]
            malformed.append(wire_name)
        fields[name] = read


def _storable(value: Any, kind: Any) -> Any:
    """``value``, if the journal could write it and read it again; else ValueError or RecursionError.

    JSON text may hold what UTF-8 cannot (lone surrogates), and Python's numbers and nesting go further than JSON's.
    """
    if not isinstance(value, float):
        msgspec.json.decode(msgspec.json.encode(value), type=kind)
    return value


def parse_message(payload: object) -> tuple[InboundMessage, Sequence[str]]:
    """Read a ``message:new``.

    Returns:
        The message, and the wire names of optional fields that were left out or cut because they were malformed.

    Raises:
        InvalidEventError: it is no object, or ``conversationId``, ``role`` or ``content`` is missing or mistyped.
    """
    if not isinstance(payload, dict):
        raise InvalidEventError("not_an_object", "message:new: the payload is not an object")
    conversation_id = _required_text(payload, "conversationId", MAX_ID_CHARS)
    role = _required_text(payload, "role", MAX_ID_CHARS)
    raw_content = payload.get("content")
    if not isinstance(raw_content, str):
        raise InvalidEventError("mistyped_content" if raw_content is not None else "missing_content", "message:new")
    if not is_id(conversation_id):
        raise InvalidEventError("mistyped_conversationId", "message:new: conversationId is not an id")
    fields, malformed = _optional_fields(payload)
    content, truncated = clean_text(raw_content)
    _read_beside(payload, fields, malformed)
    if fields.get("type") == PLAIN_TYPE:
        del fields["type"]
    message = InboundMessage(conversation_id=conversation_id, role=role, content=content, truncated=truncated, **fields)
    return message, malformed


def _read_beside(payload: Mapping[str, Any], fields: dict[str, Any], malformed: list[str]) -> None:
    """Read what has a shape of its own: attachments, who wrote it, what it refers to."""
    if (attachments := payload.get("attachments")) not in (None, []):
        urls, details, left_out = read_attachments(attachments, MAX_LIST_ITEMS)
        fields["attachments"] = tuple(urls)
        fields["attachment_details"] = tuple(details) if any(one != _NO_DETAILS for one in details) else ()
        malformed.extend(["attachments"] if left_out else [])
    if (references := payload.get("references")) not in (None, []):
        fields["references"], left_out = read_references(references)
        malformed.extend(["references"] if left_out else [])
    author = payload.get("createdBy")
    author = author if isinstance(author, dict) else {}
    user_id = _id_or_none(author.get("userId")) or _id_or_none(payload.get("userId"))
    agent_id = _id_or_none(author.get("agentId"))
    if payload.get("role") != "user":
        # v3's way to say who wrote it; in what people write an agent's id may as well name whom they write to.
        agent_id = agent_id or _id_or_none(payload.get("agentId"))
    fields["sender_user_id"], fields["sender_agent_id"] = user_id, agent_id
    fields["sender"] = read_sender(payload, user_id or agent_id)
    fields["skip_agent"] = payload.get("skipAgent") is True


def _id_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and is_id(value) else None
