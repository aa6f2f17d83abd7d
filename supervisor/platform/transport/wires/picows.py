"""The fast wire: picows, whose parser calls back for each frame where it was read, with no task or queue in between.

picows knows WebSockets and nothing of HTTP beyond the upgrade. The connection below it is made by
:mod:`supervisor.net.tcp`, and its TLS is the loop's own, so that names, addresses and authorities are dealt
with as on the reference wire. Its own proxies are not used: see :mod:`supervisor.platform.transport.choice`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import struct
from collections import deque
from contextlib import suppress
from typing import Final

import aiohttp
from multidict import CIMultiDict
from picows import (
    WSCloseCode,
    WSFrame,
    WSHandshakeError,
    WSInvalidURL,
    WSListener,
    WSMsgType,
    WSParsedURL,
    WSTransport,
    ws_connect,
)
from yarl import URL

from supervisor.net import Session, redirect_host
from supervisor.platform.transport.wires.face import (
    GOODBYE_SECONDS,
    MAX_FRAME_BYTES,
    AnsweredError,
    ConnectingError,
    Dial,
    InvalidUrlError,
    Listener,
    RedirectedError,
    UnreachableError,
    UpgradeError,
)

_TEXT, _BINARY, _CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
_PING, _CLOSE = WSMsgType.PING, WSMsgType.CLOSE
_REDIRECTS: Final = (301, 302, 303, 307, 308)
#: Codes with which a peer that breaks the protocol is closed, and which the listener is told.
_VIOLATIONS: Final = frozenset({WSCloseCode.PROTOCOL_ERROR, WSCloseCode.INVALID_TEXT, WSCloseCode.MESSAGE_TOO_BIG})
#: After so many bytes there is a look at the clock; a frame costs as much as some more of them.
_LOOK_BYTES: Final = 4096
_FRAME_BYTES: Final = 64
#: Of each connection, all the time; picows doubles it where more comes at once.
_READ_BUFFER_BYTES: Final = 1024
#: Pings are not answered while this much waits for the network: a peer that reads no answers needs none.
_PONG_BUFFER_BYTES: Final = 64 * 1024

_random_bits: Final = random.getrandbits

# At INFO picows tells of connections, and no configuration can make this logger speak. It is an adapter since of a
# plain logger picows makes a child for each connection.
_logger: Final = logging.Logger("supervisor.transport.picows")
_logger.disabled = True
_SILENT: Final = logging.LoggerAdapter(_logger, {})


class PicowsWire(WSListener):
    """A wire over picows; see :class:`~supervisor.platform.transport.wires.face.Wire`.

    Args:
        session: of it the TLS context, the names of hosts, and the turns of bursts.
        dial: where to connect; one with a proxy is not for this wire.
        listener: what stands above.
        goodbye_seconds: how long a closed socket may flush before it is cut off.
    """

    def __init__(
        self, session: Session, dial: Dial, listener: Listener, *, goodbye_seconds: float = GOODBYE_SECONDS
    ) -> None:
        self._session = session
        self._dial = dial
        self._listener = listener
        self._noise = listener.noise
        self._goodbye_seconds = goodbye_seconds
        self._socket: socket.socket | None = None
        self._transport: WSTransport | None = None
        self._loop = asyncio.get_running_loop()
        # What was written in this moment: it goes out together, in the next round of the loop.
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        # The message that has come in part.
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._kind = _TEXT
        self._taken = 0
        # While it is not this wire's turn: kind, whether it is the last of its message, and payload of frames.
        self._held: deque[tuple[WSMsgType | None, bool, bytes]] | None = None
        #: Whether the WebSocket is no more.
        self.ended = False

    async def open(self) -> None:
        """Connect and upgrade."""
        trouble: UpgradeError | None = None
        try:
            await self._connect()
        except WSHandshakeError as error:
            trouble = _answered(error)
        except OSError as error:
            trouble = self._unreachable(error)
        except (WSInvalidURL, aiohttp.InvalidURL):
            trouble = InvalidUrlError("invalid URL")
        except (aiohttp.ClientError, ValueError) as error:
            trouble = UnreachableError(error)
        finally:
            if self._transport is None:
                self._cut_off()
        if self._transport is None and trouble is None:
            # picows returns when the peer closes instead of answering.
            trouble = UnreachableError(ConnectionResetError())
        if trouble is not None:
            # Outside every except block: the errors of picows may hold the URL, and with it the token.
            raise trouble

    async def _connect(self) -> None:
        dial = self._dial
        headers = {"User-Agent": aiohttp.http.SERVER_SOFTWARE, **dial.headers}
        if not all(value.isprintable() for value in headers.values()):
            raise ValueError("a header that is not printable")
        await ws_connect(
            lambda _request, _response: self,
            str(URL(dial.url)),
            ssl_context=self._session.tls,
            websocket_handshake_timeout=None,
            logger_name=_SILENT,
            enable_auto_pong=False,
            max_frame_size=MAX_FRAME_BYTES,
            extra_headers=headers,
            max_redirects=0,
            read_buffer_init_size=_READ_BUFFER_BYTES,
            socket_factory=self._connect_tcp,
            use_aiofastnet=False,
        )

    async def _connect_tcp(self, url: WSParsedURL) -> socket.socket:
        self._socket = await self._session.connect_tcp(url.host, url.port)
        return self._socket

    def _unreachable(self, error: OSError) -> UnreachableError:
        if isinstance(error, TimeoutError) and error.errno is None:
            return UnreachableError(error)
        url = URL(self._dial.url)
        return UnreachableError(ConnectingError(error, url.host or "", url.port or 0))

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The WebSocket is there."""
        if self.ended:
            transport.disconnect(graceful=False)
            return
        self._transport, self._socket = transport, None
        self._listener.upgraded()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame was read."""
        if self.ended:
            return
        payload, noise = frame.get_payload_as_bytes(), self._noise
        if payload.startswith(noise.begins) and noise.unless not in payload and frame.fin and frame.msg_type is _TEXT:
            # Nearly every frame while a fleet connects: neither decoded nor told.
            noise.dropped += 1
            self._taken += _FRAME_BYTES
            if self._held is not None:
                return
        else:
            kind = None if frame.rsv1 or frame.rsv2 or frame.rsv3 else frame.msg_type
            if self._held is not None:
                self._held.append((kind, frame.fin, payload))
                return
            if kind is _TEXT and frame.fin and not self._parts:
                # Nearly every other frame: the fewest calls.
                self._take_text(payload)
            else:
                self._take(kind, frame.fin, payload)
            self._taken += len(payload) + _FRAME_BYTES
        if self._taken > _LOOK_BYTES and not self.ended:
            self._taken = 0
            turn = self._session.turns.turn()
            if turn is not None:
                # No more is read; what this read has brought is kept.
                self._held = deque()
                transport.underlying_transport.pause_reading()
                turn.add_done_callback(self._go_on)

    def _go_on(self, _turn: asyncio.Future[None]) -> None:
        """It is this wire's turn: deal with what was kept, and read again."""
        while self._held and not self.ended:
            kind, last, payload = self._held.popleft()
            self._take(kind, last, payload)
            self._taken += len(payload) + _FRAME_BYTES
            if self._taken > _LOOK_BYTES:
                self._taken = 0
                turn = self._session.turns.turn()
                if turn is not None:
                    turn.add_done_callback(self._go_on)
                    return
        self._held = None
        if self._transport is not None and not self.ended:
            if self._transport.is_disconnected:
                self.on_ws_disconnected(self._transport)
            elif not self._transport.underlying_transport.is_closing():
                self._transport.underlying_transport.resume_reading()

    def _take(self, kind: WSMsgType | None, last: bool, payload: bytes) -> None:
        """Deal with a frame; a kind of None breaks the protocol."""
        if kind is _TEXT and last and not self._parts:
            self._take_text(payload)
        elif kind is _TEXT or kind is _BINARY or kind is _CONTINUATION:
            self._take_part(kind, last, payload)
        elif kind is _PING:
            if self._transport is not None and self.buffered_bytes <= _PONG_BUFFER_BYTES:
                self._transport.send_pong(payload)
        elif kind is _CLOSE:
            self._listener.closed_by_peer(int.from_bytes(payload[:2], "big") if payload else None)
        elif kind is None:
            self._violate(WSCloseCode.PROTOCOL_ERROR)

    def _take_part(self, kind: WSMsgType, last: bool, payload: bytes) -> None:
        """Deal with a frame that is a part of a message, or a binary one."""
        if (kind is _CONTINUATION) is not bool(self._parts):
            self._violate(WSCloseCode.PROTOCOL_ERROR)
            return
        if kind is not _CONTINUATION:
            self._kind = kind
        if payload or not self._parts:
            self._parts.append(payload)
        self._parts_bytes += len(payload)
        if self._parts_bytes > MAX_FRAME_BYTES:
            self._violate(WSCloseCode.MESSAGE_TOO_BIG)
        elif last:
            message, self._parts, self._parts_bytes = b"".join(self._parts), [], 0
            if self._kind is _TEXT:
                self._take_text(message)
            else:
                self._listener.receive_binary()

    def _take_text(self, payload: bytes) -> None:
        try:
            text = str(payload, "utf-8")
        except UnicodeDecodeError:
            self._violate(WSCloseCode.INVALID_TEXT)
            return
        answer = self._listener.receive(text)
        if answer is not None:
            self.write(answer)

    def _violate(self, code: WSCloseCode) -> None:
        """The peer broke the protocol."""
        if self._transport is not None:
            self._flush()
            self._transport.send_close(code)
        self._listener.broken(code.value)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is no more."""
        handshake = transport.close_handshake
        if handshake is not None and handshake.sent is not None:
            # What picows itself found wrong with the peer it also keeps as an exception that somebody is to see.
            seen = asyncio.ensure_future(transport.wait_disconnected())
            seen.add_done_callback(lambda done: done.cancelled() or done.exception())
        if not self.ended and not self._held:
            sent = handshake.sent.code if handshake is not None and handshake.sent is not None else None
            self._listener.broken(sent.value if sent in _VIOLATIONS else None)

    def write(self, frame: bytes) -> bool:
        """Write a frame, without a task; those of one moment are one write of the system."""
        if self.ended or self._transport is None:
            return False
        if not self._unsent:
            self._loop.call_soon(self._flush)
        sent = masked(frame)
        self._unsent.append(sent)
        self._unsent_bytes += len(sent)
        return True

    def _flush(self) -> None:
        if not self._unsent or self._transport is None:
            return
        frames, self._unsent, self._unsent_bytes = b"".join(self._unsent), [], 0
        try:
            self._transport.underlying_transport.write(frames)
        except (OSError, RuntimeError):
            if not self.ended:
                self._listener.broken()

    @property
    def buffered_bytes(self) -> int:
        """How much has been written and not yet taken by the network."""
        if self._transport is None:
            return 0
        return self._unsent_bytes + self._transport.underlying_transport.get_write_buffer_size()

    def hang_up(self) -> None:
        """Say goodbye and close the socket after what has been written."""
        if self.ended:
            return
        self.ended = True
        transport = self._transport
        if transport is None:
            self._cut_off()
            return
        self._flush()
        with suppress(OSError, RuntimeError):
            transport.send_close(WSCloseCode.OK)
        transport.disconnect()
        self._loop.call_later(self._goodbye_seconds, transport.underlying_transport.abort)

    def abort(self) -> None:
        """Cut the socket off at once."""
        self.ended = True
        self._unsent.clear()
        self._cut_off()
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _cut_off(self) -> None:
        """End a connection that is no WebSocket's yet: what holds the socket sees the end of it, and closes it."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    async def settle(self, timeout: float) -> None:
        """Wait until the connection is no more."""
        # A time-out, or what picows found wrong with the peer.
        with suppress(Exception):
            async with asyncio.timeout(timeout):
                if self._transport is not None:
                    await self._transport.wait_disconnected()


def _answered(error: WSHandshakeError) -> UpgradeError:
    """Put an HTTP answer into the face's terms; picows itself reads only those that it knows."""
    status_line, _, lines = (error.raw_header or b"").partition(b"\r\n")
    words = status_line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return UnreachableError(error)
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        headers.add(name.strip(), value.strip())
    status = int(words[1][:3])
    if status in _REDIRECTS:
        return RedirectedError(redirect_host(headers))
    return AnsweredError(status, headers, str(error))


def masked(payload: bytes) -> bytes:
    """A client's text frame (RFC 6455 §5.2).

    picows would hand each to the system at once, and keep a buffer as large as the largest.
    """
    size, key = len(payload), _random_bits(32)
    mask = int.from_bytes((key.to_bytes(4, "little") * (size // 4 + 1))[:size], "little")
    if size < 126:
        head = struct.pack("<BBI", 0x81, 0x80 | size, key)
    elif size < 65536:
        head = b"\x81\xfe" + size.to_bytes(2, "big") + key.to_bytes(4, "little")
    else:
        head = b"\x81\xff" + size.to_bytes(8, "big") + key.to_bytes(4, "little")
    return head + (int.from_bytes(payload, "little") ^ mask).to_bytes(size, "little")
