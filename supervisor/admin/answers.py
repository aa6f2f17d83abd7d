"""What the admin server's routes share: answers in JSON, and what a refused request looks like."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import Response


@dataclasses.dataclass(frozen=True)
class Problem:
    """What every refused request answers."""

    error: str


ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "The token is missing or wrong"},
    403: {"model": Problem, "description": "Not from here"},
}


def json_answer(value: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """``value`` as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")
