"""Requests to the platform's HTTP API."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from supervisor.core.backoff import TokenBucket
from supervisor.core.clock import Clock
from supervisor.core.errors import PlatformError, SupervisorError, TokenError, Verdict
from supervisor.net import trouble as network
from supervisor.platform.tokens.answers import Answer, read_connect, read_history, unreachable
from supervisor.platform.tokens.grants import Grant, make_grant

T = TypeVar("T")

_ANSWER_BYTES: Final = 1024 * 1024
#: A page of history holds up to a hundred messages of up to 1 MB; more than this is not worth its memory.
_HISTORY_BYTES: Final = 16 * 1024 * 1024
_HISTORY_AT_ONCE: Final = 10
#: How long a request may wait for its pass before it counts as failed; a bucket is that slow only by its settings.
_LONGEST_WAIT_SECONDS: Final = 120.0
_OUTCOMES: Final = {Verdict.REJECT: "rejected", Verdict.FAULT: "fault"}
_JSON: Final = {"Content-Type": "application/json", "Accept": "application/json"}


class JobPool(Protocol):
    """What bounds the token requests that are under way: a :class:`supervisor.platform.pool.BoundedPool`."""

    async def run(self, job: Callable[[], Awaitable[T]], *, timeout: float) -> T:
        """Run ``job`` when there is a place for it, for at most ``timeout`` seconds."""
        ...


class TokenClient:
    """Asks the platform for tokens, a bounded number at once and a second (a request costs it a bcrypt check).

    Args:
        session: the shared HTTP session.
        clock: wall time for a token's life.
        pool_for: gives the pool that bounds how many token requests to a host are under way; each host has its own, so
            that one that hangs holds up no other.
        bucket_for: gives the bucket that a host's token requests pass.
        timeout_seconds: how long one request may take, its answer included.
        refresh_margin_seconds: how long before its end a token is renewed.
        uniform: draws between two bounds; tests give their own.
        on_outcome: told how each request ended: ``ok``, ``rejected``, ``retry`` or ``fault``.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        clock: Clock,
        pool_for: Callable[[str], JobPool],
        bucket_for: Callable[[str], TokenBucket],
        timeout_seconds: float = 15.0,
        refresh_margin_seconds: float = 300.0,
        uniform: Callable[[float, float], float] = random.uniform,
        on_outcome: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        self._session = session
        self._clock = clock
        self._pool_for = pool_for
        self._bucket_for = bucket_for
        self._timeout = timeout_seconds
        self._margin = refresh_margin_seconds
        self._uniform = uniform
        self._on_outcome = on_outcome
        # For each host, so that one that hangs holds up no other.
        self._history_places: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_HISTORY_AT_ONCE)
        )

    async def fetch(self, agent_id: str, api_url: str, secret: str, *, proxy: str | None = None) -> Grant:
        """Ask for a token.

        Args:
            agent_id: the agent's id.
            api_url: the platform's API, such as ``https://api.x-or.cloud/dev/aiwm``.
            secret: the agent's secret; it goes nowhere but into the request's body.
            proxy: an HTTP proxy's URL; it may hold a user and a password.

        Raises:
            TokenError: with the verdict of PROTOCOL §1; neither secret nor token is in its reason.
        """
        failure: TokenError | None = None
        try:
            grant = await self._fetch(agent_id, api_url, secret, proxy)
        except TokenError as error:
            failure = TokenError(
                network.without(error.reason, secret), error.verdict, retry_after_seconds=error.retry_after_seconds
            )
        if failure is not None:
            self._on_outcome(_OUTCOMES.get(failure.verdict, "retry"))
            raise failure
        self._on_outcome("ok")
        return grant

    async def _fetch(self, agent_id: str, api_url: str, secret: str, proxy: str | None) -> Grant:
        url = _api(api_url, "agents", agent_id, "connect")
        host = url.host or ""
        if not secret:
            raise TokenError("the agent's secret is empty", Verdict.FAULT)
        try:
            body = msgspec.json.encode({"secret": secret})
        except UnicodeEncodeError:
            raise TokenError("the agent's secret is not text", Verdict.FAULT) from None

        async def request() -> tuple[Answer, float]:
            # The pass comes last: what waits for a place of the pool must not save up passes for a burst.
            await self._bucket_for(host).acquire()
            asked_at = self._clock.now()
            return await self._request("POST", url, _ANSWER_BYTES, proxy, data=body, headers=_JSON), asked_at

        try:
            # A token's life begins before its answer is here: counted from then it would be used after its end.
            answer, asked_at = await self._pool_for(host).run(request, timeout=self._timeout + _LONGEST_WAIT_SECONDS)
        except TimeoutError:
            raise TokenError(f"no turn for a token request to {host} within {_LONGEST_WAIT_SECONDS:g} s") from None
        except SupervisorError as error:
            # The pool is closed, because the supervisor stops.
            raise error if isinstance(error, TokenError) else TokenError(str(error)) from None
        return make_grant(read_connect(answer, agent_id), asked_at, self._margin, self._uniform)

    async def history(
        self,
        api_url: str,
        token: str,
        conversation_id: str,
        *,
        page: int,
        limit: int,
        collection: str = "messages",
        proxy: str | None = None,
    ) -> Any:
        """Ask for a page of a conversation's history (PROTOCOL §1: page 1 is the oldest).

        Args:
            api_url: the platform's API.
            token: an access token of the agent.
            conversation_id: whose history.
            page: from 1.
            limit: rows on a page.
            collection: ``messages``, or ``actions`` for v2's rows.
            proxy: an HTTP proxy's URL; it may hold a user and a password.

        Returns:
            The parsed answer; None where the platform has no such endpoint (404).

        Raises:
            PlatformError: anything else; the token never occurs in its reason.
        """
        url = _api(api_url, collection, "conversation", conversation_id).with_query(page=page, limit=limit)
        failure: PlatformError | None = None
        parsed: Any = None
        try:
            async with self._history_places[url.host or ""]:
                headers = {"Authorization": f"Bearer {token}"}
                answer = await self._request("GET", url, _HISTORY_BYTES, proxy, headers=headers)
            if answer.status != 404:
                parsed = read_history(answer)
        except PlatformError as error:
            failure = PlatformError(
                network.without(error.reason, token), error.verdict, retry_after_seconds=error.retry_after_seconds
            )
        if failure is not None:
            raise failure
        return parsed

    async def _request(self, method: str, url: URL, limit: int, proxy: str | None, **options: Any) -> Answer:
        """Make one request within the time-out and read its answer up to ``limit`` bytes."""
        host = url.host or ""
        failure: TokenError | None = None
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._session.request(method, url, allow_redirects=False, proxy=proxy, **options) as response,
            ):
                body = await _read_body(response, limit)
                # The headers of the response hold cookies and more: only what is read later is kept.
                kept = {
                    name: response.headers[name] for name in ("Retry-After", "Location") if name in response.headers
                }
                return Answer(host, response.status, kept, body, self._clock.now())
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = unreachable(error, host, proxy=proxy, timeout=self._timeout)
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


def _api(api_url: str, *parts: str) -> URL:
    """The URL of an endpoint; each part is one path segment, whatever is in it.

    Raises:
        TokenError: API_URL is no http(s) URL, or a part would lead elsewhere.
    """
    if any(part in ("", ".", "..") for part in parts):
        raise TokenError("the id is malformed", Verdict.REJECT)
    try:
        base = URL(api_url)
        if base.scheme in ("http", "https") and base.host:
            path = "/".join(quote(part.encode("utf-8", "replace"), safe="") for part in parts)
            return URL(f"{str(base.with_query(None).with_fragment(None)).rstrip('/')}/{path}", encoded=True)
    except ValueError:
        pass
    raise TokenError("API_URL must be an http:// or https:// URL", Verdict.FAULT)
