"""What the admin server's routes share: answers in JSON, and what a refused request looks like."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, Response

from supervisor.admin.access import Access, access_of

#: A parameter of a route: what the one who asks may do.
Given = Annotated[Access, Depends(access_of)]
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
