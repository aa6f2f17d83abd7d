"""A way to a server of PostgreSQL that goes wrong on demand: answers are lost, connections are a pooler's."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

#: The message in which a server names a connection: its kind, its length, then the number and a secret.
_NAME = b"K\x00\x00\x00\x0c"
#: The one in which it says its release: its kind, its length, then this and the release.
_RELEASE = re.compile(rb"S....server_version\x00[^\x00]+\x00", re.DOTALL)


@dataclass
class Way:
    """Passes bytes on between clients and a server.

    Attributes:
        url: of the registry, by this way.
        losing: the next answer is lost, and its connection with it.
        holding: an answer with these bytes in it is kept back until this is empty again.
        pooling: connections get a number that is not the server's.
        release: what the server says that it is; empty: what it says itself.
        held: how many answers were kept back.
        lost: how many answers were lost.
        closed: nobody who comes gets through.
    """

    url: str = ""
    losing: bool = False
    holding: bytes = b""
    pooling: bool = False
    release: str = ""
    held: int = 0
    lost: int = 0
    closed: bool = False
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Break every connection."""
        for writer in list(self.writers):
            writer.transport.abort()

    async def serve(self, socket: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self.closed:
            writer.close()
            return
        there, back = await asyncio.open_unix_connection(socket)
        self.writers |= {writer, back}
        try:
            await asyncio.gather(self._pass(reader, back, answers=False), self._pass(there, writer, answers=True))
        finally:
            self.writers -= {writer, back}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if answers and self.holding and self.holding in data:
                    self.held += 1
                    while self.holding:
                        await asyncio.sleep(0.005)
                if answers and self.losing:
                    self.losing, self.lost = False, self.lost + 1
                    self.cut()
                    return
                if answers and self.pooling and _NAME in data:
                    at = data.index(_NAME) + len(_NAME)
                    data = data[:at] + b"\x7f\x00\x00\x01" + data[at + 4 :]
                if answers and self.release:
                    said = b"server_version\x00" + self.release.encode() + b"\x00"
                    data = _RELEASE.sub(b"S" + (len(said) + 4).to_bytes(4, "big") + said, data)
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def way_to(url: str) -> AsyncIterator[Way]:
    """A way to a database of the tests' server."""
    way = Way()
    parts = urlsplit(url)
    socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
    server = await asyncio.start_server(lambda *ends: way.serve(socket, *ends), "127.0.0.1", 0)
    way.url = f"postgresql://postgres@127.0.0.1:{server.sockets[0].getsockname()[1]}{parts.path}?sslmode=disable"
    try:
        yield way
    finally:
        server.close()
        way.cut()
        await asyncio.sleep(0.01)
