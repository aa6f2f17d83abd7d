"""Reading the platform's lists of an agent's conversations, in the shape of any generation.

The shapes: docs/protocol.md#7-findings, 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from supervisor.protocol.fields import InvalidEventError
from supervisor.protocol.history import time_of
from supervisor.protocol.text import MAX_ID_CHARS


@dataclass(frozen=True, slots=True)
class ListedConversation:
    """A conversation as a list has it.

    Args:
        updated_at: when it last changed, by the platform's clock, in seconds since the epoch; None where that is not
            said.
    """

    id: str
    updated_at: float | None


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """Some rows of a list.

    Args:
        rows: those that are the agent's own, in the order of the list.
        foreign: how many are another agent's, which must not be joined: v2 lets us, and takes the socket for the other.
        length: rows in all, those that cannot be read included.
        ordered: whether the one that changed last comes first.
    """

    rows: tuple[ListedConversation, ...]
    foreign: int
    length: int
    ordered: bool


def parse_conversations(answer: object, agent_id: str) -> ConversationPage:
    """Read a page, or the bare array of all of an agent's.

    Raises:
        InvalidEventError: it is neither.
    """
    data = answer.get("data") if isinstance(answer, Mapping) else answer
    if not isinstance(data, Sequence) or isinstance(data, str | bytes):
        raise InvalidEventError("not_a_list", "conversations: no list")
    rows: list[ListedConversation] = []
    foreign = 0
    for raw in data:
        if not isinstance(raw, Mapping):
            continue
        if raw.get("agentId") != agent_id:
            foreign += 1
        elif raw.get("isDeleted") is not True and (row := _row(raw)) is not None:
            rows.append(row)
    times = [row.updated_at for row in rows if row.updated_at is not None]
    ordered = len(times) == len(rows) and all(later <= earlier for earlier, later in pairwise(times))
    return ConversationPage(tuple(rows), foreign, len(data), ordered)


def _row(raw: Mapping[str, object]) -> ListedConversation | None:
    conversation_id = raw.get("_id")
    if not isinstance(conversation_id, str) or not 0 < len(conversation_id) <= MAX_ID_CHARS:
        return None
    last = raw.get("lastMessage")
    # v3 can give the last message as its text alone.
    said_at = last.get("createdAt") if isinstance(last, Mapping) else None
    times = [at for at in (time_of(raw.get("updatedAt")), time_of(said_at)) if at is not None]
    return ListedConversation(conversation_id, max(times, default=None))
