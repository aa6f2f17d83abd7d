"""How the platform reads requests and tells failures."""

import json
import urllib.parse
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from supervisor.sandbox.world.faults import LicenceExpired
from supervisor.sandbox.world.ids import timestamp
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.tokens import Identity, InvalidTokenError


class PlatformError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, *, errors: list[str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.errors = errors


def error_answer(
    path: str,
    status: int,
    message: str,
    *,
    errors: list[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The platform's error body; ``path`` is the one the platform sees, without a proxy's prefix."""
    body: dict[str, Any] = {
        "statusCode": status,
        "message": message,
        "timestamp": timestamp(),
        "path": path,
        "correlationId": str(uuid.uuid4()),
    }
    if errors is not None:
        body["errors"] = errors
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


class Failures:
    """Turns exceptions into the platform's answers."""

    def __init__(self, rest_prefix: str) -> None:
        self._prefix = rest_prefix

    def _path(self, request: Request) -> str:
        """The request's path and query as the platform sees it, behind the proxy that strips the prefix."""
        path = request.url.path.removeprefix(self._prefix)
        return f"{path}?{request.url.query}" if request.url.query else path

    async def refused(self, request: Request, error: Exception) -> Response:
        """A refusal."""
        if not isinstance(error, PlatformError):
            return error_answer(self._path(request), 500, "Internal server error")
        return error_answer(self._path(request), error.status, str(error), errors=error.errors)

    async def not_found(self, request: Request, error: Exception) -> Response:
        """Unknown routes, an engine path that is not there included."""
        status = getattr(error, "status_code", 404)
        path = self._path(request)
        message = f"Cannot {request.method} {path}" if status in (404, 405) else str(getattr(error, "detail", error))
        return error_answer(path, 404 if status == 405 else status, message)


async def json_object(request: Request) -> Mapping[str, Any]:
    """The body; form-encoded ones are taken too.

    Raises:
        PlatformError: It is not JSON.
    """
    raw = await request.body()
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(urllib.parse.parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    try:
        body = json.loads(raw) if raw else {}
    except ValueError as error:
        raise PlatformError(400, f"Bad JSON: {error}") from error
    return body if isinstance(body, Mapping) else {}


def authenticate(shared: Shared, request: Request) -> Identity:
    """Whose bearer token a request carries; ``x-api-key`` and its like are not read.

    Raises:
        PlatformError: Nobody's.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() == "bearer":
            return shared.tokens.verify(token)
    except InvalidTokenError:
        pass
    raise PlatformError(401, "Unauthorized")


def refuse_unlicensed(shared: Shared) -> None:
    """v3: REST writes, but for the agents' own upkeep, fail when the platform's licence has run out.

    Raises:
        PlatformError: 402.
    """
    if shared.faults.strike(LicenceExpired) is not None:
        raise PlatformError(402, "Payment Required")
