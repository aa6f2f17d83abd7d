"""What the admin server's routes share: answers in JSON, and what a refused request looks like."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from supervisor.telemetry.logs import get_logger

_log = get_logger(__name__)
_PROBLEM: Final = "#/components/schemas/Problem"


@dataclasses.dataclass(frozen=True)
class Problem:
    """What every refused request answers."""

    error: str


def refused(description: str) -> dict[str, Any]:
    """How the description of the API names an answer with a :class:`Problem`.

    It refers to the schema, which one route declares as its model: FastAPI would make it anew for every answer.
    """
    return {"description": description, "content": {"application/json": {"schema": {"$ref": _PROBLEM}}}}


ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: refused("The token is missing or wrong"),
    403: refused("Not from here"),
}
#: For the one route that declares the schema.
DECLARING_ERRORS: Final = ERRORS | {401: {"model": Problem, "description": ERRORS[401]["description"]}}


def json_answer(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """``value`` as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def internal_error(request: Request, error: Exception) -> Response:
    """What a defect of ours is answered with; the log says more."""
    _log.error("admin request failed", path=request.url.path, exc_info=error)
    return json_answer(Problem("internal error; see the log"), HTTPStatus.INTERNAL_SERVER_ERROR)
