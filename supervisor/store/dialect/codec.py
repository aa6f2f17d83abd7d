"""How the journal's texts are written: messages as JSON, errors cut to their end, both encrypted when asked.

Message keys, conversation ids, agent ids, states and times are compared and sorted by the database and stay in the
clear.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from supervisor.core.command_words import WORDS, command_in
from supervisor.core.errors import ConfigurationError, RegistryError
from supervisor.core.history import Remembered
from supervisor.core.records import JournaledMessage, Reply, Said
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.settings.secrets import SecretBox
from supervisor.store.dialect.stored import Spoken, StoredMessage, StoredReply, StoredSummary

#: Tracebacks are cut to this: the last lines tell most.
MAX_ERROR_CHARS: Final = 16_384
#: Why a row cannot be read, for people.
LOCKED: Final = "its text is encrypted and none of SUPERVISOR_SECRET_KEYS opens it; add the key that encrypted it"
DAMAGED: Final = "its text in the journal is damaged"

#: How encrypted text begins; no JSON object does, and no traceback.
SEALED: Final = b"fernet:"
_SEALED_TEXT: Final = SEALED.decode()
_encoder = msgspec.json.Encoder()
_inbound = msgspec.json.Decoder(InboundMessage)
_outbound = msgspec.json.Decoder(OutboundMessage)
_text = msgspec.json.Decoder(str)
_T = TypeVar("_T")

#: The types of messages in which an agent shows its work: no part of a conversation.
WORK_TYPES: Final = ("thinking", "tool_call", "tool_use", "tool_result")
#: And those that are about the conversation: apologies and notices.
_UNSAID: Final = (*WORK_TYPES, "error")


class _Author(msgspec.Struct, frozen=True):
    name: Any = None


class _Essence(msgspec.Struct, frozen=True, rename="camel"):
    role: str
    content: str
    type: Any = None
    sender: _Author = _Author()
    #: Where older journals have the name of a person behind a bridge.
    external_username: Any = None


_essence = msgspec.json.Decoder(_Essence)


def cut(error: str) -> str:
    """An error text as it is kept: its end, free of what UTF-8, or a database's text, cannot hold."""
    return error[-MAX_ERROR_CHARS:].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


class TextCodec:
    """Messages and errors as they are stored, and back. What was written with and without encryption is read alike.

    Args:
        cipher: opens what is encrypted; None when there are no keys.
        encrypt: encrypt what is written from now on.

    Raises:
        ValueError: to encrypt takes a cipher.
    """

    def __init__(self, cipher: SecretBox | None = None, *, encrypt: bool = False) -> None:
        if encrypt and cipher is None:
            raise ValueError("to encrypt takes a cipher")
        self._cipher = cipher
        self._sealer = cipher if encrypt else None

    def body(self, message: InboundMessage | OutboundMessage) -> bytes:
        """A message as it is stored.

        Raises:
            RegistryError: it holds something that JSON cannot (lone surrogates, foreign types).
        """
        try:
            encoded = _encoder.encode(message)
        except (TypeError, ValueError, RecursionError) as error:
            raise RegistryError(f"A message cannot be journaled, it is not JSON: {type(error).__name__}") from None
        return self.sealed(encoded)

    def error(self, error: str) -> str:
        """An error text, :func:`cut` already, as it is stored: tracebacks quote what people said."""
        if self._sealer is None:
            return error
        return _SEALED_TEXT + self._sealer.encrypt(error.encode()).decode("ascii")

    def message(self, stored: StoredMessage) -> JournaledMessage:
        """A message of the inbox as a record."""
        decoded = self._decode(_inbound, stored.body)
        if isinstance(decoded, str):
            message, problem = InboundMessage(conversation_id=stored.conversation_id, role="user", content=""), decoded
        else:
            message, problem = decoded, None
        return JournaledMessage(
            id=stored.id,
            agent_id=stored.agent_id,
            key=stored.key,
            message=message,
            state=stored.state,
            attempts=stored.attempts,
            received_at=stored.received_at,
            replay=stored.replay,
            not_before=stored.not_before,
            error=self._read_error(stored.error),
            settled_at=stored.settled_at,
            problem=problem,
        )

    def reply(self, stored: StoredReply) -> Reply:
        """A reply of the outbox as a record."""
        decoded = self._decode(_outbound, stored.body)
        if isinstance(decoded, str):
            blank = OutboundMessage(role="assistant", content="", conversation_id=stored.conversation_id)
            message, problem = blank, decoded
        else:
            message, problem = decoded, None
        return Reply(
            id=stored.id,
            agent_id=stored.agent_id,
            inbox_id=stored.inbox_id,
            part=stored.part,
            message=message,
            state=stored.state,
            created_at=stored.created_at,
            attempts=stored.attempts,
            not_before=stored.not_before,
            error=self._read_error(stored.error),
            problem=problem,
        )

    def summary(self, text: str) -> bytes:
        """What a conversation is summed up to, as it is stored."""
        return self.sealed(_encoder.encode(text.encode("utf-8", "replace").decode("utf-8")))

    def read_summary(self, stored: StoredSummary) -> Remembered | None:
        """A summary as a record; None when it cannot be read: the conversation then goes on without."""
        try:
            text = _text.decode(self._open(stored.body) if stored.body.startswith(SEALED) else stored.body)
        except (ConfigurationError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return Remembered(text, stored.up_to_id, stored.since)

    def said(self, spoken: Spoken) -> Said | None:
        """What a journaled message says, read without the rest of it.

        None when it cannot be, for signs of an agent's work, which nobody said, and for apologies and notices, which
        are no part of a conversation.
        """
        essence = self._decode(_essence, spoken.body)
        if isinstance(essence, str) or essence.type in _UNSAID:
            return None
        name = essence.sender.name or essence.external_username
        known = name if isinstance(name, str) else None
        return Said(essence.role, essence.content, spoken.at, known, spoken.inbox_id)

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
            return decoder.decode(self._open(body) if body.startswith(SEALED) else body)
        except ConfigurationError:
            return LOCKED
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
            return DAMAGED

    def sealed(self, encoded: bytes) -> bytes:
        """What is JSON already, as it is stored."""
        return encoded if self._sealer is None else SEALED + self._sealer.encrypt(encoded)

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
        return self._cipher.decrypt(sealed.removeprefix(SEALED))
