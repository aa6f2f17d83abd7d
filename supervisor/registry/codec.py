"""How values look in the journal's columns: states as small integers, keys as bytes, messages as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from supervisor.errors import RegistryError
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.records import JournaledMessage, Reply
from supervisor.states import MessageState, ReplyState

# The order is part of the schema: what is unsettled comes first, then dead letters, then what only waits to be pruned
# (schema.OPEN_MESSAGES, schema.OPEN_REPLIES).
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
MESSAGE_STATES: Final = {code: state for state, code in MESSAGE_CODES.items()}
REPLY_STATES: Final = {code: state for state, code in REPLY_CODES.items()}

#: Tracebacks are cut to this: the last lines tell most.
MAX_ERROR_CHARS: Final = 16_384

_OBJECT_ID = re.compile(r"[0-9a-f]{24}\Z")
_OBJECT_ID_BYTES: Final = 12
_MARK: Final = b"\x00"
_encoder = msgspec.json.Encoder()
_inbound = msgspec.json.Decoder(InboundMessage)
_outbound = msgspec.json.Decoder(OutboundMessage)


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


def encode_body(message: InboundMessage | OutboundMessage) -> bytes:
    """A message as JSON.

    Raises:
        RegistryError: it holds something that JSON cannot (lone surrogates, foreign types).
    """
    try:
        return _encoder.encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise RegistryError(f"A message cannot be journaled, it is not JSON: {type(error).__name__}") from None


def cut(error: str | None) -> str | None:
    """An error text as it is kept: its end, free of what UTF-8 cannot hold."""
    if error is None:
        return None
    return error[-MAX_ERROR_CHARS:].encode("utf-8", "replace").decode("utf-8")


#: The columns that :func:`message_from_row` takes, in its order.
MESSAGE_COLUMNS: Final = (
    "inbox.id, agent_keys.agent_id, inbox.message_key, inbox.body, inbox.state, inbox.attempts, inbox.received_at, "
    "inbox.replay, inbox.not_before, inbox.error"
)
#: The columns that :func:`reply_from_row` takes, in its order.
REPLY_COLUMNS: Final = (
    "outbox.id, agent_keys.agent_id, outbox.inbox_id, outbox.part, outbox.body, outbox.state, outbox.created_at, "
    "outbox.attempts, outbox.not_before, outbox.error"
)


def message_from_row(row: Sequence[Any]) -> JournaledMessage:
    """A message of the inbox from its :data:`MESSAGE_COLUMNS`."""
    number, agent_id, key, body, state, attempts, received_at, replay, not_before, error = row
    return JournaledMessage(
        id=number,
        agent_id=agent_id,
        key=decode_key(key),
        message=_inbound.decode(body),
        state=MESSAGE_STATES[state],
        attempts=attempts,
        received_at=received_at,
        replay=replay,
        not_before=not_before,
        error=error,
    )


def reply_from_row(row: Sequence[Any]) -> Reply:
    """A reply of the outbox from its :data:`REPLY_COLUMNS`."""
    number, agent_id, inbox_id, part, body, state, created_at, attempts, not_before, error = row
    return Reply(
        id=number,
        agent_id=agent_id,
        inbox_id=inbox_id,
        part=part,
        message=_outbound.decode(body),
        state=REPLY_STATES[state],
        created_at=created_at,
        attempts=attempts,
        not_before=not_before,
        error=error,
    )


def content_of(body: bytes) -> tuple[str, str]:
    """The role and the content of a journaled message, read without the rest of it."""
    essence = _essence.decode(body)
    return essence.role, essence.content


class _Essence(msgspec.Struct, frozen=True):
    role: str
    content: str


_essence = msgspec.json.Decoder(_Essence)
