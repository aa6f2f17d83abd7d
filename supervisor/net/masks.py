"""Refuses WebSocket frames that a server has masked: RFC 6455, section 5.1, has the client close on them.

aiohttp unmasks whatever comes. Servers mask nothing: a frame that is masked was made by something else on the way.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import aiohttp

_MASKED: Final = 0x80
#: Bytes of the length that follow a header's two, by what its seven bits say.
_LENGTH_BYTES: Final = {126: 2, 127: 8}


class UnmaskedFrames:
    """Stands before aiohttp's reader of one WebSocket and looks at the header of each frame.

    Args:
        reader: takes the bytes; ``feed_data`` and ``feed_eof`` are all that is asked of it.
        queue: hears of the refusal, after the frames that came before.
    """

    def __init__(self, reader: Any, queue: Any) -> None:
        self._reader = reader
        self._queue = queue
        self._payload_left = 0
        self._header = b""  # of a frame whose header has not come as a whole

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass on what came, up to a frame that is masked; whether nothing more is to be passed on."""
        if len(data) <= self._payload_left:
            self._payload_left -= len(data)
        elif (end := self._masked_at(bytes(data))) is not None:
            self._reader.feed_data(data[:end])
            self._queue.set_exception(
                aiohttp.WebSocketError(aiohttp.WSCloseCode.PROTOCOL_ERROR, "the server masked a frame")
            )
            return True, b""
        passed: tuple[bool, bytes] = self._reader.feed_data(data)
        return passed

    def feed_eof(self) -> None:
        """Nothing more comes."""
        self._reader.feed_eof()

    def _masked_at(self, data: bytes) -> int | None:
        """Where in ``data`` the header of a masked frame begins; None where no frame is masked."""
        before, start = len(self._header), self._payload_left
        data = self._header + data
        size = len(data)
        while size - start >= 2:
            second = data[start + 1]
            if second & _MASKED:
                return max(0, start - before)
            end = start + 2 + _LENGTH_BYTES.get(second, 0)
            if end > size:
                break
            length = second if second < 126 else int.from_bytes(data[start + 2 : end], "big")
            start = end + length
        self._payload_left = max(0, start - size)
        self._header = data[start:]
        return None


class UnmaskedConnector(aiohttp.TCPConnector):
    """Makes the connections of WebSockets; what a server sends on them goes through :class:`UnmaskedFrames`."""

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        """As aiohttp's own does."""
        connection = await super().connect(req, traces, timeout)
        protocol: Any = connection.protocol
        if protocol is not None:
            # The first frames may come with the answer to the upgrade, so the guard is there before they are read.
            protocol.set_parser = partial(_set_guarded, protocol.set_parser)
        return connection


def _set_guarded(set_parser: Any, reader: Any, queue: Any, **options: Any) -> None:
    set_parser(UnmaskedFrames(reader, queue), queue, **options)
