"""TCP connections for clients that are not aiohttp's, made as aiohttp makes its own."""

from __future__ import annotations

import asyncio
import socket

import aiohappyeyeballs
import aiohttp

#: How long an address may take before the next is tried beside it (RFC 8305).
_NEXT_ADDRESS_SECONDS = 0.25


async def connect_tcp(http: aiohttp.ClientSession, host: str, port: int) -> socket.socket:
    """Connect to the first of a host's addresses that answers; names are remembered as ``http`` remembers them.

    The loop's own ``create_connection`` would look a name up for each connection, and uvloop's tries one address after
    the other, each for as long as the system lets it.

    Returns:
        The connected socket, which does not block.

    Raises:
        OSError: the name is not known, or nobody answers there; TimeoutError after the time that ``http`` has for it.
        ValueError: there is no such host.
    """
    connector = http.connector
    if not isinstance(connector, aiohttp.TCPConnector):
        raise OSError("the HTTP session is closed")
    async with asyncio.timeout(http.timeout.sock_connect):
        found = await connector._resolve_host(host, port)
        if len(found) == 1:
            return await _connect(_address(found[0]["host"], found[0]["port"]))
        return await aiohappyeyeballs.start_connection(
            [_address(one["host"], one["port"]) for one in found], happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS
        )


async def _connect(address: aiohappyeyeballs.AddrInfoType) -> socket.socket:
    """Connect to the only address there is, which no other has to hurry."""
    family, kind, protocol, _, where = address
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made


def _address(host: str, port: int) -> aiohappyeyeballs.AddrInfoType:
    """A resolved address as ``getaddrinfo`` gives them."""
    if ":" in host:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
