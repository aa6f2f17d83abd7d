"""Socket.IO frames of one namespace as text, in and out (docs/protocol.md#2-addresses). No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from supervisor.protocol.decoding import MAX_PARTS, UnreadableError, decode_json

#: Bounds on what a server may announce: an absurd heartbeat would make a dead connection look alive for ever.
_LONGEST_HEARTBEAT_MS: Final = 600_000
#: What a server that announces no ``maxPayload`` takes: engine.io's own default.
DEFAULT_MAX_PAYLOAD: Final = 1_000_000

_encode = msgspec.json.Encoder().encode
#: Frames as nearly all are; whatever they do not read goes the way that says what is wrong with it.
_decode_event = msgspec.json.Decoder(tuple[str, Any]).decode
_decode_answer = msgspec.json.Decoder(list[Any]).decode


class MalformedFrameError(ValueError):
    """A frame that is not what Socket.IO promises; ``reason`` is a short word for the counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Open(msgspec.Struct, frozen=True, rename="camel"):
    """Engine.IO's OPEN: times in milliseconds, ``max_payload`` in bytes of a frame."""

    sid: str
    ping_interval: float
    ping_timeout: float
    max_payload: int = DEFAULT_MAX_PAYLOAD

    @property
    def silence_seconds(self) -> float:
        """How long the server may send no ping before the connection counts as dead."""
        return (self.ping_interval + self.ping_timeout) / 1000.0


_decode_open = msgspec.json.Decoder(Open).decode


def read_open(text: str) -> Open:
    """Read the first frame of a connection.

    Raises:
        MalformedFrameError: it is not an OPEN that this client can live with.
    """
    try:
        if not text.startswith("0"):
            raise MalformedFrameError("no_open")
        opened = _decode_open(text[1:])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise MalformedFrameError("bad_open") from None
    times = (opened.ping_interval, opened.ping_timeout)
    if not all(0 < time <= _LONGEST_HEARTBEAT_MS for time in times) or opened.max_payload < 1:
        raise MalformedFrameError("bad_open")
    return opened


def decode(text: str) -> Any:
    """Decode JSON from the platform; lone surrogates, which JavaScript lets through, become U+FFFD.

    Raises:
        MalformedFrameError: it is not JSON, nested too deeply to be read, or of too many parts.
    """
    try:
        return decode_json(text)
    except UnreadableError as error:
        raise MalformedFrameError(error.reason) from None


class Namespace:
    """How the frames of one namespace begin, and how those that go out are written.

    Args:
        name: the namespace, ``/`` for the root.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        prefix = "" if name == "/" else f"{name},"
        self.event: Final = f"42{prefix}"
        self.ack: Final = f"43{prefix}"
        self.connect: Final = f"40{prefix}"
        self.connect_error: Final = f"44{prefix}"
        self.disconnect: Final = f"41{prefix}"
        self.disconnects: Final = frozenset({self.disconnect, self.disconnect.rstrip(",")})
        #: How a presence begins, as JSON.stringify writes it: what is written otherwise is decoded like any event.
        self.presence: Final = f'42{prefix}["presence:update",'
        self._event_bytes = self.event.encode()
        self._names: dict[str, bytes] = {}

    def begins(self, text: str, prefix: str) -> bool:
        """Whether ``text`` is the packet of this namespace that begins with ``prefix``; the comma may be missing."""
        if self.name == "/":
            return text.startswith(prefix) and not text.startswith("/", len(prefix))
        return text.startswith(prefix) or text == prefix[:-1]

    def encode_connect(self, auth: Mapping[str, str]) -> bytes:
        """Write the CONNECT to the namespace."""
        return self.connect.encode() + _encode(auth)

    def encode_event(self, event: str, payload: Mapping[str, Any] | bytes, ack_id: int | None = None) -> bytes:
        """Write an event; a payload of bytes is JSON already."""
        name = self._names.get(event)
        if name is None:
            name = self._names[event] = b"[" + _encode(event) + b","
        body = payload if isinstance(payload, bytes) else _encode(payload)
        number = b"" if ack_id is None else b"%d" % ack_id
        return b"%b%b%b%b]" % (self._event_bytes, number, name, body)

    def encode_ack(self, ack_id: int) -> bytes:
        """Write the empty answer to an event for which the platform wants an ack."""
        return f"{self.ack}{ack_id}[]".encode()

    def read_event(self, text: str) -> tuple[str, object, int | None]:
        """Read an EVENT frame.

        Returns:
            The event's name, its first argument (None without one), and the id under which an ack is wanted.

        Raises:
            MalformedFrameError: it is not an array that begins with a name.
        """
        start = len(self.event)
        if len(text) <= MAX_PARTS and text.startswith("[", start):
            try:
                return *_decode_event(text[start:]), None
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass
        ack_id, arguments = _read_array(text, start)
        if not arguments or not isinstance(arguments[0], str):
            raise MalformedFrameError("no_event_name")
        return arguments[0], arguments[1] if len(arguments) > 1 else None, ack_id

    def read_ack(self, text: str) -> tuple[int, list[Any] | None]:
        """Read an ACK frame: its id and arguments; None for arguments that cannot be read.

        Raises:
            MalformedFrameError: it has no id.
        """
        start = len(self.ack)
        end = text.find("[", start)
        number = text[start:end]
        if number.isascii() and number.isdigit() and len(number) <= _ID_DIGITS and len(text) <= MAX_PARTS:
            try:
                return int(number), _decode_answer(text[end:])
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                pass
        end = _digits_end(text, start)
        if end == start:
            raise MalformedFrameError("ack_without_id")
        ack_id = int(text[start:end])
        try:
            return ack_id, _read_array(text, end)[1]
        except MalformedFrameError:
            return ack_id, None

    def read_connect(self, text: str) -> str:
        """Read a CONNECT frame: the socket's id in this namespace, empty where the server gives none.

        Raises:
            MalformedFrameError: its data is no object.
        """
        body = text[len(self.connect) :]
        data = decode(body) if body else {}
        if not isinstance(data, dict):
            raise MalformedFrameError("bad_connect")
        sid = data.get("sid")
        return sid if isinstance(sid, str) else ""

    def read_refusal(self, text: str) -> str:
        """Read a CONNECT_ERROR frame: the platform's message, whatever shape it has."""
        try:
            data = decode(text[len(self.connect_error) :] or "null")
        except MalformedFrameError:
            return ""
        if isinstance(data, dict):
            data = data.get("message")
        return data if isinstance(data, str) else ""


def _digits_end(text: str, start: int) -> int:
    """Where the ack id ends that begins at ``start``."""
    end = start
    while end < start + _ID_DIGITS and text[end : end + 1] in _DIGITS:
        end += 1
    return end


_DIGITS: Final = frozenset("0123456789")
#: An id of more digits is none of ours.
_ID_DIGITS: Final = 15


def _read_array(text: str, start: int) -> tuple[int | None, list[Any]]:
    ack_id: int | None = None
    if not text.startswith("[", start):
        end = _digits_end(text, start)
        if end == start:
            raise MalformedFrameError("foreign_namespace" if text.startswith("/", start) else "not_an_array")
        ack_id, start = int(text[start:end]), end
    arguments = decode(text[start:])
    if not isinstance(arguments, list):
        raise MalformedFrameError("not_an_array")
    return ack_id, arguments
