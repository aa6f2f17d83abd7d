"""The platform's messages as typed values, in both directions (PROTOCOL §1, §4, §5). No I/O.

Inbound is read leniently where the platform is known to vary and strictly where a reply depends on it: only
``conversationId``, ``role`` and ``content`` are required of a message, an optional field of the wrong type is left out
and named in ``malformed``, and unknown fields are ignored. Outbound is checked strictly, because v1 refuses what is
not right and v2 passes it on to people.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

ROLES: Final = frozenset({"user", "assistant", "system", "tool"})
TYPES: Final = frozenset({"text", "thinking", "tool_call", "tool_result", "error", "system"})
#: v1 keeps content of any length below the frame bound; a person's message of more than this is cut, and says so.
MAX_CONTENT_CHARS: Final = 200_000
MAX_LIST_ITEMS: Final = 100
MAX_ID_CHARS: Final = 128
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}\Z")
_ATTACHMENT = re.compile(r"(?:https?://[^\s/]+\S*|document:\S+)\Z")
_DIRECTION_CONTROLS = dict.fromkeys([0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's reasoning shown beside its answer; ``duration`` in milliseconds."""

    content: str
    visible: bool = True
    duration: float | None = 0


class FunctionCall(msgspec.Struct, frozen=True):
    """A function's name and its arguments as a JSON **string** (PROTOCOL §4)."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """One call of a tool."""

    id: str
    type: str
    function: FunctionCall


class ToolResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a tool answered; ``execution_time`` in milliseconds."""

    tool_call_id: str
    tool_name: str
    result: Any
    success: bool
    error: str | None = None
    execution_time: float | None = None


class Usage(msgspec.Struct, frozen=True, rename="camel"):
    """Tokens that a model was given and made; the platform takes all three figures or none."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class InboundMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A ``message:new`` as the supervisor keeps it: content cleaned, attachments checked (PROTOCOL §5)."""

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


class InvalidEventError(ValueError):
    """An event of the platform lacks something required; ``reason`` is a short word for the counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Presence(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``presence:update`` (PROTOCOL §3): broadcast, names an agent or a user, never a socket."""

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
    """``message:sent`` and ``message:error``: nothing in them ties them to a send (PROTOCOL §4)."""

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


def is_object_id(text: str) -> bool:
    """Whether ``text`` is an id as the platform makes them: 24 hex digits."""
    return _OBJECT_ID.match(text) is not None


def is_attachment(text: str) -> bool:
    """Whether ``text`` is an attachment that v1 takes: an http(s) URL or ``document:<id>`` (PROTOCOL §4)."""
    return _ATTACHMENT.match(text) is not None


def clean_text(text: str, limit: int = MAX_CONTENT_CHARS) -> tuple[str, bool]:
    """Make text from outside safe to show, log and hand on.

    Control characters but for newline and tab, lone surrogates and direction overrides go; more than ``limit``
    characters are cut.

    Returns:
        The text, and whether it was cut.
    """
    cut = len(text) > limit
    if cut:
        text = text[:limit]
    if text.isascii() and text.isprintable():
        return text, cut
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_DIRECTION_CONTROLS)
    kept = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return kept, cut


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
_SHORT_TEXTS: Final = frozenset({"type", "external_username", "created_at"})


def _optional_fields(payload: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Read the optional fields that are present; name those that are not what they should be."""
    fields: dict[str, Any] = {}
    malformed: list[str] = []
    for wire_name, (name, kind) in _OPTIONAL.items():
        value = payload.get(wire_name)
        if value is None:
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


class OutboundMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A ``message:send`` (PROTOCOL §4); :func:`check_outbound` says whether the platform would take it."""

    role: str
    content: str
    conversation_id: str
    id: str | None = msgspec.field(default=None, name="_id")
    type: str | None = None
    participant_id: str | None = None
    parent_id: str | None = None
    thinking: Thinking | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    attachments: tuple[str, ...] = ()
    usage: Usage | None = None
    latency: float | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None


_decode_outbound = msgspec.json.Decoder(OutboundMessage).decode


class InvalidMessageError(ValueError):
    """An outbound message that v1 would refuse; the text says which field and why."""


def check_outbound(message: OutboundMessage, max_bytes: int) -> bytes:
    """Check a message against PROTOCOL §4 and encode it.

    Args:
        message: what is to be sent.
        max_bytes: the server's ``maxPayload`` less some room for the frame around the message.

    Returns:
        The message as JSON.

    Raises:
        InvalidMessageError: v1 would refuse it, or would close the socket over its size (PROTOCOL §2).
    """
    try:
        encoded = msgspec.json.encode(message)
        # Structs are not checked when they are made: what a handler put into them is read as the platform will.
        message = _decode_outbound(encoded)
    except msgspec.ValidationError as error:
        raise InvalidMessageError(str(error)) from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidMessageError(f"it cannot be written as JSON: {error}") from None
    _check_words(message)
    _check_parts(message)
    if len(encoded) > max_bytes:
        raise InvalidMessageError(f"it takes {len(encoded):,} bytes; the platform allows {max_bytes:,}")
    return encoded


def _check_words(message: OutboundMessage) -> None:
    if message.role not in ROLES:
        raise InvalidMessageError(f"role is {message.role!r}; it must be one of {', '.join(sorted(ROLES))}")
    if not message.content.strip():
        raise InvalidMessageError("content is empty")
    if message.type is not None and message.type not in TYPES:
        raise InvalidMessageError(f"type is {message.type!r}; it must be one of {', '.join(sorted(TYPES))}")


def _check_parts(message: OutboundMessage) -> None:
    if not all(is_attachment(attachment) for attachment in message.attachments):
        raise InvalidMessageError("an attachment is neither an http(s) URL nor document:<id>")
    for call in message.tool_calls:
        _check_arguments(call)
    for result in message.tool_results:
        if result.result is None:
            raise InvalidMessageError(f"the result of tool {result.tool_name!r} is null")


def _check_arguments(call: ToolCall) -> None:
    try:
        msgspec.json.decode(call.function.arguments)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidMessageError(f"the arguments of tool {call.function.name!r} are not JSON") from None


def reply_id(agent_id: str, message_key: str, part: int, replay: int) -> str:
    """The ``_id`` of a reply, 24 hex digits: the same reply made twice collides where ``_id`` is kept (DESIGN §4)."""
    seed = f"{agent_id}\n{message_key}\n{part}\n{replay}".encode()
    return hashlib.blake2b(seed, digest_size=12).hexdigest()


# ── answers of the token endpoint ────────────────────────────────────────────────────────────────────────────────────

PLACEHOLDER_PROMPTS: Final = frozenset(
    {
        "No instruction configured for this agent.",
        "Instruction not found.",
        "Instruction is currently inactive.",
    }
)


class Instruction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the platform tells an agent to be; ``configured`` is false for its three placeholders (PROTOCOL §1)."""

    id: str = ""
    system_prompt: str = ""
    guidelines: tuple[Any, ...] = ()

    @property
    def configured(self) -> bool:
        """Whether someone wrote an instruction for this agent."""
        return bool(self.system_prompt.strip()) and self.system_prompt.strip() not in PLACEHOLDER_PROMPTS


class Deployment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A managed agent's model behind the platform's proxy (v2, PROTOCOL §1)."""

    id: str | None = None
    provider: str | None = None
    model: str | None = None
    base_api_endpoint: str | None = msgspec.field(default=None, name="baseAPIEndpoint")
    api_endpoint: str | None = None


class ConnectAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The token endpoint's answer; optional fields that are malformed are left at their defaults."""

    access_token: str
    expires_in: float | None = None
    instruction: Instruction = msgspec.field(default_factory=Instruction)
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    mcp_servers: dict[str, Any] = msgspec.field(default_factory=dict)
    deployment: Deployment | None = None
    allowed_functions: tuple[str, ...] = ()
    name: str | None = None

    def __repr__(self) -> str:
        return f"ConnectAnswer(expires_in={self.expires_in}, instruction={self.instruction.id!r}, …)"


_ANSWER_OPTIONAL: Final[Mapping[str, Any]] = {
    "expiresIn": float,
    "settings": dict[str, Any],
    "mcpServers": dict[str, Any],
    "deployment": Deployment,
    "allowedFunctions": tuple[str, ...],
    "name": str,
}
_INSTRUCTION_FIELDS: Final[Mapping[str, Any]] = {"id": str, "systemPrompt": str, "guidelines": tuple[Any, ...]}


def parse_connect_answer(payload: object) -> ConnectAnswer:
    """Read the token endpoint's answer.

    Raises:
        InvalidEventError: it is no object or has no ``accessToken``.
    """
    if not isinstance(payload, Mapping):
        raise InvalidEventError("not_an_object", "the answer is not a JSON object")
    token = payload.get("accessToken")
    if not isinstance(token, str) or not token:
        raise InvalidEventError("missing_accessToken", "the answer has no accessToken")
    fields = {"accessToken": token, **_well_formed(payload, _ANSWER_OPTIONAL)}
    instruction = payload.get("instruction")
    if isinstance(instruction, Mapping):
        # Field by field: guidelines of another shape must not cost the agent its system prompt.
        fields["instruction"] = _well_formed(instruction, _INSTRUCTION_FIELDS)
    return msgspec.convert(fields, ConnectAnswer)


def _well_formed(payload: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of ``payload`` that are of the kind they should be."""
    fields = {}
    for name, kind in kinds.items():
        value = payload.get(name)
        if value is None:
            continue
        try:
            msgspec.convert(value, kind)
        except (msgspec.ValidationError, RecursionError):
            continue
        fields[name] = value
    return fields
