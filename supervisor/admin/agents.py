"""The routes about agents: what there is, what is wanted, and what can be asked of one."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from supervisor.admin.access import Access, shown_agent
from supervisor.admin.answers import ERRORS, json_answer, refused
from supervisor.admin.given import Given
from supervisor.admin.interface import AdminService
from supervisor.admin.selecting import Selected
from supervisor.core.records import AgentRecord
from supervisor.core.status import AgentStatus
from supervisor.management.agents import Changes
from supervisor.store.dialect.rows import MAX_FIELD_CHARS


class AgentAction(StrEnum):
    """What can be asked of an agent."""

    PAUSE = "pause"
    RESUME = "resume"
    RELOAD = "reload"


_Text = Annotated[str, Field(max_length=MAX_FIELD_CHARS)]
_Secret = Annotated[
    str, Field(max_length=MAX_FIELD_CHARS, description="A reference, env:NAME or file:/path; never the secret itself.")
]
_Handler = Annotated[
    str, Field(max_length=MAX_FIELD_CHARS, description="echo, echo:Handler or package.module:attribute.")
]


class NewAgent(BaseModel):
    """An agent to add, as in a file of ``supervisor agents import``."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "650000000000000000000001",
                    "handler": "echo",
                    "secret": "env:AGENT_SECRET",
                    "name": "Ada",
                    "labels": {"team": "support"},
                }
            ]
        },
    )

    id: _Text
    handler: _Handler
    secret: _Secret
    name: _Text = ""
    settings: dict[str, Any] = {}
    labels: dict[str, str] = {}
    paused: bool = False


class ChangedAgent(BaseModel):
    """What is to change of an agent; what is left out stays.

    Settings and labels are merged into those that are there by their top-level keys: one with null goes, and a value
    takes the old one's place whole, nested ones too.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"settings": {"timeout_seconds": 60}, "labels": {"team": None}}]},
    )

    handler: _Handler | None = None
    secret: _Secret | None = None
    name: _Text | None = None
    settings: dict[str, Any] = {}
    labels: dict[str, str | None] = {}
    paused: bool | None = None

    def changes(self) -> Changes:
        """The same for the registry."""
        fields = {name: getattr(self, name) for name in ("handler", "secret", "name", "paused")}
        return Changes(
            {name: value for name, value in fields.items() if value is not None},
            {key: value for key, value in self.settings.items() if value is not None},
            {key: value for key, value in self.labels.items() if value is not None},
            _dropped(self.settings),
            _dropped(self.labels),
        )


def _dropped(values: Mapping[str, Any]) -> list[str]:
    return [key for key, value in values.items() if value is None]


_ONE: Final[dict[int | str, dict[str, Any]]] = {
    404: refused("No such agent"),
    422: refused("No such action, or a malformed id"),
}
_SELECTED: Final[dict[int | str, dict[str, Any]]] = {
    400: refused("There is no such state, or a label has no key"),
    422: refused("A malformed selection"),
}
_WRITTEN: Final[dict[int | str, dict[str, Any]]] = {
    400: refused("The agent could not run like that; says why"),
    413: refused("The body is too large"),
    422: refused("A malformed body"),
    503: refused("The registry cannot be written just now"),
}
_MERGED: Final = (
    "Settings and labels are merged into those that are there by their top-level keys: one with null goes, and a value "
    "takes the old one's place whole, nested ones too. What is shown as [redacted] is refused: leave its key out."
)


def add_agents(app: FastAPI, service: AdminService) -> None:
    """Add the routes."""
    _reading(app, service)
    _writing(app, service)
    _acting(app, service)


def _reading(app: FastAPI, service: AdminService) -> None:
    @app.get(
        "/api/v1/agents",
        tags=["agents"],
        summary="Every agent, or those that are selected",
        response_model=list[AgentStatus],
        responses=ERRORS | _SELECTED,
    )
    async def agents(access: Given, selected: Selected) -> Response:
        # One after the other: thousands in one piece would hold the event loop.
        shown = [
            msgspec.json.encode(shown_agent(status, access))
            async for status in service.each_status()
            if not selected or status in selected
        ]
        return Response(b"[" + b",".join(shown) + b"]", media_type="application/json")

    @app.get(
        "/api/v1/agents/{agent_id}",
        tags=["agents"],
        summary="One agent",
        response_model=AgentStatus,
        responses=ERRORS | _ONE,
    )
    async def agent(agent_id: str, access: Given) -> Response:
        return json_answer(shown_agent(await service.status(agent_id), access))


def _writing(app: FastAPI, service: AdminService) -> None:
    @app.post(
        "/api/v1/agents",
        tags=["agents"],
        summary="Add an agent; answers with it as it is then, on its way online",
        status_code=HTTPStatus.CREATED,
        response_model=AgentStatus,
        responses=ERRORS | _WRITTEN | {409: refused("There is one of that id")},
    )
    async def add(new: NewAgent) -> Response:
        record = AgentRecord(**new.model_dump())
        await service.add(record)
        return json_answer(shown_agent(await service.status(record.id), Access.FULL), HTTPStatus.CREATED)

    @app.patch(
        "/api/v1/agents/{agent_id}",
        tags=["agents"],
        summary="Change what is given of an agent; answers with it as it is then",
        description=_MERGED,
        response_model=AgentStatus,
        responses=ERRORS | _ONE | _WRITTEN,
    )
    async def change(agent_id: str, changed: ChangedAgent) -> Response:
        await service.status(agent_id)
        changes = changed.changes()
        if not changes.empty:
            await service.change(agent_id, changes)
        return json_answer(shown_agent(await service.status(agent_id), Access.FULL))

    @app.delete(
        "/api/v1/agents/{agent_id}",
        tags=["agents"],
        summary="Remove an agent; it goes offline, and what waits for it is cancelled",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
        responses=ERRORS | _ONE,
    )
    async def remove(agent_id: str) -> Response:
        await service.remove(agent_id)
        return Response(status_code=HTTPStatus.NO_CONTENT)


def _acting(app: FastAPI, service: AdminService) -> None:
    @app.post(
        "/api/v1/agents/{agent_id}/{action}",
        tags=["agents"],
        summary="Pause, resume or reload an agent; answers with the agent as it is then",
        response_model=AgentStatus,
        responses=ERRORS | _ONE,
    )
    async def act(agent_id: str, action: AgentAction) -> Response:
        await service.status(agent_id)
        await service.act(action, agent_id)
        return json_answer(shown_agent(await service.status(agent_id), Access.FULL))
