"""Reading the platform's history of a conversation, in the shape of either generation (docs/protocol.md#1-tokens)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from supervisor.protocol.fields import InvalidEventError
from supervisor.protocol.inbound import InboundMessage, parse_message
from supervisor.protocol.text import is_object_id

#: Rows of a page that are read, whatever the platform gives: several times what is asked for.
MAX_PAGE_ROWS: Final = 500
_TIME_DIGITS: Final = 8
_V2_ROLES: Final = {"agent": "assistant"}
#: v3 keeps the parts of an answer beside it (docs/protocol.md#8-third-generation, 6); other types of rows say nothing.
_PART_TYPES: Final = frozenset({"thinking", "tool_use", "tool_result", "system"})


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One message of a conversation as the platform remembers it.

    Args:
        id: the platform's ``_id``.
        at: when the platform stored it, seconds since the epoch by its clock; None where it does not say.
        message: the message as ``message:new`` would have brought it.
    """

    id: str
    at: float | None
    message: InboundMessage


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of a history, oldest first; ``total`` rows in all, ``limit`` on a page as the platform understood it.

    Args:
        length: the rows on it, those that cannot be read or were deleted included.
    """

    rows: tuple[HistoryRow, ...]
    total: int
    limit: int
    length: int


def parse_history(answer: object, conversation_id: str, limit: int) -> HistoryPage:
    """Read an answer of the history endpoint; deleted rows and those that are no messages are left out.

    Args:
        limit: the rows that were asked for.

    Raises:
        InvalidEventError: it is no such answer.
    """
    if not isinstance(answer, Mapping) or not isinstance(answer.get("data"), Sequence):
        raise InvalidEventError("not_a_history", "history: no data")
    data = answer["data"]
    return HistoryPage(
        _rows(data, conversation_id),
        _whole(answer.get("total"), len(data)),
        _whole(answer.get("limit"), limit) or limit,
        len(data),
    )


def parse_last(answer: object, conversation_id: str) -> HistoryPage:
    """Read an answer of the endpoint of the last rows: a bare array, oldest first.

    Returns:
        ``total`` is the length of the array: rows that are no messages count.

    Raises:
        InvalidEventError: it is no array.
    """
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise InvalidEventError("not_a_history", "history: no array")
    return HistoryPage(_rows(answer, conversation_id), len(answer), len(answer), len(answer))


def _rows(data: Sequence[object], conversation_id: str) -> tuple[HistoryRow, ...]:
    # Of more than were asked for the newest are read.
    return tuple(row for raw in data[-MAX_PAGE_ROWS:] if (row := _row(raw, conversation_id)) is not None)


def _row(raw: object, conversation_id: str) -> HistoryRow | None:
    # `deletedAt` says nothing: live rows carry it too.
    if not isinstance(raw, Mapping) or raw.get("isDeleted") is True:
        return None
    payload = _as_message(raw) if "actor" in raw else raw
    try:
        message, _ = parse_message({**payload, "conversationId": conversation_id})
    except InvalidEventError:
        return None
    if message.id is None:
        return None
    return HistoryRow(message.id, _time(message.created_at, message.id), message)


def _as_message(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A v2 or v3 row in the shape of a v1 one: the actor says who it was; v2's ``type`` is always "message"."""
    actor = raw["actor"] if isinstance(raw["actor"], Mapping) else {}
    role = actor.get("role")
    return {
        "_id": raw.get("_id"),
        "role": _V2_ROLES.get(role, role) if isinstance(role, str) else role,
        "content": raw.get("content"),
        "type": raw.get("type") if raw.get("type") in _PART_TYPES else None,
        "attachments": raw.get("attachments"),
        "references": raw.get("references"),
        "externalUsername": actor.get("externalUsername"),
        "createdAt": raw.get("createdAt"),
        "createdBy": {"agentId": actor.get("agentId"), "userId": actor.get("userId")},
    }


def _whole(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def time_of(text: object) -> float | None:
    """A time of the platform's in seconds since the epoch; None for anything that is none."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _time(created_at: str | None, message_id: str) -> float | None:
    """When a row was stored; an ObjectId holds it too, to the second."""
    if (at := time_of(created_at)) is not None:
        return at
    return float(int(message_id[:_TIME_DIGITS], 16)) if is_object_id(message_id) else None
