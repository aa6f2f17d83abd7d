"""The routes about what agents did, used and may use, and about what is wrong with them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Response

from supervisor.admin.answers import ERRORS, json_answer, refused
from supervisor.admin.interface import AdminService
from supervisor.core.activity import Minute
from supervisor.core.records import UsageRecord
from supervisor.core.status import CheckResult
from supervisor.management.handlers import KnownHandler
from supervisor.settings import OVERRIDES, PREFIX, AgentSettings

_MAX_ID_CHARS: Final = 200
#: How far back the registry's record of usage goes.
_MOST_DAYS: Final = 400
_ONE: Final[dict[int | str, dict[str, Any]]] = {404: refused("No such agent")}
Id = Annotated[str | None, Query(max_length=_MAX_ID_CHARS)]


def add_insight(app: FastAPI, service: AdminService) -> None:
    """Add the routes."""
    _of_one(app, service)
    _of_all(app, service)


def _schema() -> dict[str, Any]:
    """The settings of a row; ``x-deployment`` is the variable that counts where the row does not give one."""
    schema = AgentSettings.model_json_schema()
    for name, variable in OVERRIDES.items():
        schema["properties"][name]["x-deployment"] = PREFIX + variable.upper()
    return schema


def _of_one(app: FastAPI, service: AdminService) -> None:
    @app.get(
        "/api/v1/agents/{agent_id}/activity",
        tags=["agents"],
        summary="What an agent did in each minute of the last hour; minutes without anything are left out",
        response_model=list[Minute],
        responses=ERRORS | _ONE,
    )
    async def activity(agent_id: str) -> Response:
        return json_answer(await service.insight.activity(agent_id))

    @app.get(
        "/api/v1/agents/{agent_id}/conversations",
        tags=["agents"],
        summary="The ids of the conversations that an agent is in, the latest first",
        response_model=list[str],
        responses=ERRORS | _ONE,
    )
    async def conversations(agent_id: str) -> Response:
        return json_answer(await service.insight.conversations(agent_id))


def _of_all(app: FastAPI, service: AdminService) -> None:
    @app.get(
        "/api/v1/usage",
        tags=["supervisor"],
        summary="What agents used of language models, by UTC day, agent and model; removed agents included",
        response_model=list[UsageRecord],
        responses=ERRORS | {422: refused("A malformed filter"), 503: refused("The registry cannot be read just now")},
    )
    async def usage(agent_id: Id = None, days: Annotated[int, Query(ge=1, le=_MOST_DAYS)] = 7) -> Response:
        return json_answer(await service.insight.usage(agent_id, days))

    @app.get(
        "/api/v1/handlers",
        tags=["agents"],
        summary="The handlers that an agent may have, and the settings that each says it has",
        response_model=list[KnownHandler],
        responses=ERRORS | {503: refused("The agents folder cannot be read")},
    )
    async def handlers() -> Response:
        return json_answer(await service.insight.handlers())

    @app.get(
        "/api/v1/settings-schema",
        tags=["agents"],
        summary="The supervisor's own settings of an agent, as a JSON schema; all others are its handler's",
        responses=ERRORS,
    )
    async def schema() -> dict[str, Any]:
        return _schema()

    @app.post(
        "/api/v1/doctor",
        tags=["supervisor"],
        summary="What `supervisor doctor` finds: of one agent in full, or of the fleet",
        description="Goes to the platform; agents that are online get no second socket, and no message is written.",
        response_model=list[CheckResult],
        responses=ERRORS | _ONE | {422: refused("A malformed id")},
    )
    async def doctor(agent_id: Id = None) -> Response:
        return json_answer(await service.insight.examine(agent_id))
