"""The WebSocket itself, owned by us and lent to python-engineio.

:class:`Wire` is handed to the library as its ``http_session`` and gives itself out as the WebSocket: the library
calls ``ws_connect``, ``receive``, ``send_str`` and ``close`` on it. That is all of the library that this file leans
on, and it gives what subclassing would have to override private methods for: errors of the upgrade with their status,
a hand on the socket from the first moment (so that cancelling leaves none behind), every frame before the library
makes a task of it, and writes that are on their way when the call returns.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from supervisor.core.clock import Clock
from supervisor.core.errors import ConnectError
from supervisor.platform.transport import failures, frames

#: A message of the platform is at most ``maxPayload`` (1 MB) as it was sent; the platform's fields and a fuller
#: escaping come on top.
MAX_FRAME_BYTES: Final = 8 * 1024 * 1024
#: How long a closed socket may flush and say goodbye before it is cut off.
GOODBYE_SECONDS: Final = 2.0
#: The reason of a connection on which nothing came for pingInterval + pingTimeout (PROTOCOL §6).
SILENT: Final = "ping timeout"

_TEXT, _BINARY, _CLOSE = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.CLOSE
_ENDED: Final = aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)
_GOODBYE: Final = struct.pack("!H", aiohttp.WSCloseCode.OK)


class Wire:
    """One WebSocket from upgrade to end.

    Args:
        session: the shared HTTP session.
        host: the platform's host, for reasons.
        proxy: an HTTP proxy's URL; it may hold a user and a password.
        clock: wall time, for a ``Retry-After`` that is a date.
        on_text: sees every frame first; true where the library is to have it too.
        on_malformed: told of frames that are no text.
        on_lost: told once, with a short reason, that the connection is no more.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        host: str,
        proxy: str | None,
        clock: Clock,
        *,
        on_text: Callable[[str], bool],
        on_malformed: Callable[[str], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._session = session
        self._host = host
        self._proxy = proxy
        self._clock = clock
        self._on_text = on_text
        self._on_malformed = on_malformed
        self._on_lost = on_lost
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._transport: asyncio.Transport | None = None
        self._heard = 0.0
        self.opened: frames.Open | None = None
        #: Why the attempt failed, where the library's own error would not say it.
        self.failure: ConnectError | None = None
        #: What the attempt waits for, in words.
        self.stage = "TCP or TLS connection or WebSocket upgrade"
        #: Whether the connection is no more. python-engineio reads it too, as its session's ``closed``.
        self.closed = False

    # ── what python-engineio takes for an aiohttp session and its WebSocket ─────────────────────────────────────────

    async def ws_connect(self, url: str, *, headers: dict[str, str], **_options: Any) -> Wire:
        """Open the WebSocket.

        Raises:
            ConnectError: no WebSocket came of it; made outside the ``except`` block, because the errors of aiohttp
                hold the URL and the headers, and with them the token.
        """
        try:
            self._ws = ws = await self._session.ws_connect(
                url,
                headers=headers,
                proxy=self._proxy,
                max_msg_size=MAX_FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=GOODBYE_SECONDS),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self.failure = failures.upgrade_failed(error, self._host, proxy=self._proxy, now=self._clock.now())
        if self.failure is not None:
            raise self.failure
        # aiohttp shows neither the transport (to cut it off) nor its buffer; closing waits for the peer.
        connection = ws._response.connection
        self._transport = connection.transport if connection is not None else None
        self.stage = "Engine.IO OPEN packet"
        return self

    async def receive(self) -> aiohttp.WSMessage:
        """Return the next frame that is the library's; all others are dealt with on the way."""
        ws = self._ws
        try:
            while ws is not None and not self.closed:
                message = await ws.receive()
                if self.opened is None:
                    return self._read_open(message)
                if message.type is _TEXT:
                    if self._on_text(message.data):
                        self._heard = asyncio.get_running_loop().time()
                        return message
                elif message.type is _BINARY:
                    self._on_malformed("binary_frame")
                else:
                    self.lose(failures.closed_reason(message))
            return _ENDED
        except BaseException:
            # Cancelled by the library: the server has been silent for too long. Or something that nobody foresaw.
            self.lose(SILENT if self._is_silent() else "transport error")
            raise

    def _read_open(self, message: aiohttp.WSMessage) -> aiohttp.WSMessage:
        """Read the first frame, and make of it the OPEN that the library is shown."""
        try:
            self.opened = frames.read_open(message.data if message.type is _TEXT else "")
        except frames.MalformedFrameError:
            said = "closed the WebSocket" if message.type in _GONE else "sent something else"
            self.failure = ConnectError(f"{self._host} {said} instead of Engine.IO's OPEN packet; is WS_PATH right?")
        if self.opened is None:
            raise self.failure or ConnectError(self._host)
        self._heard = asyncio.get_running_loop().time()
        self.stage = "ack of CONNECT to the namespace"
        return aiohttp.WSMessage(_TEXT, frames.open_for_library(self.opened), None)

    async def send_str(self, text: str) -> None:
        """Write a packet of the library's: CONNECT, or PONG. Never waits, so that its write loop cannot hang."""
        self.write(text.encode())

    async def send_bytes(self, data: bytes) -> None:
        """The library sends nothing binary for us."""

    async def close(self) -> None:
        """The library wants the WebSocket closed."""
        self.lose("transport close")

    # ── ours ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, frame: bytes) -> bool:
        """Write a frame now, without a task; whether it was written. Never waits and never raises."""
        if self.closed:
            return False
        written = self._put(frame, _TEXT)
        if not written:
            self.lose("transport error")
        return written

    def _put(self, frame: bytes, kind: aiohttp.WSMsgType) -> bool:
        if self._ws is None:
            return False
        sending = self._ws.send_frame(frame, kind)
        try:
            # aiohttp has written the frame when it first suspends: what it waits for then is an emptier buffer.
            emptier = sending.send(None)
        except StopIteration:
            return True
        except (aiohttp.ClientError, OSError):
            return False
        sending.close()
        _leave(emptier)
        return True

    async def send(self, frame: bytes) -> bool:
        """Write a frame, then wait while the buffer is full; whether it was written."""
        if self.closed or self._ws is None:
            return False
        try:
            await self._ws.send_frame(frame, _TEXT)
        except (aiohttp.ClientError, OSError):
            self.lose("transport error")
            return False
        return True

    @property
    def buffered_bytes(self) -> int:
        """How much has been written and not yet taken by the network."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def lose(self, reason: str) -> None:
        """The connection is no more: tell, once, and say goodbye to whoever is still there."""
        if self.closed:
            return
        self.closed = True
        if self._ws is not None and not self._ws.closed:
            self._put(_GOODBYE, _CLOSE)
        self._hang_up()
        self._on_lost(reason)

    def _hang_up(self) -> None:
        """Close the socket after what has been written; a peer that does not take it is cut off."""
        if self._ws is not None:
            # Without this the connector keeps the connection when it ended by itself.
            self._ws._response.close()
        if self._transport is not None:
            asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self._transport.abort)

    def abort(self) -> None:
        """Cut the connection off at once."""
        self.lose("closed by us")
        if self._transport is not None:
            self._transport.abort()

    def _is_silent(self) -> bool:
        if self.opened is None:
            return False
        # The library's timer starts a moment after the frame is noted.
        return asyncio.get_running_loop().time() - self._heard >= 0.95 * self.opened.silence_seconds


def _leave(future: asyncio.Future[None]) -> None:
    """Stop waiting for a future that a coroutine driven by hand gave out, as a task would."""
    # Set when it was given out; while it is set nobody else can await the future.
    future._asyncio_future_blocking = False
    # Its exception is taken note of, or asyncio complains of it.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())


_GONE: Final = frozenset({_CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.ERROR})
