"""Which addresses a webhook may go to: by default the public ones only, whatever its name resolves to at the moment."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
#: Where clouds keep the machine's credentials, outside the link-local range.
_METADATA: Final = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddressError(OSError):
    """A name leads to an address that the webhook must not go to."""

    def __init__(self, host: str, address: str) -> None:
        where = host if host == address else f"{host} ({address})"
        super().__init__(
            f"{where} is no public address; where that is meant, set allow_private in the agent's settings and "
            "SUPERVISOR_ALLOW_PRIVATE_WEBHOOKS=true"
        )


def _meant(address: str) -> _Address:
    """The address that packets go to in the end: IPv4 inside IPv6 (mapped, 6to4, NAT64) is taken out."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        return ip.ipv4_mapped or ip.sixtofour or ip
    return ip


def is_allowed(address: str, *, private: bool) -> bool:
    """Whether a webhook may go to ``address``.

    Args:
        private: whether loopback and private networks are allowed too. Link-local addresses and the others where clouds
            keep credentials, multicast and the unspecified address never are.
    """
    ip = _meant(address)
    if ip.is_multicast or ip.is_unspecified or ip.is_link_local or ip in _METADATA:
        return False
    if private:
        return True
    return ip.is_global and not ip.is_reserved and (ip.version == 4 or ip in _GLOBAL_UNICAST)


class CheckingResolver(AbstractResolver):
    """Resolves names and refuses those with an address that is not allowed.

    The connector connects to what this returns and never resolves again, so that a name cannot change in between.
    Addresses written into the URL do not come by here: check them with :func:`is_allowed`.
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
