"""Fetches a file from a URL that anybody may have written: from public addresses, with no secret, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from .._addresses import CheckingResolver, ForbiddenAddressError, check_host

MAX_REDIRECTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: What a server says that does not know what it has.
UNKNOWN_MEDIA: Final = "application/octet-stream"


class UnfetchedError(Exception):
    """A file could not be had; the text is for the log: it names hosts, and no URL, which may hold a secret."""


class TooLargeError(UnfetchedError):
    """A file is larger than may be."""


@dataclass(frozen=True, slots=True, repr=False)
class Fetched:
    """A file; its media type and charset are what the server says."""

    data: bytes
    media_type: str
    charset: str | None


def host_of(url: str) -> str | None:
    """What of a URL may be logged; None where it has no host, or is none."""
    try:
        return URL(url).host
    except ValueError:
        return None


async def fetch(url: str, *, private: bool, seconds: float, limit_bytes: int) -> Fetched:
    """The file behind a URL, redirects followed.

    Args:
        private: whether it may be at a loopback or private address.

    Raises:
        UnfetchedError: it could not be had within ``seconds``.
        TooLargeError: it is of more than ``limit_bytes``.
    """
    try:
        async with asyncio.timeout(seconds), _session(private) as session:
            return await _followed(session, URL(url), private, limit_bytes)
    except TimeoutError:
        raise UnfetchedError(f"no whole file within {seconds:.3g} s") from None
    except ForbiddenAddressError as error:
        raise UnfetchedError(str(error)) from None
    except aiohttp.ClientError as error:
        cause = getattr(error, "os_error", None)
        raise UnfetchedError(str(cause) if isinstance(cause, OSError) else type(error).__name__) from None
    except ValueError:
        raise UnfetchedError("its URL is none that can be asked") from None


@asynccontextmanager
async def _session(private: bool) -> AsyncGenerator[aiohttp.ClientSession, None]:
    """A session for one file: no cookies, no proxy, no name remembered."""
    connector = aiohttp.TCPConnector(use_dns_cache=False, resolver=CheckingResolver(private=private))
    # Compressed, a file could be a thousand times what comes over the wire.
    headers = {"Accept-Encoding": "identity", "User-Agent": "aiwm-supervisor"}
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, headers=headers
    ) as session:
        yield session


async def _followed(session: aiohttp.ClientSession, url: URL, private: bool, limit_bytes: int) -> Fetched:
    for _ in range(MAX_REDIRECTS + 1):
        if url.scheme not in ("https", "http") or not url.host:
            raise UnfetchedError("its URL is none that can be asked")
        check_host(url.host, private=private)
        async with session.get(url, allow_redirects=False) as response:
            if response.status not in _REDIRECTS:
                return await _file(response, limit_bytes)
            url = url.join(URL(response.headers.get("Location", "")))
    raise UnfetchedError(f"more than {MAX_REDIRECTS} redirects")


async def _file(response: aiohttp.ClientResponse, limit_bytes: int) -> Fetched:
    host = response.url.host
    if response.status != 200:
        raise UnfetchedError(f"{host} answered {response.status}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise UnfetchedError(f"{host} compresses it")
    data = bytearray()
    # What the server says of the size is not read: it may be a lie in either direction.
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit_bytes:
            raise TooLargeError(f"{host} sends more than {limit_bytes} bytes")
    return Fetched(bytes(data), response.content_type, response.charset)
