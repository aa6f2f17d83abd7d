"""A second wire, over the ``websockets`` package: the proof that what stands above a wire does not know which it is.

Frames are dealt with where they are read, inside ``data_received``: no task and no queue stands between.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event, State
from websockets.proxy import parse_proxy
from websockets.uri import parse_uri

from supervisor.net import Session, redirect_host
from supervisor.platform.transport.wires import (
    AnsweredError,
    Dial,
    InvalidUrlError,
    Listener,
    ProxyAnsweredError,
    RedirectedError,
    UnreachableError,
    UpgradeError,
)
from supervisor.platform.transport.wires.face import GOODBYE_SECONDS, MAX_FRAME_BYTES, ConnectingError

_REDIRECTS: Final = (301, 302, 303, 307, 308)
# At DEBUG the package prints every frame, and with it the token.
_SILENT: Final = logging.Logger("tests.websockets_wire.silent")
_SILENT.disabled = True


class WebsocketsWire:
    """A wire over ``websockets``; see :class:`supervisor.platform.transport.wires.Wire`.

    Args:
        session: what all connections share; of it the TLS context.
        dial: where to connect.
        listener: what stands above.
        goodbye_seconds: how long a closed socket may flush before it is cut off.
    """

    def __init__(
        self, session: Session, dial: Dial, listener: Listener, *, goodbye_seconds: float = GOODBYE_SECONDS
    ) -> None:
        self.listener = listener
        self.ended = False
        self._session = session
        self._dial = dial
        self._goodbye_seconds = goodbye_seconds
        self._link: _Link | None = None

    async def open(self) -> None:
        dial = self._dial
        trouble: UpgradeError | None = None
        try:
            await _Connect(
                dial.url,
                ssl=self._session.tls if dial.secure else None,
                proxy=dial.proxy,
                additional_headers=dict(dial.headers),
                compression=None,
                open_timeout=None,
                ping_interval=None,
                max_size=MAX_FRAME_BYTES,
                logger=_SILENT,
                create_connection=self._make_link,  # type: ignore[arg-type]
            )
        except (OSError, InvalidHandshake, InvalidURI, ValueError) as error:
            trouble = _upgrade_error(error, dial)
        if trouble is not None:
            raise trouble

    def _make_link(self, *args: Any, **options: Any) -> _Link:
        self._link = _Link(self, *args, **options)
        return self._link

    def write(self, frame: bytes) -> bool:
        link = self._link
        if self.ended or link is None or link.protocol.state is not State.OPEN:
            return False
        link.protocol.send_text(frame)
        try:
            link.send_data()
        except OSError:
            self.listener.broken()
            return False
        return True

    @property
    def buffered_bytes(self) -> int:
        transport = self._transport
        return 0 if transport is None else transport.get_write_buffer_size()

    @property
    def _transport(self) -> asyncio.Transport | None:
        return getattr(self._link, "transport", None)

    def hang_up(self) -> None:
        if self.ended:
            return
        self.ended = True
        link, transport = self._link, self._transport
        if link is None or transport is None:
            return
        if link.protocol.state is State.OPEN:
            link.protocol.send_close(1000)
            link.send_data()
        transport.close()
        asyncio.get_running_loop().call_later(self._goodbye_seconds, transport.abort)

    def abort(self) -> None:
        self.ended = True
        if self._transport is not None:
            self._transport.abort()

    async def settle(self, timeout: float) -> None:
        if self._link is not None and self._transport is not None:
            await asyncio.wait([self._link.connection_lost_waiter], timeout=timeout)


class _Connect(websockets_connect):
    """Follows no redirect: whoever is there would get the token."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Link(ClientConnection):
    """The package's connection, whose frames go to the wire's listener."""

    def __init__(self, wire: WebsocketsWire, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wire = wire
        self._parts: list[bytes] = []
        self._is_text = False

    def process_event(self, event: Event) -> None:
        if isinstance(event, Response):
            super().process_event(event)
            if self.protocol.handshake_exc is None:
                self._wire.listener.upgraded()
        elif isinstance(event, Frame) and not self._wire.ended:
            self._take(event)

    def _take(self, frame: Frame) -> None:
        listener = self._wire.listener
        if frame.opcode is Opcode.CLOSE:
            received = self.protocol.close_rcvd
            listener.closed_by_peer(None if received is None else received.code)
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            self._parts.append(bytes(frame.data))
            if frame.fin:
                data, self._parts = b"".join(self._parts), []
                if self._is_text:
                    self._take_text(data)
                else:
                    listener.receive_binary()

    def _take_text(self, data: bytes) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.protocol.fail(1007)
            self._report_violation()
            return
        answer = self._wire.listener.receive(text)
        if answer is not None:
            self._wire.write(answer)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._report_violation()

    def _report_violation(self) -> None:
        """Tell where the protocol had to be closed by us, because the peer broke it."""
        sent = self.protocol.close_sent
        if sent is not None and self.protocol.close_rcvd is None and self.protocol.handshake_exc is None:
            self.send_data()
            self._wire.listener.broken(sent.code)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.protocol.handshake_exc is None:
            self._wire.listener.broken()


def _upgrade_error(error: Exception, dial: Dial) -> UpgradeError:
    match error:
        case InvalidProxyStatus():
            return ProxyAnsweredError(error.response.status_code)
        case InvalidStatus():
            status, headers = error.response.status_code, error.response.headers
            return RedirectedError(redirect_host(headers)) if status in _REDIRECTS else AnsweredError(status, headers)
        case InvalidURI() | InvalidProxy():
            return InvalidUrlError()
        case InvalidMessage() | ProxyError():
            return UnreachableError(error)
        case InvalidHandshake():
            return AnsweredError(101, {}, str(error))
        case OSError():
            place = parse_proxy(dial.proxy) if dial.proxy else parse_uri(dial.url)
            return UnreachableError(ConnectingError(error, place.host, place.port))
    return InvalidUrlError()
