"""Who may ask the admin server what: tokens, browsers' tricks, sizes, and headers that keep browsers strict."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.admin.access import SESSION_PATH, Access, Tokens, note_access, session_cookie
from supervisor.core.actors import Actor, acting_as
from supervisor.peers.gate import is_signed, replay
from supervisor.settings import LOOPBACK, Settings

MAX_BODY_BYTES: Final = 1 << 20
#: What is held of bodies that are not in yet, of all requests together.
BODIES_BYTES: Final = 16 << 20
_BODY_SECONDS: Final = 10.0
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = tuple(
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": _CSP,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }.items()
)


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, error: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = headers


class Guard:
    """ASGI middleware before everything else.

    With a token, the API and the console ask for it. Without one only this machine may ask, so a page from elsewhere
    that the operator's browser shows must not: the name in ``Host`` (DNS rebinding) or its origin gives it away.

    Args:
        app: what is guarded.
        settings: where we listen, and the tokens.
        public_page: the console's HTML; a browser that has no token yet gets it with the 401 and asks for one.
    """

    def __init__(self, app: ASGIApp, settings: Settings, public_page: bytes) -> None:
        self._app = app
        self._page = public_page
        self._tokens = Tokens(settings)
        self._metrics_token = _token(settings.metrics_token)
        self._held_bytes = 0
        self._local_only = not self._tokens.asked_for and settings.admin_host in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        strict = _with_headers(send)
        try:
            headers = _headers(scope["headers"])
            self._check_browser(scope["method"], headers)
            self._check_token(scope, headers)
            body = await self._read_body(headers, receive)
        except _RefusedError as refused:
            await self._refuse(refused, scope, strict)
            return
        with acting_as(_actor(scope, headers)):
            await self._app(scope, replay(body, receive), strict)

    def _check_browser(self, method: str, headers: dict[bytes, bytes]) -> None:
        if not self._local_only:
            return
        host = headers.get(b"host", b"")
        if _split(host).hostname not in LOOPBACK:
            raise _RefusedError(
                HTTPStatus.FORBIDDEN,
                "Without SUPERVISOR_ADMIN_TOKEN only requests to localhost are answered; set one to use another name",
            )
        if method not in _SAFE_METHODS:
            _refuse_foreign(headers)

    def _check_token(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        path: str = scope["path"]
        if path == "/metrics":
            given = _bearer(headers)
            if self._metrics_token is not None and not hmac.compare_digest(given, self._metrics_token):
                raise _unauthorised("SUPERVISOR_METRICS_TOKEN")
        elif path in {"/", "/api"} or path.startswith("/api/"):
            note_access(scope, Access.FULL if is_signed(scope) else self._access(scope["method"], headers))
        elif path == SESSION_PATH and scope["method"] not in _SAFE_METHODS:
            _refuse_foreign(headers)

    def _access(self, method: str, headers: dict[bytes, bytes]) -> Access:
        """What a request may do, by its token or, from the console, by its cookie."""
        if not self._tokens.asked_for:
            return Access.FULL
        access = self._tokens.of_token(_bearer(headers))
        if access is None:
            access = self._tokens.of_cookie(session_cookie(headers), time.time())
            if access is not None and method not in _SAFE_METHODS:
                # A browser sends the cookie by itself, for pages of other ports of this host too.
                _refuse_foreign(headers, strictly=True)
        if access is None:
            raise _unauthorised("SUPERVISOR_ADMIN_TOKEN")
        if access is Access.READ and method not in _SAFE_METHODS:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "This token reads only; changes need SUPERVISOR_ADMIN_TOKEN")
        return access

    async def _read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        if b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0":
            return b""
        too_large = _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body may have {MAX_BODY_BYTES:,} bytes")
        if int(headers.get(b"content-length", b"0")) > MAX_BODY_BYTES:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    piece = message.get("body", b"")
                    body += piece
                    self._held_bytes += len(piece)
                    if len(body) > MAX_BODY_BYTES:
                        raise too_large
                    if self._held_bytes > BODIES_BYTES:
                        raise _RefusedError(
                            HTTPStatus.SERVICE_UNAVAILABLE, "Too many bodies are under way", (b"retry-after", b"10")
                        )
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, "The body did not come in time") from None
        finally:
            self._held_bytes -= len(body)

    async def _refuse(self, refused: _RefusedError, scope: Scope, send: Send) -> None:
        body, kind = json.dumps({"error": refused.error}).encode(), b"application/json"
        if scope["path"] == "/" and refused.status is HTTPStatus.UNAUTHORIZED and scope["method"] in _SAFE_METHODS:
            body, kind = self._page, b"text/html; charset=utf-8"
        headers = [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            # The connection ends: the unread rest of a body would be taken for the next request.
            (b"connection", b"close"),
            *refused.headers,
        ]
        await send({"type": "http.response.start", "status": refused.status.value, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _refuse_foreign(headers: dict[bytes, bytes], *, strictly: bool = False) -> None:
    """Refuse what a page of another origin had a browser send.

    Args:
        strictly: refuse what does not tell its origin too; browsers tell it with whatever changes something.

    Raises:
        _RefusedError: it is such a request.
    """
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
    if site == b"same-origin" and strictly:
        # Said by the browser itself; a proxy may have given the Host another name.
        return
    own = headers.get(b"host", b"")
    foreign = origin is not None and _split(origin.partition(b"://")[2]).netloc.encode("latin-1") != own
    if foreign or (site or b"none") not in (b"none", b"same-origin") or (strictly and origin is None):
        raise _RefusedError(HTTPStatus.FORBIDDEN, "Requests from other sites' pages are refused")


def _bearer(headers: dict[bytes, bytes]) -> bytes:
    """The token of a request; empty without one."""
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    return given.strip() if scheme.lower() == b"bearer" else b""


def _unauthorised(name: str) -> _RefusedError:
    return _RefusedError(
        HTTPStatus.UNAUTHORIZED,
        f"Send the header Authorization: Bearer <{name}>",
        (b"www-authenticate", b"Bearer"),
    )


def _actor(scope: Scope, headers: dict[bytes, bytes]) -> Actor:
    """Who asks, as the history of agents tells it: by which token, and from where."""
    access = scope.get("state", {}).get("access")
    client = scope.get("client")
    return Actor(
        "api", f"{access or 'no'} access by {_shown_by(scope, headers)} from {client[0] if client else 'a socket'}"
    )


def _shown_by(scope: Scope, headers: dict[bytes, bytes]) -> str:
    """What somebody showed of who asks."""
    if is_signed(scope):
        return "signature"
    if headers.get(b"authorization"):
        return "token"
    return "cookie" if session_cookie(headers) else "nothing"


def _token(secret: SecretStr | None) -> bytes | None:
    return secret.get_secret_value().encode() or None if secret else None


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in raw}


def _split(host: bytes) -> SplitResult:
    """A Host header, or an origin without its scheme, in parts; empty when it is malformed."""
    try:
        return urlsplit("//" + host.decode("latin-1"))
    except ValueError:
        return urlsplit("")


def _with_headers(send: Send) -> Send:
    async def strict(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return strict
