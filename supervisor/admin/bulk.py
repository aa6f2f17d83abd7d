"""The routes that do the same to many agents, or to many messages, at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from supervisor.admin.answers import ERRORS, json_answer, refused
from supervisor.admin.interface import AdminService
from supervisor.admin.messages import MAX_LISTED, MAX_NUMBER

_MAX_AGENTS: Final = 10_000
_MAX_ID_CHARS: Final = 200


class BulkAgentAction(StrEnum):
    """What can be done to many agents."""

    PAUSE = "pause"
    RESUME = "resume"
    RELOAD = "reload"
    REMOVE = "remove"


class BulkMessageAction(StrEnum):
    """What can be done to many messages."""

    REPLAY = "replay"
    DISCARD = "discard"
    CANCEL = "cancel"


class ManyAgents(BaseModel):
    """Agents, and what is to be done to each."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"action": "pause", "ids": ["650000000000000000000001"]}]},
    )

    action: BulkAgentAction
    ids: Annotated[list[Annotated[str, Field(max_length=_MAX_ID_CHARS)]], Field(max_length=_MAX_AGENTS)]


class ManyMessages(BaseModel):
    """Messages by the journal's numbers, and what is to be done to each."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"action": "replay", "ids": [17, 18]}]})

    action: BulkMessageAction
    ids: Annotated[list[Annotated[int, Field(ge=1, le=MAX_NUMBER)]], Field(max_length=MAX_LISTED)]


@dataclass(frozen=True)
class Done:
    """What became of many: to how many it was done, and why not to the others, by their ids."""

    done: int
    refused: dict[str, str]


_MANY: Final[dict[int | str, dict[str, Any]]] = {
    413: refused("The body is too large"),
    422: refused("A malformed body"),
    503: refused("The registry cannot be written just now"),
}


def add_bulk(app: FastAPI, service: AdminService) -> None:
    """Add the routes."""

    @app.post(
        "/api/v1/bulk/agents",
        tags=["agents"],
        summary="Pause, resume, reload or remove many agents; one that cannot be does not keep the others from it",
        response_model=Done,
        responses=ERRORS | _MANY,
    )
    async def agents(many: ManyAgents) -> Response:
        ids = list(dict.fromkeys(many.ids))
        refusals = await service.act_on(many.action, ids)
        return json_answer(Done(len(ids) - len(refusals), refusals))

    @app.post(
        "/api/v1/bulk/messages",
        tags=["messages"],
        summary="Replay, discard or cancel many messages; one that cannot be does not keep the others from it",
        response_model=Done,
        responses=ERRORS | _MANY,
    )
    async def messages(many: ManyMessages) -> Response:
        outcomes = await service.settle_all(many.action, many.ids)
        refusals = {str(one.number): str(one.refused) for one in outcomes if one.refused is not None}
        return json_answer(Done(len(outcomes) - len(refusals), refusals))
