"""The routes about who changed an agent, and about the way back."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from supervisor.admin.access import Access, shown_agent
from supervisor.admin.answers import ERRORS, json_answer, refused
from supervisor.admin.given import Given
from supervisor.admin.interface import AdminService
from supervisor.core.records import AgentEvent, Removal
from supervisor.core.status import AgentStatus
from supervisor.management.history import MOST_EVENTS
from supervisor.store.dialect.history import MAX_EVENT_ID

Limit = Annotated[int, Query(ge=1, le=MOST_EVENTS)]
Before = Annotated[int, Query(ge=1, le=MAX_EVENT_ID, description="Only events with a smaller number: the next page.")]
_READ: Final[dict[int | str, dict[str, Any]]] = {
    422: refused("A malformed number"),
    503: refused("The registry cannot be read or written just now"),
}
_ONE: Final = _READ | {404: refused("No such agent, or none was removed within a day")}


class Version(BaseModel):
    """Where to go back to."""

    model_config = ConfigDict(extra="forbid", strict=True)

    to: Annotated[int, Field(ge=1, le=MAX_EVENT_ID, description="The number of an event of the history.")]


def add_history(app: FastAPI, service: AdminService) -> None:
    """Add the routes."""
    _reading(app, service)
    _going_back(app, service)


def _reading(app: FastAPI, service: AdminService) -> None:
    @app.get(
        "/api/v1/history",
        tags=["agents"],
        summary="Who changed which agent, the newest first",
        description="`before` and `after` hold no secrets. A token that only reads sees neither.",
        response_model=list[AgentEvent],
        responses=ERRORS | _READ,
    )
    async def fleet_history(access: Given, limit: Limit = 50, before_id: Before = MAX_EVENT_ID) -> Response:
        return json_answer([_shown(event, access) for event in await service.history(None, limit, before_id)])

    @app.get(
        "/api/v1/removals",
        tags=["agents"],
        summary="The agents that were removed within a day and can be restored, the last one first",
        response_model=list[Removal],
        responses=ERRORS | _READ,
    )
    async def removals() -> Response:
        return json_answer(await service.insight.removals())

    @app.get(
        "/api/v1/agents/{agent_id}/history",
        tags=["agents"],
        summary="Who changed an agent, the newest first; of one that was removed too",
        description="`before` and `after` hold no secrets. A token that only reads sees neither.",
        response_model=list[AgentEvent],
        responses=ERRORS | _ONE,
    )
    async def history(agent_id: str, access: Given, limit: Limit = 50, before_id: Before = MAX_EVENT_ID) -> Response:
        return json_answer([_shown(event, access) for event in await service.history(agent_id, limit, before_id)])


def _going_back(app: FastAPI, service: AdminService) -> None:
    @app.post(
        "/api/v1/agents/{agent_id}/rollback",
        tags=["agents"],
        summary="Have an agent be as it was after a change; answers with it as it is then",
        response_model=AgentStatus,
        responses=ERRORS
        | _ONE
        | {400: refused("The agent could not run like that any more"), 409: refused("There is no such version")},
    )
    async def rollback(agent_id: str, version: Version, access: Given) -> Response:
        await service.rollback(agent_id, version.to)
        return json_answer(shown_agent(await service.status(agent_id), access))

    @app.post(
        "/api/v1/agents/{agent_id}/restore",
        tags=["agents"],
        summary="Undo an agent's removal within a day; messages that were cancelled with it stay so",
        response_model=AgentStatus,
        responses=ERRORS | _ONE | {409: refused("There is one of that id again")},
    )
    async def restore(agent_id: str, access: Given) -> Response:
        await service.restore(agent_id)
        return json_answer(shown_agent(await service.status(agent_id), access))


def _shown(event: AgentEvent, access: Access) -> dict[str, Any]:
    shown = {
        "id": event.id,
        "at": event.at,
        "agent_id": event.agent_id,
        "action": event.action,
        "subject": event.subject,
        "actor": {"kind": event.actor.kind, "address": event.actor.address},
        "before": event.before,
        "after": event.after,
    }
    return shown if access is Access.FULL else shown | {"before": None, "after": None}
