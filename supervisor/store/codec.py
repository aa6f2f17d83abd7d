"""How values look in the journal's columns: states as small integers, keys as bytes, messages as JSON.

What people and handlers said, and the errors that quote it, are encrypted when asked (DESIGN §4). Message keys,
conversation ids, agent ids, states and times are compared and sorted by the database and stay in the clear.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from supervisor.core.command_words import WORDS, command_in
from supervisor.core.errors import ConfigurationError, RegistryError
from supervisor.core.records import JournaledMessage, Reply
from supervisor.core.states import MessageState, ReplyState
from supervisor.protocol import InboundMessage, OutboundMessage

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
#: Why a row cannot be read, for people.
LOCKED: Final = "its text is encrypted and none of SUPERVISOR_SECRET_KEYS opens it; add the key that encrypted it"
DAMAGED: Final = "its text in the journal is damaged"

_OBJECT_ID = re.compile(r"[0-9a-f]{24}\Z")
_OBJECT_ID_BYTES: Final = 12
_MARK: Final = b"\x00"
# No JSON object begins like this, and no traceback.
_SEALED: Final = b"fernet:"
_SEALED_TEXT: Final = _SEALED.decode()
_encoder = msgspec.json.Encoder()
_inbound = msgspec.json.Decoder(InboundMessage)
_outbound = msgspec.json.Decoder(OutboundMessage)
_T = TypeVar("_T")


#: What an agent shows of its work; no part of a conversation.
WORK_TYPES: Final = ("thinking", "tool_call", "tool_result")


class _Essence(msgspec.Struct, frozen=True):
    role: str
    content: str
    type: Any = None


_essence = msgspec.json.Decoder(_Essence)


class Cipher(Protocol):
    """Encrypts what is journaled; :class:`supervisor.settings.secrets.SecretBox` is one."""

    def encrypt(self, plain: bytes) -> bytes:
        """``plain`` encrypted, as ASCII."""
        ...

    def decrypt(self, sealed: bytes) -> bytes:
        """What :meth:`encrypt` was given, under this or an earlier key.

        Raises:
            ConfigurationError: none of the keys opens it.
        """
        ...


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


def cut(error: str | None) -> str | None:
    """An error text as it is kept: its end, free of what UTF-8 cannot hold."""
    if error is None:
        return None
    return error[-MAX_ERROR_CHARS:].encode("utf-8", "replace").decode("utf-8")


#: The columns that :meth:`TextCodec.message` takes, in its order.
MESSAGE_COLUMNS: Final = (
    "inbox.id, agent_keys.agent_id, inbox.message_key, inbox.conversation_id, inbox.body, inbox.state, inbox.attempts, "
    "inbox.received_at, inbox.replay, inbox.not_before, inbox.error, inbox.settled_at"
)
#: The columns that :meth:`TextCodec.reply` takes, in its order.
REPLY_COLUMNS: Final = (
    "outbox.id, agent_keys.agent_id, outbox.inbox_id, outbox.part, outbox.conversation_id, outbox.body, outbox.state, "
    "outbox.created_at, outbox.attempts, outbox.not_before, outbox.error"
)


class TextCodec:
    """Messages and errors to and from their columns. Rows written with and without encryption are read alike.

    Args:
        cipher: opens what is encrypted; None when there are no keys.
        encrypt: encrypt what is written from now on.
    """

    def __init__(self, cipher: Cipher | None = None, *, encrypt: bool = False) -> None:
        if encrypt and cipher is None:
            raise ValueError("to encrypt takes a cipher")
        self._cipher = cipher
        self._sealer = cipher if encrypt else None

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def body(self, message: InboundMessage | OutboundMessage) -> bytes:
        """A message as it is stored.

        Raises:
            RegistryError: it holds something that JSON cannot (lone surrogates, foreign types).
        """
        try:
            encoded = _encoder.encode(message)
        except (TypeError, ValueError, RecursionError) as error:
            raise RegistryError(f"A message cannot be journaled, it is not JSON: {type(error).__name__}") from None
        return encoded if self._sealer is None else _SEALED + self._sealer.encrypt(encoded)

    def error(self, error: str | None) -> str | None:
        """An error text, :func:`cut` already, as it is stored: tracebacks quote what people said."""
        if error is None or self._sealer is None:
            return error
        return _SEALED_TEXT + self._sealer.encrypt(error.encode()).decode("ascii")

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def message(self, row: Sequence[Any]) -> JournaledMessage:
        """A message of the inbox from its :data:`MESSAGE_COLUMNS`."""
        number, agent_id, key, conversation_id, body, state, attempts, at, replay, not_before, error, settled_at = row
        decoded = self._decode(_inbound, body)
        if isinstance(decoded, str):
            message, problem = InboundMessage(conversation_id=conversation_id, role="user", content=""), decoded
        else:
            message, problem = decoded, None
        return JournaledMessage(
            id=number,
            agent_id=agent_id,
            key=decode_key(key),
            message=message,
            state=MESSAGE_STATES[state],
            attempts=attempts,
            received_at=at,
            replay=replay,
            not_before=not_before,
            error=self._read_error(error),
            settled_at=settled_at,
            problem=problem,
        )

    def reply(self, row: Sequence[Any]) -> Reply:
        """A reply of the outbox from its :data:`REPLY_COLUMNS`."""
        number, agent_id, inbox_id, part, conversation_id, body, state, at, attempts, not_before, error = row
        decoded = self._decode(_outbound, body)
        if isinstance(decoded, str):
            message, problem = OutboundMessage(role="assistant", content="", conversation_id=conversation_id), decoded
        else:
            message, problem = decoded, None
        return Reply(
            id=number,
            agent_id=agent_id,
            inbox_id=inbox_id,
            part=part,
            message=message,
            state=REPLY_STATES[state],
            created_at=at,
            attempts=attempts,
            not_before=not_before,
            error=self._read_error(error),
            problem=problem,
        )

    def said(self, body: bytes) -> tuple[str, str] | None:
        """The role and the content of a journaled message, read without the rest of it.

        None when it cannot be, and for signs of an agent's work, which nobody said.
        """
        essence = self._decode(_essence, body)
        return None if isinstance(essence, str) or essence.type in WORK_TYPES else (essence.role, essence.content)

    def is_command(self, body: bytes) -> bool:
        """Whether a message of the inbox is a command to the supervisor; most are not, and read no further."""
        essence = self._decode(_essence, body)
        if isinstance(essence, str) or essence.content.strip().lower() not in WORDS:
            return False
        message = self._decode(_inbound, body)
        return isinstance(message, InboundMessage) and command_in(message) is not None

    def damaged(self, body: bytes) -> bool:
        """Whether a body is no message; of what is encrypted under another key that cannot be said."""
        # JSON holds no NUL, but the decoder lets it pass; disks leave zeros where they lose something.
        return b"\0" in body or self._decode(_essence, body) == DAMAGED

    def _decode(self, decoder: msgspec.json.Decoder[_T], body: bytes) -> _T | str:
        """What a body holds, or why it cannot be read: one such row must not fail the reading of the others."""
        try:
            return decoder.decode(self._open(body) if body.startswith(_SEALED) else body)
        except ConfigurationError:
            return LOCKED
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
            return DAMAGED

    def _read_error(self, stored: str | None) -> str | None:
        if stored is None or not stored.startswith(_SEALED_TEXT):
            return stored
        try:
            return self._open(stored.encode()).decode()
        except ConfigurationError:
            return LOCKED

    def _open(self, sealed: bytes) -> bytes:
        if self._cipher is None:
            raise ConfigurationError(LOCKED)
        return self._cipher.decrypt(sealed.removeprefix(_SEALED))
