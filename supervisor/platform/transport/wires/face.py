"""What a wire is to the transport, and the transport to a wire."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

from supervisor.net import Session

#: A message of the platform is at most ``maxPayload`` (1 MB) as it was sent; the platform's fields and a fuller
#: escaping come on top.
MAX_FRAME_BYTES: Final = 8 * 1024 * 1024
#: How long a closed socket may flush and say goodbye before it is cut off.
GOODBYE_SECONDS: Final = 2.0
#: No text begins like this: UTF-8 has no such byte.
NOTHING: Final = b"\xff"
_SECURE: Final = ("wss", "https")


@dataclass(frozen=True, slots=True)
class Dial:
    """Where a wire connects, and with what.

    Args:
        origin: scheme, host and port; the scheme is ``ws``, ``wss``, ``http`` or ``https``.
        engine_path: the HTTP path of the upgrade.
        query: parameters of the upgrade beside Engine.IO's own.
        headers: headers of the upgrade.
        proxy: an HTTP proxy's URL; it may hold a user and a password. TLS goes through it by CONNECT, a plain URL by
            CONNECT or by GET.
        namespace, auth: what CONNECT says, for a wire whose library writes CONNECT itself.
    """

    origin: str
    engine_path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    proxy: str | None = field(repr=False)
    namespace: str
    auth: Mapping[str, str] = field(repr=False)

    @property
    def host(self) -> str:
        """The platform's host, for reasons."""
        return urlsplit(self.origin).hostname or ""

    @property
    def secure(self) -> bool:
        """Whether the way to the platform is TLS."""
        return urlsplit(self.origin).scheme in _SECURE

    @property
    def url(self) -> str:
        """The URL of the upgrade."""
        query = f"{urlencode(self.query, quote_via=quote)}&" if self.query else ""
        return f"{_place(self.origin, self.engine_path)}?{query}transport=websocket&EIO=4"


@lru_cache(maxsize=64)
def _place(origin: str, engine_path: str) -> str:
    parts = urlsplit(origin)
    return f"{'wss' if parts.scheme in _SECURE else 'ws'}://{parts.netloc}/{engine_path.strip('/')}/"


class Noise:
    """Text frames that nobody wants, known by their bytes: a wire may drop them where it reads them, and tell nobody.

    N agents that connect cause N² presences of others.

    Args:
        known: how they begin.
        unless: what is in those that are wanted all the same.

    Attributes:
        begins: how those begin that may be dropped now; :data:`NOTHING` where all are wanted.
        dropped: how many were.
    """

    __slots__ = ("_is_wanted", "_known", "begins", "dropped", "unless")

    def __init__(self, known: bytes, unless: bytes) -> None:
        self._known = known
        self._is_wanted = False
        self.begins = NOTHING
        self.unless = unless
        self.dropped = 0

    def begin(self) -> None:
        """From now on there is some."""
        self.begins = NOTHING if self._is_wanted else self._known

    def want(self, wanted: bool) -> None:
        """Whether somebody wants it all the same."""
        self._is_wanted = wanted
        self.begin()


class Listener(Protocol):
    """What a wire tells, always from the event loop's thread; nothing more after :meth:`Wire.hang_up`.

    Attributes:
        noise: what need not be told.
    """

    @property
    def noise(self) -> Noise: ...

    def upgraded(self) -> None:
        """The WebSocket is there."""

    def receive(self, text: str) -> bytes | None:
        """A text frame came.

        Returns:
            The frame with which the protocol answers it, for the wire to write before anything else; None for most.
        """

    def receive_binary(self) -> None:
        """A binary frame came."""

    def closed_by_peer(self, code: int | None) -> None:
        """The peer closed the WebSocket, with this code; None without one."""

    def broken(self, code: int | None = None) -> None:
        """The WebSocket is no more, and the peer did not close it.

        Args:
            code: how the wire closed it, where the peer broke the protocol: 1002, 1007 or 1009.
        """


class Wire(Protocol):
    """One WebSocket from upgrade to end. Frames are text in UTF-8 and go out in the order in which they are written."""

    async def open(self) -> None:
        """Connect; called once. Returns when the WebSocket is there, or later.

        Cancelled, it leaves no socket behind.

        Raises:
            UpgradeError: no WebSocket came of it.
            Exception: something else went wrong; what is known of it the listener has been told.
        """

    def write(self, frame: bytes) -> bool:
        """Write a frame, whatever the buffer holds: in this round of the loop, or at the beginning of the next.

        Never waits, never raises.

        Returns:
            False where the WebSocket is known to be no more.
        """

    @property
    def buffered_bytes(self) -> int:
        """How much has been written and not yet taken by the network."""

    def hang_up(self) -> None:
        """Say goodbye with code 1000, and close the socket once it has flushed.

        One that does not flush is cut off after :data:`GOODBYE_SECONDS`. Never waits; idempotent; harmless before the
        WebSocket is there.
        """

    def abort(self) -> None:
        """Cut the socket off at once; idempotent."""

    async def settle(self, timeout: float) -> None:
        """Wait, for ``timeout`` seconds at most, until nothing of the wire runs any more."""


MakeWire = Callable[[Session, Dial, Listener], Wire]


class UpgradeError(Exception):
    """No WebSocket came of an attempt. Its text may hold the token: it is read, never shown."""


class AnsweredError(UpgradeError):
    """An HTTP answer came instead of the WebSocket; a ``status`` of 101 is an upgrade that went wrong.

    Args:
        headers: the answer's; names in any case.
        detail: what was wrong with it, where that is known.
    """

    def __init__(self, status: int, headers: Mapping[str, str], detail: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.detail = detail


class RedirectedError(UpgradeError):
    """The answer was a redirect, which no wire follows.

    Args:
        to: where to, in words.
    """

    def __init__(self, to: str) -> None:
        super().__init__(to)
        self.to = to


class ProxyAnsweredError(UpgradeError):
    """The proxy answered by itself."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class UnreachableError(UpgradeError):
    """DNS, TCP or TLS failed, or the connection broke during the upgrade.

    Args:
        error: what the client raised, with the attributes that :func:`supervisor.net.describe_error` names.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class ConnectingError(Exception):
    """What a system's error of connecting is to :func:`supervisor.net.describe_error`; for wires without one.

    Args:
        error: the system's.
        host, port: with whom it was.
    """

    def __init__(self, error: OSError, host: str, port: int) -> None:
        super().__init__(type(error).__name__)
        self.host = host
        self.port = port
        if isinstance(error, ssl.SSLCertVerificationError):
            self.certificate_error = error
        self.os_error = error


class InvalidUrlError(UpgradeError):
    """There can be no such URL."""
