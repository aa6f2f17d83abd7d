"""The reference wire: python-socketio's own client over aiohttp.

The library does what is slow and seldom: it asks for the upgrade and writes CONNECT and PONG. The WebSocket itself is
the wire's. The library is lent a stand-in for its HTTP session and WebSocket and calls ``ws_connect``, ``receive``,
``send_str`` and ``close`` on it. No more of the library is leaned on, and the loan gives what subclassing would have to
override private methods for: errors of the upgrade with their status, a hand on the socket from the first moment (so
that cancelling leaves none behind), every frame before the library makes a task of it, and writes that are on their way
when the call returns.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import socketio

from supervisor.net import RedirectRefusedError, Session
from supervisor.platform.transport.wires.face import (
    GOODBYE_SECONDS,
    MAX_FRAME_BYTES,
    AnsweredError,
    Dial,
    InvalidUrlError,
    Listener,
    ProxyAnsweredError,
    RedirectedError,
    UnreachableError,
    UpgradeError,
)
from supervisor.platform.transport.wires.frames import Open, read_open

_TEXT, _BINARY, _CLOSE = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.CLOSE
_ENDED: Final = aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)
_GOODBYE: Final = struct.pack("!H", aiohttp.WSCloseCode.OK)
#: How much longer than the transport the library waits for a silent server: the transport is to notice first.
_LIBRARY_SLACK_MS: Final = 5_000
#: After so many characters there is a look at the clock; a frame costs as much as some more of them.
_LOOK_CHARS: Final = 4096
_FRAME_CHARS: Final = 64

# Belongs to no hierarchy, so no configuration can make it speak: at INFO engineio prints CONNECT with its token.
_SILENT: Final = logging.Logger("supervisor.transport.silent")
_SILENT.disabled = True


class SocketIOWire:
    """A wire over python-socketio's client; see :class:`~supervisor.platform.transport.wires.face.Wire`.

    Args:
        session: the shared HTTP session.
        dial: where to connect.
        listener: what stands above.
        goodbye_seconds: how long a closed socket may flush before it is cut off.
    """

    def __init__(
        self, session: Session, dial: Dial, listener: Listener, *, goodbye_seconds: float = GOODBYE_SECONDS
    ) -> None:
        self._session = session
        self._dial = dial
        self._listener = listener
        self._goodbye_seconds = goodbye_seconds
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._transport: asyncio.Transport | None = None
        self._trouble: UpgradeError | None = None
        self._opened = False
        #: Whether the WebSocket is no more.
        self.ended = False
        self._client = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            logger=_SILENT,
            engineio_logger=_SILENT,
            http_session=_Loan(self, listener),
            timestamp_requests=False,
        )

    async def open(self) -> None:
        """Connect, and have the library write CONNECT."""
        if self.ended:
            # The library would make a session of its own in place of one that is closed.
            raise UpgradeError
        dial = self._dial
        try:
            await self._client.connect(
                f"{dial.origin}?{urlencode(dial.query, quote_via=quote)}" if dial.query else dial.origin,
                headers=dict(dial.headers),
                auth=dict(dial.auth) or None,
                transports=["websocket"],
                namespaces=[dial.namespace],
                socketio_path=dial.engine_path,
                # Its own wait ignores a connection that is lost meanwhile.
                wait=False,
            )
        except Exception:
            # The library may have wrapped it in an error of its own.
            if self._trouble is None:
                raise
        if self._trouble is not None:
            raise self._trouble

    async def upgrade(self, url: str, headers: dict[str, str]) -> None:
        """Open the WebSocket; the loan calls this for the library.

        Raises:
            UpgradeError: no WebSocket came of it.
        """
        try:
            self._ws = ws = await self._session.upgrades.ws_connect(
                url,
                headers=headers,
                proxy=self._dial.proxy,
                max_msg_size=MAX_FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=self._goodbye_seconds),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._trouble = _upgrade_error(error)
        if self._trouble is not None:
            # Outside the except block: the errors of aiohttp hold the URL and the headers, and with them the token.
            raise self._trouble
        # aiohttp shows neither the transport (to cut it off) nor its buffer; closing waits for the peer.
        connection = ws._response.connection
        self._transport = connection.transport if connection is not None else None
        self._listener.upgraded()

    async def receive(self) -> aiohttp.WSMessage:
        """The next frame that the library is to answer: OPEN or a PING. All others go no further than the listener."""
        ws, take, turns = self._ws, self._listener.receive, self._session.turns
        taken = 0
        try:
            while ws is not None and not self.ended:
                message = await ws.receive()
                if message.type is _TEXT:
                    if take(message.data) is not None:
                        return message if self._opened else self._show_open(message.data)
                elif message.type is _BINARY:
                    self._listener.receive_binary()
                else:
                    self._report_end(message)
                    continue
                # Of frames that are there already the next is taken without a turn of the loop in between.
                taken += len(message.data) + _FRAME_CHARS
                if taken > _LOOK_CHARS:
                    taken = 0
                    await turns.give_way()
            return _ENDED
        except BaseException:
            # Cancelled by the library, or something that nobody foresaw.
            self._listener.broken()
            raise

    def _show_open(self, text: str) -> aiohttp.WSMessage:
        """OPEN as the library is shown it; the transport has read the server's own and found it good."""
        self._opened = True
        return aiohttp.WSMessage(_TEXT, library_open(read_open(text)), None)

    def _report_end(self, message: aiohttp.WSMessage) -> None:
        if message.type is _CLOSE:
            self._listener.closed_by_peer(message.data)
        elif message.type is aiohttp.WSMsgType.ERROR and isinstance(message.data, aiohttp.WebSocketError):
            self._listener.broken(message.data.code)
        else:
            self._listener.broken()

    def write(self, frame: bytes) -> bool:
        """Write a frame now, without a task."""
        if self.ended:
            return False
        written = self._put(frame, _TEXT)
        if not written:
            self._listener.broken()
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

    @property
    def buffered_bytes(self) -> int:
        """How much has been written and not yet taken by the network."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def hang_up(self) -> None:
        """Say goodbye and close the socket after what has been written."""
        if self.ended:
            return
        self.ended = True
        if self._ws is not None:
            if not self._ws.closed:
                self._put(_GOODBYE, _CLOSE)
            # Without this the connector keeps the connection when it ended by itself.
            self._ws._response.close()
        if self._transport is not None:
            asyncio.get_running_loop().call_later(self._goodbye_seconds, self._transport.abort)

    def abort(self) -> None:
        """Cut the socket off at once."""
        self.ended = True
        if self._transport is not None:
            self._transport.abort()

    async def settle(self, timeout: float) -> None:
        """Wait until the library's loops have noticed the end."""
        engine = self._client.eio
        tasks = [task for task in (engine.read_loop_task, engine.write_loop_task) if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)


class _Loan:
    """What python-engineio takes for an aiohttp session and its WebSocket."""

    __slots__ = ("_listener", "_wire")

    def __init__(self, wire: SocketIOWire, listener: Listener) -> None:
        self._wire = wire
        self._listener = listener

    @property
    def closed(self) -> bool:
        """As a session's: the library closes one that is open when it is garbage collected."""
        return self._wire.ended

    async def ws_connect(self, url: str, *, headers: dict[str, str], **_options: Any) -> _Loan:
        """Open the WebSocket; raises UpgradeError."""
        await self._wire.upgrade(url, headers)
        return self

    async def receive(self) -> aiohttp.WSMessage:
        """The next frame that is the library's."""
        return await self._wire.receive()

    async def send_str(self, text: str) -> None:
        """Write a packet of the library's: CONNECT or PONG. Never waits, so that its write loop cannot hang."""
        self._wire.write(text.encode())

    async def send_bytes(self, data: bytes) -> None:
        """The library sends nothing binary for us."""

    async def close(self) -> None:
        """The library wants the WebSocket closed."""
        self._listener.closed_by_peer(None)


def library_open(opened: Open) -> str:
    """The OPEN that python-engineio is shown.

    Its read loop gives up on a server that says nothing for ``pingInterval + pingTimeout``, its write loop after
    ``max(pingInterval, pingTimeout)`` and 5 s without a packet to write. With the platform's figures a ping that is 5 s
    late would kill a connection that has 15 s more to live. The transport notices silence itself, and the library is
    told so long an interval that both its loops wait longer.
    """
    interval = opened.ping_interval + opened.ping_timeout + _LIBRARY_SLACK_MS
    shown = {"sid": opened.sid, "upgrades": [], "pingInterval": interval, "pingTimeout": 0}
    return "0" + msgspec.json.encode(shown).decode()


def _upgrade_error(error: Exception) -> UpgradeError:
    """Put an error of aiohttp into the face's terms."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ProxyAnsweredError(error.status)
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return AnsweredError(error.status, error.headers or {}, error.message)
    if isinstance(error, RedirectRefusedError):
        return RedirectedError(str(error))
    if isinstance(error, aiohttp.InvalidURL):
        return InvalidUrlError("invalid URL")
    return UnreachableError(error)


def _leave(future: asyncio.Future[None]) -> None:
    """Stop waiting for a future that a coroutine driven by hand gave out, as a task would."""
    # Set when it was given out; while it is set nobody else can await the future.
    future._asyncio_future_blocking = False
    # Its exception is taken note of, or asyncio complains of it.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
