"""The routes: thin, over :class:`supervisor.admin.interface.AdminService`; bad input never is a 500."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from supervisor import __version__
from supervisor.admin.access import Tokens
from supervisor.admin.agents import add_agents
from supervisor.admin.answers import DECLARING_ERRORS, Problem, internal_error, json_answer
from supervisor.admin.board import add_board
from supervisor.admin.bulk import add_bulk
from supervisor.admin.events import Places, add_events
from supervisor.admin.health import Health, Liveness, Readiness
from supervisor.admin.history import add_history
from supervisor.admin.insight import add_insight
from supervisor.admin.interface import AdminService
from supervisor.admin.messages import add_messages
from supervisor.admin.replicas import add_replicas
from supervisor.admin.session import add_session
from supervisor.core.errors import (
    AgentExistsError,
    AgentNotFoundError,
    ConfigurationError,
    MessageNotFoundError,
    MessageStateError,
    ReplicaError,
    SupervisorError,
)
from supervisor.core.status import Overview
from supervisor.management.history import VersionError

_STATIC: Final = Path(__file__).parent / "static"
_PAGES: Final = {"/": "console.html", "/docs": "docs.html"}
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: What the service's refusals are in HTTP; anything else means that it cannot just now.
_STATUSES: Final[dict[type[Exception], HTTPStatus]] = {
    AgentExistsError: HTTPStatus.CONFLICT,
    AgentNotFoundError: HTTPStatus.NOT_FOUND,
    ConfigurationError: HTTPStatus.BAD_REQUEST,
    MessageNotFoundError: HTTPStatus.NOT_FOUND,
    MessageStateError: HTTPStatus.CONFLICT,
    ReplicaError: HTTPStatus.CONFLICT,
    VersionError: HTTPStatus.CONFLICT,
}
#: The icon counts no further.
MOST_COUNTED: Final = 9
_BADGE: Final = (
    '<circle cx="21" cy="11" r="11" fill="#c92a2a"/><text x="21" y="16.5" fill="#fff" font-family="sans-serif" '
    'font-size="15" font-weight="700" text-anchor="middle">{}</text>'
)


def build_api(service: AdminService, health: Health) -> FastAPI:
    """All routes over ``service``."""
    app = FastAPI(
        title="AIWM agent supervisor",
        version=__version__,
        description="State, health and control of a fleet of agents.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    _health(app, health)
    _status(app, service)
    add_history(app, service)
    add_agents(app, service)
    add_messages(app, service)
    places = Places()
    add_events(app, service, places)
    add_board(app, service, places)
    add_bulk(app, service)
    add_insight(app, service)
    add_replicas(app, service)
    add_session(app, Tokens(service.settings))
    _static(app)
    _counted_icons(app)
    _errors(app)
    return app


def _health(app: FastAPI, health: Health) -> None:
    """Declare what the door answers before the API."""
    liveness = {"model": Liveness, "description": "Something has ended for good; problems says what"}
    readiness = {"model": Readiness, "description": "Not ready; problems says why"}
    add = partial(app.add_api_route, methods=["GET"], tags=["health"])
    add(
        "/livez",
        health.livez,
        summary="Whether the event loop and all that the fleet depends on live",
        response_model=Liveness,
        responses={503: liveness},
    )
    add(
        "/readyz",
        health.readyz,
        summary="Whether the supervisor does its work",
        response_model=Readiness,
        responses={503: readiness},
    )
    add("/metrics", health.metrics, summary="Figures for Prometheus, as text or OpenMetrics")


def _status(app: FastAPI, service: AdminService) -> None:
    @app.get(
        "/api/v1/status",
        tags=["supervisor"],
        summary="The whole supervisor in a few figures",
        response_model=Overview,
        responses=DECLARING_ERRORS,
    )
    async def overview() -> Response:
        return json_answer(await service.overview())


def _static(app: FastAPI) -> None:
    for file in sorted(_STATIC.iterdir()):
        paths = [path for path, name in _PAGES.items() if name == file.name] or [f"/static/{file.name}"]
        for path in (*paths, "/favicon.ico") if file.name == "favicon.svg" else paths:
            app.add_api_route(path, _file(file), methods=["GET", "HEAD"], include_in_schema=False)


def _counted_icons(app: FastAPI) -> None:
    """The icon with a number on it, up to nine: how much needs somebody, in the browser's tab."""
    icon = (_STATIC / "favicon.svg").read_text(encoding="utf-8")
    for count in range(1, MOST_COUNTED + 1):
        shown = f"{count}+" if count == MOST_COUNTED else str(count)
        content = icon.replace("</svg>", _BADGE.format(shown) + "</svg>").encode()
        path = f"/favicon-{count}.svg"
        app.add_api_route(path, _content(content, _TYPES[".svg"]), methods=["GET", "HEAD"], include_in_schema=False)


def _file(file: Path) -> Callable[[], Awaitable[Response]]:
    return _content(file.read_bytes(), _TYPES[file.suffix])


def _content(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return Response(content, headers={"content-type": media_type})

    return serve


def _errors(app: FastAPI) -> None:
    async def expected(_request: Request, error: Exception) -> Response:
        return json_answer(Problem(str(error)), _STATUSES.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE))

    async def http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  registered for this class only
        answer = json_answer(Problem(str(error.detail)), HTTPStatus(error.status_code))
        answer.headers.update(error.headers or {})
        return answer

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this class only
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return json_answer(Problem(f"{where}: {first['msg']}"), HTTPStatus.UNPROCESSABLE_ENTITY)

    async def defect(request: Request, error: Exception) -> Response:
        return internal_error(request, error)

    app.add_exception_handler(SupervisorError, expected)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, defect)
