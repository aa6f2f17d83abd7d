"""What stands between a supervisor and its platform: TLS in front of it, and a proxy that wants a password."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

from tests.support.gateway import raw_server

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def splice(near: Ends, far: Ends) -> None:
    """Pass bytes on in both directions until both ends are done."""
    await asyncio.gather(_pump(near[0], far[1]), _pump(far[0], near[1]))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@asynccontextmanager
async def tls_front(url: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS before the plain server at ``url``."""
    place = urlsplit(url)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await splice((reader, writer), await asyncio.open_connection(place.hostname, place.port))

    async with raw_server(forward, tls=context) as address:
        yield int(address.rpartition(":")[2])


class Lag:
    """A way to a platform on which its answers are late.

    Attributes:
        url: of the platform, by this way.
        holding: its answers wait until this is false again.
        asked: how many bytes were sent to it.
    """

    def __init__(self) -> None:
        self.url = ""
        self.holding = False
        self.asked = 0

    async def to(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the platform is sent."""
        while data := await reader.read(65536):
            self.asked += len(data)
            writer.write(data)
        writer.close()

    async def back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the platform answers."""
        while data := await reader.read(65536):
            while self.holding:
                await asyncio.sleep(0.005)
            writer.write(data)
        writer.close()


@asynccontextmanager
async def lagging(url: str) -> AsyncIterator[Lag]:
    """A way to the platform at ``url``."""
    lag, place = Lag(), urlsplit(url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await asyncio.open_connection(place.hostname, place.port)
        await asyncio.gather(lag.to(reader, far[1]), lag.back(far[0], writer))

    async with raw_server(pass_on) as address:
        lag.url = place._replace(netloc=address).geturl()
        try:
            yield lag
        finally:
            lag.holding = False


class Proxy:
    """An HTTP proxy that wants Basic authentication, for CONNECT and plain requests."""

    def __init__(self, user: str, password: str) -> None:
        self._expected = b"Basic " + base64.b64encode(f"{user}:{password}".encode())
        #: The methods of the requests that it let through, and how many it did not.
        self.asked: list[str] = []
        self.refused = 0
        self.address = ""
        #: Names that only it can resolve.
        self.names: dict[str, str] = {}

    def url(self, user: str, password: str) -> str:
        """Its URL with these credentials."""
        return f"http://{quote(user, safe='')}:{quote(password, safe='')}@{self.address}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        method, target, _ = line.split(b" ")
        given = [value.strip() for name, _, value in (line.partition(b":") for line in lines) if _is_credentials(name)]
        if given != [self._expected]:
            self.refused += 1
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        self.asked.append(method.decode())
        place = urlsplit(f"//{target.decode()}" if method == b"CONNECT" else target.decode())
        host = place.hostname or ""
        far = await asyncio.open_connection(self.names.get(host, host), place.port)
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            far[1].write(head)
        await splice((reader, writer), far)


def _is_credentials(name: bytes) -> bool:
    return name.lower() == b"proxy-authorization"


@asynccontextmanager
async def connect_proxy(user: str, password: str) -> AsyncIterator[Proxy]:
    """A running :class:`Proxy`."""
    proxy = Proxy(user, password)
    async with raw_server(proxy.serve) as proxy.address:
        yield proxy
