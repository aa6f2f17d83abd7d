"""TCP connections: names are looked up once for all, every address is tried, and nothing takes for ever."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from supervisor.net.tcp import connect_tcp

#: An address that is nobody's (RFC 5737): it answers with an error, or never.
NOBODY = "192.0.2.1"


class Names(AbstractResolver):
    """Knows the addresses of every name."""

    def __init__(self, *addresses: str, seconds: float = 0.0) -> None:
        self.addresses = addresses
        self.seconds = seconds
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        return [
            {"hostname": host, "host": one, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for one in self.addresses
        ]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def session(names: Names, seconds: float = 5.0) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(resolver=names)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(sock_connect=seconds)) as made:
        yield made


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    async def leave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(leave, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_name_is_looked_up_once_for_all_who_ask() -> None:
    names = Names("127.0.0.1", seconds=0.05)
    async with listening() as port, session(names) as http:
        made = await asyncio.gather(*(connect_tcp(http, "platform.example", port) for _ in range(20)))
        assert {one.getpeername() for one in made} == {("127.0.0.1", port)}
        assert not any(one.getblocking() for one in made)
        for one in made:
            one.close()
    assert names.asked == 1


async def test_an_address_without_an_answer_does_not_hide_the_next() -> None:
    async with listening() as port, session(Names(NOBODY, "127.0.0.1")) as http:
        made = await connect_tcp(http, "platform.example", port)
        assert made.getpeername() == ("127.0.0.1", port)
        made.close()


async def test_nobody_is_waited_for_longer_than_the_session_waits() -> None:
    async with session(Names("127.0.0.1", seconds=60), seconds=0.1) as http:
        with pytest.raises(TimeoutError):
            await connect_tcp(http, "platform.example", 1)


async def test_trouble_is_told_as_the_systems_own() -> None:
    async with listening() as port:
        pass
    async with session(Names("127.0.0.1")) as http:
        with pytest.raises(ConnectionRefusedError):
            await connect_tcp(http, "platform.example", port)
        with pytest.raises(ValueError, match="canonical"):
            await connect_tcp(http, "127.1", port)
    with pytest.raises(OSError, match="closed"):
        await connect_tcp(http, "platform.example", port)
