"""What a database keeps of the journal, as plain values; :mod:`~supervisor.store.dialect.codec` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypedDict

from supervisor.core.states import MessageState, ReplyState


class StoredMessage(NamedTuple):
    """A message of the inbox; ``body`` and ``error`` are as they were written, perhaps encrypted."""

    id: int
    agent_id: str
    key: str
    conversation_id: str
    body: bytes
    state: MessageState
    attempts: int
    received_at: float
    replay: int = 0
    not_before: float = 0.0
    error: str | None = None
    settled_at: float | None = None


class StoredReply(NamedTuple):
    """A reply of the outbox; ``body`` and ``error`` are as they were written, perhaps encrypted."""

    id: int
    agent_id: str
    inbox_id: int | None
    part: int
    conversation_id: str
    body: bytes
    state: ReplyState
    created_at: float
    attempts: int = 0
    not_before: float = 0.0
    error: str | None = None
    settled_at: float | None = None


class Spoken(NamedTuple):
    """A message or a reply of a conversation, as its history is made of it.

    ``inbox_id`` is the message itself, or the one that a reply answers; ``at`` is in seconds since the epoch.
    """

    id: int
    inbox_id: int | None
    at: float
    body: bytes


class StoredSummary(NamedTuple):
    """What a conversation's beginning was summed up to; ``body`` is as it was written, perhaps encrypted."""

    body: bytes
    up_to_id: int
    since: float


class MessageFilter(TypedDict, total=False):
    """Which messages are asked for; every condition given must hold.

    Keys:
        agent_ids: of one of these agents.
        states: in one of these.
        older_than, newer_than: received before, and at or after this; seconds since the epoch.
        undelivered: only those with a reply that is dead, whose fate is unknown, or that failed and waits.
        dead_letters: only those that a person can replay: dead ones, and done ones with a dead reply.
        before_id: only those with a smaller id: the next page begins where the last one ended.
    """

    agent_id: str | None
    agent_ids: Sequence[str] | None
    conversation_id: str | None
    states: Iterable[MessageState] | None
    older_than: float | None
    newer_than: float | None
    undelivered: bool
    dead_letters: bool
    before_id: int | None
