"""How values look in the journal's columns: states as small integers, keys as bytes, agents as small integers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from supervisor.core.states import MessageState, ReplyState
from supervisor.store.dialect.stored import StoredMessage, StoredReply

# The order is part of the schema: what is unsettled comes first, then dead letters, then what only waits to be pruned
# (:data:`OPEN_MESSAGES`, :data:`OPEN_REPLIES`).
MESSAGE_CODES: Final = {
    MessageState.AVAILABLE: 0,
    MessageState.RETRYABLE: 1,
    MessageState.RUNNING: 2,
    MessageState.DEAD: 3,
    MessageState.DONE: 4,
    MessageState.CANCELLED: 5,
}
REPLY_CODES: Final = {
    ReplyState.PENDING: 0,
    ReplyState.SENT: 1,
    ReplyState.ACKED: 2,
    ReplyState.UNKNOWN: 3,
    ReplyState.DEAD: 4,
}
#: Messages that wait or run, and dead letters; the ``where`` of the partial index, so it must appear in queries as is.
OPEN_MESSAGES: Final = "state <= 3"
#: Replies on their way; the ``where`` of the partial index, so it must appear in queries as is.
OPEN_REPLIES: Final = "state <= 1"
MESSAGE_STATES: Final = {code: state for state, code in MESSAGE_CODES.items()}
REPLY_STATES: Final = {code: state for state, code in REPLY_CODES.items()}

#: What :func:`message` takes, of ``inbox`` joined with ``agent_keys``.
MESSAGE_COLUMNS: Final = (
    "inbox.id, agent_keys.agent_id, inbox.message_key, inbox.conversation_id, inbox.body, inbox.state, inbox.attempts, "
    "inbox.received_at, inbox.replay, inbox.not_before, inbox.error, inbox.settled_at"
)
#: What :func:`reply` takes, of ``outbox`` joined with ``agent_keys``.
REPLY_COLUMNS: Final = (
    "outbox.id, agent_keys.agent_id, outbox.inbox_id, outbox.part, outbox.conversation_id, outbox.body, outbox.state, "
    "outbox.created_at, outbox.attempts, outbox.not_before, outbox.error, outbox.settled_at"
)

_OBJECT_ID = re.compile(r"[0-9a-f]{24}\Z")
_OBJECT_ID_BYTES: Final = 12
_MARK: Final = b"\x00"


def encode_key(key: str) -> bytes:
    """A message key as bytes: 12 for the platform's own ids, else UTF-8, marked where the two could be confused."""
    if _OBJECT_ID.match(key):
        return bytes.fromhex(key)
    raw = key.encode("utf-8", "surrogatepass")
    if len(raw) == _OBJECT_ID_BYTES or (len(raw) > _OBJECT_ID_BYTES and raw.startswith(_MARK)):
        raw = _MARK + raw
    return raw


def decode_key(raw: bytes) -> str:
    """The inverse of :func:`encode_key`."""
    if len(raw) == _OBJECT_ID_BYTES:
        return raw.hex()
    if len(raw) > _OBJECT_ID_BYTES:
        raw = raw.removeprefix(_MARK)
    return raw.decode("utf-8", "surrogatepass")


def message(row: Sequence[Any]) -> StoredMessage:
    """A message of the inbox from its :data:`MESSAGE_COLUMNS`."""
    number, agent_id, key, conversation_id, body, state, *rest = row
    return StoredMessage(number, agent_id, decode_key(key), conversation_id, body, MESSAGE_STATES[state], *rest)


def reply(row: Sequence[Any]) -> StoredReply:
    """A reply of the outbox from its :data:`REPLY_COLUMNS`."""
    number, agent_id, inbox_id, part, conversation_id, body, state, *rest = row
    return StoredReply(number, agent_id, inbox_id, part, conversation_id, body, REPLY_STATES[state], *rest)


def counts(rows: Iterable[Sequence[Any]]) -> dict[str, dict[MessageState, int]]:
    """How many messages each agent has in each state, of rows of agent, code of the state, and number."""
    found: dict[str, dict[MessageState, int]] = {}
    for agent_id, state, number in rows:
        found.setdefault(agent_id, {})[MESSAGE_STATES[state]] = number
    return found
