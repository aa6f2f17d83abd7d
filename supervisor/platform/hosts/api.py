"""Requests to the platform's HTTP API: each bounded in time and size, its trouble in words."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from yarl import URL

from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError, Verdict
from supervisor.net import describe_error, one_line, proxy_answered, retry_after
from supervisor.protocol.decoding import UnreadableError, decode_json

#: The statuses of a platform that has no such endpoint.
ABSENT: Final = (404, 405, 410)
#: Headers of an answer that somebody reads.
_KEPT: Final = ("Retry-After", "Date", "Location")
#: How the platform says that it does not know an agent.
_UNKNOWN_AGENT: Final = re.compile(r"Agent (with ID .* )?not found")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read; the body is None when it was too large."""

    host: str
    status: int
    headers: Mapping[str, str]
    body: bytes | None = field(repr=False)
    now: float

    def json(self) -> Any:
        """The body as JSON; None for anything else, which no endpoint of the platform answers."""
        try:
            return decode_json(self.body or b"")
        except UnreadableError:
            return None

    @property
    def message(self) -> str:
        """The ``message`` of the platform's error body, and its ``errors``, in one line; empty for anything else."""
        payload = self.json()
        if not isinstance(payload, dict) or not isinstance(payload.get("message"), str):
            return ""
        errors = payload.get("errors")
        details = [error for error in errors if isinstance(error, str)] if isinstance(errors, list) else []
        return one_line(": ".join([payload["message"], *([", ".join(details)] if details else [])]))

    @property
    def knows_no_agent(self) -> bool:
        """Whether the platform says that there is no such agent."""
        return unknown_agent(self.message)

    @property
    def no_endpoint(self) -> bool:
        """Whether no endpoint answered, rather than one that does not know the agent (docs/protocol.md#87-tokens)."""
        return self.status in ABSENT and not self.knows_no_agent

    def retry_after(self) -> float | None:
        """Seconds that ``Retry-After`` asks for; None without one."""
        return retry_after(self.headers, self.now)


def unknown_agent(said: str) -> bool:
    """Whether the platform's words mean that it does not know the agent (docs/protocol.md#1-tokens)."""
    return bool(_UNKNOWN_AGENT.match(said))


class PlatformApi:
    """Makes requests to the platform, for all agents.

    Args:
        session: the shared HTTP session.
        clock: wall time, for a ``Retry-After`` that is a date.
        timeout_seconds: how long one request may take, its answer included.
    """

    def __init__(self, session: aiohttp.ClientSession, clock: Clock, *, timeout_seconds: float = 15.0) -> None:
        self.timeout_seconds = timeout_seconds
        self._session = session
        self._clock = clock

    async def request(self, method: str, url: URL, *, limit_bytes: int, proxy: str | None, **options: Any) -> Answer:
        """Make one request and read its answer.

        Args:
            method: the HTTP method.
            url: from :func:`endpoint_url`.
            limit_bytes: how much of an answer is read; the body of a larger one is None.
            proxy: an HTTP proxy's URL; it may hold a user and a password.
            options: what else aiohttp's ``request`` is to get, such as ``headers``.

        Raises:
            PlatformError: there was no answer.
        """
        host = url.host or ""
        failure: PlatformError | None = None
        try:
            async with (
                asyncio.timeout(self.timeout_seconds),
                self._session.request(method, url, allow_redirects=False, proxy=proxy, **options) as response,
            ):
                body = await _read_body(response, limit_bytes)
                # The headers of the response hold cookies and more: only what is read later is kept.
                kept = {name: response.headers[name] for name in _KEPT if name in response.headers}
                return Answer(host, response.status, kept, body, self._clock.now())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _unreachable(error, host, proxy=proxy, timeout=self.timeout_seconds)
        # Outside the except block: aiohttp's errors hold the request with its headers.
        raise failure


async def _read_body(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limit:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _unreachable(error: Exception, host: str, *, proxy: str | None, timeout: float) -> PlatformError:
    """Why a request got no answer."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return PlatformError(proxy_answered(error.status, host))
    return PlatformError(
        describe_error(error, host, otherwise="broke off the answer", proxy=proxy, timeout_seconds=timeout)
    )


def endpoint_url(api_url: str, *parts: str) -> URL:
    """The URL of an endpoint; each part is one path segment, whatever is in it.

    Raises:
        PlatformError: API_URL is no http(s) URL, or a part would lead elsewhere.
    """
    if any(part in ("", ".", "..") for part in parts):
        raise PlatformError("the id is malformed", Verdict.REJECT)
    path = "/".join(quote(part.encode("utf-8", "replace"), safe="") for part in parts)
    try:
        if base := _base(api_url):
            return URL(f"{base}/{path}", encoded=True)
    except ValueError:
        pass
    raise PlatformError("API_URL must be an http:// or https:// URL", Verdict.FAULT)


@lru_cache(maxsize=64)
def _base(api_url: str) -> str:
    """What every endpoint's URL begins with; empty where there can be none. A fleet has one API or a few."""
    url = URL(api_url)
    if url.scheme not in ("http", "https") or not url.host:
        return ""
    return str(url.with_query(None).with_fragment(None)).rstrip("/")
