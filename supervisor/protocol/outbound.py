"""Writing ``message:send``: checked strictly, because v1 refuses what is not right and v2 passes it on to people."""

from __future__ import annotations

import hashlib
import mimetypes
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from supervisor.protocol.fields import ROLES, TYPES, Source, Thinking, ToolCall, ToolResult, Usage
from supervisor.protocol.text import is_attachment


class OutboundMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A ``message:send``; :func:`check_outbound` says whether the platform would take it."""

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
    sources: tuple[Source, ...] = ()
    usage: Usage | None = None
    latency: float | None = None
    error: str | None = None
    metadata: dict[str, Any] | None = None


#: Of one message.
MAX_SOURCES: Final = 100
#: What people's clients draw only where it has no type (docs/protocol.md#9-display).
_MEANT_FOR_PEOPLE: Final = frozenset({"text", "error"})

_decode_outbound = msgspec.json.Decoder(OutboundMessage).decode


class InvalidMessageError(ValueError):
    """An outbound message that v1 would refuse; the text says which field and why."""


def check_outbound(message: OutboundMessage, max_bytes: int) -> bytes:
    """Check a message against what the platform takes (docs/protocol.md#4-sending) and encode it.

    Args:
        message: what is to be sent.
        max_bytes: the server's ``maxPayload`` less some room for the frame around the message.

    Returns:
        The message as JSON.

    Raises:
        InvalidMessageError: v1 would refuse it, or would close the socket over its size (docs/protocol.md#2-addresses).
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


def as_shown(message: OutboundMessage) -> OutboundMessage:
    """The message as people's clients draw it: an answer or an apology goes out without its type."""
    return msgspec.structs.replace(message, type=None) if message.type in _MEANT_FOR_PEOPLE else message


def _check_words(message: OutboundMessage) -> None:
    if message.role not in ROLES:
        raise InvalidMessageError(f"role is {message.role!r}; it must be one of {', '.join(sorted(ROLES))}")
    if not message.content.strip():
        raise InvalidMessageError("content is empty")
    if message.type is not None and message.type not in TYPES:
        raise InvalidMessageError(f"type is {message.type!r}; it must be one of {', '.join(sorted(TYPES))}")


def _check_parts(message: OutboundMessage) -> None:
    for attachment in message.attachments:
        if not is_attachment(attachment):
            raise InvalidMessageError("an attachment is neither an http(s) URL nor document:<id>")
    if message.sources:
        _check_sources(message.sources)
    for call in message.tool_calls:
        _check_arguments(call)
    for result in message.tool_results:
        if result.result is None:
            raise InvalidMessageError(f"the result of tool {result.tool_name!r} is null")


def _check_sources(sources: tuple[Source, ...]) -> None:
    if len(sources) > MAX_SOURCES:
        raise InvalidMessageError(f"it has {len(sources)} sources; {MAX_SOURCES} are allowed")
    for source in sources:
        if not source.content.strip():
            raise InvalidMessageError("the content of a source is empty")
        if source.url is not None and not source.url.startswith(("http://", "https://")):
            raise InvalidMessageError("the url of a source is no http(s) URL")


def _check_arguments(call: ToolCall) -> None:
    try:
        msgspec.json.decode(call.function.arguments)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidMessageError(f"the arguments of tool {call.function.name!r} are not JSON") from None


#: How the later platform names the types of parts; one that it does not know is shown as an ordinary message there.
_LATER_TYPES: Final = {
    "thinking": "thinking",
    "tool_call": "tool_use",
    "tool_result": "tool_result",
    "system": "system",
}
_LATER_KINDS: Final = ("image", "audio", "video")


def later_form(body: bytes) -> bytes:
    """A message as the agents' gateway of the third generation takes it (docs/protocol.md#86-sends).

    Types of parts have names of their own there, and attachments are objects. Sources are as they are.

    Args:
        body: the message as :func:`check_outbound` encodes it.
    """
    message = msgspec.json.decode(body)
    attachments = message.get("attachments")
    if "type" not in message and not attachments:
        return body
    kept = _LATER_TYPES.get(message.pop("type", None))
    if kept is not None:
        message["type"] = kept
    if attachments:
        message["attachments"] = [_later_attachment(one) for one in attachments]
    return msgspec.json.encode(message)


def _later_attachment(attachment: str) -> dict[str, str]:
    if attachment.startswith("document:"):
        return {"type": "document", "url": attachment}
    name = urlsplit(attachment).path.rpartition("/")[2]
    media_type = mimetypes.guess_type(name)[0] or ""
    kind = media_type.partition("/")[0]
    described = {"type": kind if kind in _LATER_KINDS else "document" if media_type else "file", "url": attachment}
    if name:
        described["filename"] = name
    if media_type:
        described["mimeType"] = media_type
    return described


def reply_id(agent_id: str, message_key: str, part: int, replay: int) -> str:
    """The ``_id`` of a reply, 24 hex digits: the same reply made twice collides where ``_id`` is kept."""
    seed = f"{agent_id}\n{message_key}\n{part}\n{replay}".encode()
    return hashlib.blake2b(seed, digest_size=12).hexdigest()
