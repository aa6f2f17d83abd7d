"""What monitors ask for: whether the supervisor lives, whether it does its work, and its figures."""

from __future__ import annotations

import dataclasses
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from supervisor.admin.answers import json_answer
from supervisor.admin.interface import AdminService
from supervisor.admin.scrape import Scrapes


@dataclasses.dataclass(frozen=True)
class Liveness:
    """Whether the fleet's tasks live, and which do not: only another start brings those back."""

    alive: bool
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Readiness:
    """Whether the supervisor does its work, and what keeps it from it."""

    ready: bool
    problems: tuple[str, ...]


class Health:
    """The answers about one service."""

    def __init__(self, service: AdminService) -> None:
        self._service = service
        self._scrapes = Scrapes(lambda: service.metrics)

    async def livez(self, _request: Request) -> Response:
        """Whether all that the fleet depends on lives."""
        if dead := self._service.dead():
            return json_answer(Liveness(alive=False, problems=dead), HTTPStatus.SERVICE_UNAVAILABLE)
        return json_answer({"alive": True})

    async def readyz(self, _request: Request) -> Response:
        """Whether it does its work."""
        problems = self._service.problems()
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        return json_answer(Readiness(ready=not problems, problems=problems), status)

    async def metrics(self, request: Request) -> Response:
        """All figures, in the form that is asked for."""
        asked = request.headers
        body, headers = await self._scrapes.answer(asked.get("accept", ""), asked.get("accept-encoding", ""))
        return Response(body, headers=headers)
