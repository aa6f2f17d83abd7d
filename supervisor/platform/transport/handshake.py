"""What Engine.IO and Socket.IO want between the first frame and the last, as a state machine. No I/O.

    CONNECTING ── WebSocket ──▶ OPENING ── OPEN ──▶ JOINING ── ack of CONNECT ──▶ JOINED
                                   │                   │                             │
                                   └───────────────────┴──────── any end ────────────┴──▶ ENDED

The transport feeds it with the frames that are neither events nor acks, writes what it answers, and reads off it what
came of an attempt. Nothing here knows how frames travel, so it is the same for every wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from supervisor.platform.transport.wires.frames import MalformedFrameError, Namespace, Open, read_open

#: Why connections end, as words for the metric; what a wire reports is worded in :mod:`.failures`.
KICKED: Final = "server disconnect"
REFUSED: Final = "refused"
CLOSED: Final = "transport close"
BROKEN: Final = "transport error"
SILENT: Final = "ping timeout"
BY_US: Final = "closed by us"

#: A PING carries at most a word, such as "probe".
_PING_CHARS: Final = 64


class Phase(Enum):
    """How far a connection has come."""

    CONNECTING = "connecting"
    OPENING = "opening"
    JOINING = "joining"
    JOINED = "joined"
    ENDED = "ended"


class Handshake:
    """One connection's way into a namespace and out of it.

    Args:
        namespace: the namespace to join.
        auth: what CONNECT carries.

    Attributes:
        phase: how far it has come.
        reached: the last phase before the end.
        opened: the server's OPEN.
        sid: the socket's id in the namespace, empty where the server gives none.
        refusal: the platform's words, where it refused the CONNECT.
        answered: whether a first frame came, OPEN or not.
        end: why it ended; empty before.
    """

    __slots__ = ("_auth", "_namespace", "answered", "end", "opened", "phase", "reached", "refusal", "sid")

    def __init__(self, namespace: Namespace, auth: Mapping[str, str]) -> None:
        self._namespace = namespace
        self._auth = auth
        self.phase = self.reached = Phase.CONNECTING
        self.opened: Open | None = None
        self.sid = ""
        self.refusal: str | None = None
        self.answered = False
        self.end = ""

    def upgraded(self) -> None:
        """The WebSocket is there."""
        if self.phase is Phase.CONNECTING:
            self._enter(Phase.OPENING)

    def receive(self, text: str) -> bytes | None:
        """Take a text frame that is neither an event nor an ack.

        Returns:
            The frame that answers it: CONNECT for OPEN, PONG for PING; both prove that the server lives.

        Raises:
            MalformedFrameError: the frame means nothing here; the connection goes on.
        """
        if self.phase is Phase.JOINED or self.phase is Phase.JOINING:
            return self._control(text)
        return None if self.phase is Phase.ENDED else self._open(text)

    def receive_binary(self) -> None:
        """Take a binary frame, of which neither protocol as spoken here has any.

        Raises:
            MalformedFrameError: it means nothing; the connection goes on.
        """
        if self.phase is not Phase.ENDED and self.opened is None:
            self._no_open()
        elif self.phase is not Phase.ENDED:
            raise MalformedFrameError("binary_frame")

    def lose(self, reason: str) -> bool:
        """The connection is no more, for ``reason``; whether that is news."""
        if self.phase is Phase.ENDED:
            return False
        self.end = reason
        self._enter(Phase.ENDED)
        return True

    def leave(self) -> tuple[bytes, ...]:
        """The frames that say goodbye, to be written before the connection is closed: none before it has joined."""
        return (self._namespace.disconnect.encode(), b"1") if self.phase is Phase.JOINED else ()

    def _enter(self, phase: Phase) -> None:
        if phase is not Phase.ENDED:
            self.reached = phase
        self.phase = phase

    def _open(self, text: str) -> bytes | None:
        try:
            self.opened = read_open(text)
        except MalformedFrameError:
            self._no_open()
            return None
        self.answered = True
        self._enter(Phase.JOINING)
        return self._namespace.encode_connect(self._auth)

    def _no_open(self) -> None:
        self.answered = True
        self.lose(BROKEN)

    def _control(self, text: str) -> bytes | None:
        known = self._namespace
        if text.startswith("2") and len(text) < _PING_CHARS:
            return f"3{text[1:]}".encode()
        if text in known.disconnects:
            self.lose(KICKED)
        elif known.begins(text, known.connect):
            self._join(text)
        elif known.begins(text, known.connect_error):
            self.refusal = known.read_refusal(text)
            self.lose(REFUSED)
        elif text == "1":
            self.lose(CLOSED)
        elif text != "6":
            raise MalformedFrameError("unknown_packet")
        return None

    def _join(self, text: str) -> None:
        if self.phase is Phase.JOINED:
            raise MalformedFrameError("second_connect")
        self.sid = self._namespace.read_connect(text)
        self._enter(Phase.JOINED)
