"""Which addresses a handler may go to: by default the public ones only, whatever a name resolves to at the moment."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

#: What is set aside for special purposes (https://www.iana.org/assignments/iana-ipv4-special-registry and the same for
#: IPv6). Named here because the standard library's own list differs between versions of Python.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
#: Where clouds keep the machine's credentials or steer it, outside the link-local ranges: Alibaba, Oracle, Azure, AWS,
#: Google, Scaleway.
_METADATA: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::/32", "fd20:ce::254", "fd00:42::42")
)
#: Ranges of IPv6 whose last 32 bits are an IPv4 address: the public internet's NAT64 (RFC 6052), and others that are
#: never public: NAT64 of a network's own (RFC 8215), translated and compatible addresses (RFC 2765, RFC 4291).
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_IPV4_AT_THE_END: Final = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")))
#: How an interface is named whose last 32 bits are an IPv4 address (ISATAP, RFC 5214), in any network.
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddressError(OSError):
    """A host is, or leads to, an address that a handler must not go to."""

    def __init__(self, host: str, address: str) -> None:
        where = host if host == address else f"{host} ({address})"
        super().__init__(
            f"{where} is no public address; where that is meant, set allow_private in the agent's settings and "
            "SUPERVISOR_ALLOW_PRIVATE_WEBHOOKS=true"
        )


def _meant(address: str) -> list[_Address]:
    """The addresses that packets may reach by this one: IPv4 that IPv6 carries is taken out."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    last = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    carried = last if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
    if carried is not None:
        return [carried]
    # Teredo names a server and a client; zeros in their place name nobody.
    inside: list[_Address] = [ip, *(one for one in ip.teredo or () if not one.is_unspecified)]
    if any(ip in network for network in _IPV4_AT_THE_END) or (int(ip) >> 32) & 0xFFFF_FFFF in _ISATAP:
        inside.append(last)
    return inside


def is_allowed(address: str, *, private: bool) -> bool:
    """Whether a handler may go to ``address``.

    Args:
        private: whether loopback and private networks are allowed too. Link-local addresses and the others where clouds
            keep credentials, multicast and the unspecified address never are.

    Raises:
        ValueError: it is no address.
    """
    meant = _meant(address)
    if any(map(_is_forbidden, meant)):
        return False
    return private or all(map(_is_public, meant))


def check_host(host: str, *, private: bool) -> None:
    """Check the host of a URL where it is an address: the resolver, which checks what names lead to, never sees those.

    Raises:
        ForbiddenAddressError: it is not allowed.
    """
    try:
        # 127.1, 2130706433 and 0177.0.0.1 are addresses too, for whatever connects.
        address = host if ":" in host else socket.inet_ntoa(socket.inet_aton(host))
        allowed = is_allowed(address, private=private)
    except (OSError, ValueError):
        # Of digits alone aiohttp makes no name.
        address, allowed = host, not (":" in host or host.replace(".", "").isdigit())
    if not allowed:
        raise ForbiddenAddressError(host, address)


def _is_forbidden(ip: _Address) -> bool:
    return ip.is_multicast or ip.is_unspecified or ip.is_link_local or any(ip in network for network in _METADATA)


def _is_public(ip: _Address) -> bool:
    special = ip.is_reserved or any(ip in network for network in _SPECIAL)
    return ip.is_global and not special and (ip.version == 4 or ip in _GLOBAL_UNICAST)


class CheckingResolver(AbstractResolver):
    """Resolves names and refuses those with an address that is not allowed.

    The connector connects to what this returns and never resolves again, so that a name cannot change in between.
    Addresses written into the URL do not come by here: check them with :func:`check_host`.
    """

    def __init__(self, *, private: bool, inner: AbstractResolver | None = None) -> None:
        self._private = private
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of ``host``.

        Raises:
            ForbiddenAddressError: one of them is not allowed.
            OSError: it cannot be resolved.
        """
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if not is_allowed(one["host"], private=self._private):
                raise ForbiddenAddressError(host, one["host"])
        return found

    async def close(self) -> None:
        """Let go of the resolver behind it."""
        await self._inner.close()
