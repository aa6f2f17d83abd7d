"""Sends each message to a URL as signed JSON; what comes back is the reply.

Settings of the agent:

* ``url``: https; http only where private addresses are allowed
* ``signing_secret``: a reference (``env:NAME``, ``file:/path``) to what requests are signed with
* ``request_seconds`` (60): how long one request may take, its whole answer included; never past the message's time-out
* ``retries`` (2): how often an attempt asks again before the supervisor's own attempts (``max_attempts``) go on
* ``history`` (0): how many earlier messages go along
* ``allow_private`` (false): also loopback and private networks; needs SUPERVISOR_ALLOW_PRIVATE_WEBHOOKS

The request is a POST of the object that `_exchange` describes, with these headers:

* ``X-Supervisor-Timestamp``: seconds since the epoch; refuse what is older than a few minutes
* ``X-Supervisor-Signature``: ``v1=`` and the hexadecimal HMAC-SHA256 of ``<timestamp>.<body>``
* ``Idempotency-Key``: the same however often a message is tried, another when a person replays it
* ``traceparent``: the message's trace (W3C), where the supervisor writes traces

The answer: 204 for nothing; ``application/json`` with the parts that `_exchange` describes; ``text/plain``; or parts
as they come in ``application/x-ndjson`` or ``text/event-stream``; in UTF-8, or in the charset that is named or that a
byte order mark tells. Time-outs, lost connections and the statuses 408,
425, 429 and 5xx are tried again, after Retry-After where it is given and there is time; any other is final.
"""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import hmac
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from supervisor.handler import AgentContext, ConfigurationError, Context, Handler, Message, Part, Permanent

from ._addresses import CheckingResolver, ForbiddenAddressError, check_host
from ._exchange import (
    MAX_HISTORY,
    MAX_PART_BYTES,
    CutOffError,
    InvalidAnswerError,
    StreamedParts,
    parts_of,
    question,
    text_of,
)

#: All that a row may set of it: a slip for one of these is refused by commands.
SETTINGS: Final = {
    "url": {"type": "string", "description": "https; http only where private addresses are allowed."},
    "signing_secret": {
        "type": "string",
        "format": "password",
        "description": "A reference (env:NAME, file:/path) to what requests are signed with.",
    },
    "request_seconds": {"type": "number", "description": "60: how long one request may take."},
    "retries": {"type": "integer", "description": "2: how often an attempt asks again."},
    "history": {"type": "integer", "description": "0: how many earlier messages go along."},
    "allow_private": {
        "type": "boolean",
        "description": "Also loopback and private networks; needs SUPERVISOR_ALLOW_PRIVATE_WEBHOOKS.",
    },
}
CONNECT_SECONDS: Final = 10.0
#: Left of the message's time for the supervisor to send what came; a time-out of its own would be final.
MARGIN_SECONDS: Final = 1.0
FIRST_PAUSE_SECONDS: Final = 0.5
PAUSE_CAP_SECONDS: Final = 30.0
_TRANSIENT: Final = frozenset({408, 425, 429})
_STREAMS: Final = {
    "application/x-ndjson": False,
    "application/jsonl": False,
    "application/x-jsonlines": False,
    "text/event-stream": True,
}


class UnansweredError(Exception):
    """The webhook gave no answer this time; ``retry_after_seconds`` is how long it asked us to wait."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one agent; what else there is belongs to others."""

    url: str
    signing_secret: str
    request_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    retries: Annotated[int, msgspec.Meta(ge=0, le=20)] = 2
    history: Annotated[int, msgspec.Meta(ge=0, le=MAX_HISTORY)] = 0
    allow_private: bool = False

    @property
    def host(self) -> str:
        """The host of ``url``: errors name it and never the URL, which may hold a password."""
        return URL(self.url).host or ""


def read_options(ctx: AgentContext) -> Options:
    """The settings, checked.

    Raises:
        ConfigurationError: one is missing, wrong, or beyond what the deployment allows; says which.
    """
    try:
        options = msgspec.convert(dict(ctx.own_settings), Options)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"settings of webhook: {error}") from None
    if options.allow_private and not ctx.permits("private_webhooks"):
        raise ConfigurationError(
            "settings: allow_private: this deployment does not allow it; set SUPERVISOR_ALLOW_PRIVATE_WEBHOOKS=true"
        )
    try:
        _check_url(options)
    except (ValueError, ForbiddenAddressError) as error:
        raise ConfigurationError(f"settings: url: {error}") from None
    ctx.secret(options.signing_secret)
    return options


def _check_url(options: Options) -> None:
    """Check the URL, and an address that is written into it: no resolver sees that.

    Raises:
        ValueError: it is none that can be asked.
        ForbiddenAddressError: its address is not allowed.
    """
    url = URL(options.url)
    schemes = ("https", "http") if options.allow_private else ("https",)
    if url.scheme not in schemes or not url.host:
        raise ValueError(f"it must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    check_host(url.host, private=options.allow_private)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of ``X-Supervisor-Signature``."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


class Webhook(Handler):
    """One agent's webhook.

    Args:
        resolver: looks names up; what it finds is checked.
    """

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver
        self._options: Options | None = None
        self._session: aiohttp.ClientSession | None = None

    async def on_start(self, ctx: AgentContext) -> None:
        """Check the settings and open the session: no cookies, no proxy, no name remembered."""
        self._options = options = read_options(ctx)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                use_dns_cache=False,
                resolver=CheckingResolver(private=options.allow_private, inner=self._resolver),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            # Compressed, an answer could be a thousand times what comes over the wire.
            headers={"Accept-Encoding": "identity", "User-Agent": "aiwm-supervisor"},
        )

    async def on_stop(self, ctx: AgentContext) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def on_message(self, message: Message, ctx: Context) -> AsyncGenerator[Part, None]:
        """Ask the webhook, again where that may help, and pass on what it answers."""
        assert self._options is not None  # noqa: S101  on_start comes first
        body = await question(message, ctx, self._options.history)
        for retry in range(self._options.retries + 1):
            began = False
            try:
                async with aclosing(self._ask(body, ctx, self._options)) as parts:
                    async for part in parts:
                        began = True
                        yield part
                return
            except UnansweredError as error:
                pause = error.retry_after_seconds
                if pause is None:
                    pause = random.uniform(0, min(FIRST_PAUSE_SECONDS * 2.0**retry, PAUSE_CAP_SECONDS))  # noqa: S311
                # What the person has seen must not be said twice; and what cannot be in time is left to the supervisor.
                if began or retry == self._options.retries or pause >= _seconds_left(ctx):
                    raise
                ctx.log.info("webhook_again", reason=str(error), pause_seconds=round(pause, 3))
            await asyncio.sleep(pause)

    async def _ask(self, body: bytes, ctx: Context, options: Options) -> AsyncGenerator[Part, None]:
        """One request.

        Raises:
            UnansweredError: it failed in a way that may pass.
            Permanent: it failed for good.
        """
        assert self._session is not None  # noqa: S101  on_start comes first
        seconds = min(options.request_seconds, _seconds_left(ctx))
        if seconds <= 0:
            raise UnansweredError(f"no time is left to ask {options.host}")
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.post(
                options.url, data=body, headers=_headers(body, ctx, options), timeout=timeout, allow_redirects=False
            ) as response:
                _check_status(response, options.host)
                async with aclosing(_parts(response, options.host)) as parts:
                    async for part in parts:
                        yield part
        except TimeoutError:
            raise UnansweredError(f"{options.host} took longer than {seconds:.3g} s") from None
        except CutOffError as error:
            raise UnansweredError(f"{options.host}: {error}") from None
        except aiohttp.InvalidURL:
            raise Permanent("settings: url is no address that can be asked") from None
        except aiohttp.ClientError as error:
            if isinstance(cause := getattr(error, "os_error", None), ForbiddenAddressError):
                raise Permanent(str(cause)) from None
            detail = str(cause.strerror or cause) if isinstance(cause, OSError) else type(error).__name__
            raise UnansweredError(f"the connection to {options.host} failed: {detail}") from None


def _seconds_left(ctx: Context) -> float:
    return ctx.deadline - time.time() - MARGIN_SECONDS


def _headers(body: bytes, ctx: Context, options: Options) -> Mapping[str, str]:
    timestamp = str(int(time.time()))
    return {
        "Content-Type": "application/json",
        "Accept": "application/json, application/x-ndjson, text/event-stream, text/plain",
        "X-Supervisor-Timestamp": timestamp,
        # Asked for each time: a secret that was rotated is used at once.
        "X-Supervisor-Signature": sign(ctx.secret(options.signing_secret), timestamp, body),
        "Idempotency-Key": ctx.idempotency_key,
        **ctx.trace_headers(),
    }


def _check_status(response: aiohttp.ClientResponse, host: str) -> None:
    """Raises UnansweredError or Permanent unless the request was taken."""
    status = response.status
    if 200 <= status < 300:
        return
    if status in _TRANSIENT or status >= 500:
        raise UnansweredError(f"{host} answered {status}", _retry_after(response.headers))
    if 300 <= status < 400:
        raise Permanent(f"{host} answered {status}, a redirect; those are not followed: set url to where it leads")
    advice = ": does it check the signature with the same secret?" if status in (401, 403) else ""
    raise Permanent(f"{host} answered {status}{advice}")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for, given as seconds or as a date; None without one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        # By the clock that wrote it, where that is told.
        now = email.utils.parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


async def _parts(response: aiohttp.ClientResponse, host: str) -> AsyncGenerator[Part, None]:
    """The answer, as it comes where it is a stream."""
    if response.status == 204:
        return
    encoding, kind = response.headers.get("Content-Encoding", "identity"), response.content_type
    if encoding != "identity":
        raise InvalidAnswerError(f"{host} answered with Content-Encoding {encoding}; send it as it is")
    if kind in _STREAMS:
        stream = StreamedParts(host, events=_STREAMS[kind], charset=response.charset)
        async with aclosing(_streamed(response, stream)) as parts:
            async for part in parts:
                yield part
    elif kind == "application/json":
        for part in parts_of(await _whole(response, host), response.charset):
            yield part
    elif kind == "text/plain":
        if text := text_of(await _whole(response, host), response.charset):
            yield text
    else:
        raise InvalidAnswerError(
            f"{host} answered with {response.headers.get('Content-Type', 'no Content-Type')!r}; "
            "use application/json, text/plain, application/x-ndjson or text/event-stream"
        )


async def _streamed(response: aiohttp.ClientResponse, stream: StreamedParts) -> AsyncGenerator[Part, None]:
    async for chunk in response.content.iter_any():
        for part in stream.feed(chunk):
            yield part
        if stream.done:
            return
    for part in stream.end():
        yield part


async def _whole(response: aiohttp.ClientResponse, host: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_PART_BYTES:
            raise InvalidAnswerError(f"{host} answered with more than {MAX_PART_BYTES} bytes")
    return bytes(body)
