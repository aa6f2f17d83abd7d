"""Where a webhook may go: every kind of address that is not public, and names that change what they mean."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from agents._addresses import CheckingResolver, ForbiddenAddressError, check_host, is_allowed

NEVER = [
    "0.0.0.0", "::", "::ffff:0.0.0.0",
    "169.254.0.1", "169.254.169.254", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "fd00:ec2::254", "100.100.100.200", "2002:a9fe:a9fe::1", "192.0.0.192", "168.63.129.16", "fd00:ec2::23",
    "fd20:ce::254", "fd00:42::42", "::ffff:168.63.129.16", "64:ff9b::c000:c0", "2002:a83f:8110::1", "::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe", "::ffff:0:a9fe:a9fe", "2606:4700::5efe:a9fe:a9fe", "2001:0:a9fe:a9fe::1",
    "2001:0:101:101:0:0:5601:5601",
    "224.0.0.1", "239.255.255.250", "ff02::1", "::ffff:224.0.0.1",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
    "100.64.0.1", "100.127.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "0.1.2.3", "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.170", "192.88.99.1", "192.31.196.1",
    "192.52.193.1", "192.175.48.1", "198.19.255.255", "::ffff:192.0.0.8", "64:ff9b::6440:1", "2002:6440:1::1",
    "64:ff9b:1::101:101", "2001:20::1", "2001:2::1", "3fff::1", "2620:4f:8000::1", "5f00::1",
    "2606:4700::200:5efe:a00:1",
    "fc00::1", "fd12:3456::1", "fec0::1", "2001:db8::1", "2001::1", "::7f00:1", "100::1", "4000::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101",
    "2002:101:101::1", "192.0.1.1", "168.63.129.15", "100.128.0.1", "2001:4860:4860::8888",
]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
def test_addresses_that_are_never_allowed(address: str) -> None:
    assert not is_allowed(address, private=False)
    assert not is_allowed(address, private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_have_to_be_allowed(address: str) -> None:
    assert not is_allowed(address, private=False)
    assert is_allowed(address, private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_allowed(address, private=False)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "0x7f.1", "::1", "::ffff:127.0.0.1", "10.1"])
def test_a_private_address_in_any_spelling_has_to_be_allowed(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        check_host(host, private=False)
    check_host(host, private=True)


@pytest.mark.parametrize("host", ["2852039166", "169.254.43518", "999.1.1.1", "1.2.3.4.5", "::zz"])
def test_what_no_resolver_sees_and_is_no_address_that_may_be_is_refused(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        check_host(host, private=True)


@pytest.mark.parametrize("host", ["1.1.1.1", "16843009", "example.com", "7.example.com", "2606:4700::1111"])
def test_names_and_public_addresses_pass(host: str) -> None:
    check_host(host, private=False)


class ScriptedResolver(AbstractResolver):
    """Answers in turn, the last answer for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        kinds = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)
            for address, kind in zip(found, kinds, strict=True)
        ]

    async def close(self) -> None:
        pass


async def test_one_private_address_among_public_ones_is_enough() -> None:
    resolver = CheckingResolver(private=False, inner=ScriptedResolver(["1.1.1.1", "10.0.0.7"]))
    with pytest.raises(ForbiddenAddressError, match=r"agent\.example \(10\.0\.0\.7\) is no public address"):
        await resolver.resolve("agent.example", 443)


async def test_a_name_that_turns_private_is_refused_and_nobody_connects() -> None:
    """DNS rebinding: public when it is first looked at, loopback when the connection is made."""
    reached = 0

    async def accept(reader: object, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        reached += 1
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    inner = ScriptedResolver(["1.1.1.1"], ["127.0.0.1"])
    resolver = CheckingResolver(private=False, inner=inner)
    assert [found["host"] for found in await resolver.resolve("agent.example", port)] == ["1.1.1.1"]
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
    async with server, aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectorDNSError) as refused:
            await session.get(f"http://agent.example:{port}/")
    assert isinstance(refused.value.os_error, ForbiddenAddressError)
    assert reached == 0


async def test_the_connection_goes_to_the_address_that_was_checked_and_no_name_is_looked_up_twice() -> None:
    """Were it resolved again, the second answer would be met: an address where nobody listens."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    inner = ScriptedResolver(["127.0.0.1"], ["127.0.0.2"])
    connector = aiohttp.TCPConnector(resolver=CheckingResolver(private=True, inner=inner), use_dns_cache=False)
    async with (
        server,
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://agent.example:{port}/") as response,
    ):
        assert response.status == 204
    assert inner.asked == 1
