"""The routes that do the same to many agents, or to many messages, at once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, Final, Self

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

from supervisor.admin.answers import ERRORS, json_answer, refused
from supervisor.admin.interface import AdminService
from supervisor.admin.messages import MAX_LISTED, MAX_NUMBER
from supervisor.core.states import MessageState
from supervisor.management.messages import MessageQuery
from supervisor.management.selection import Selector

_MAX_AGENTS: Final = 10_000
#: Messages that match and are acted upon at once, the newest.
_MAX_MESSAGES: Final = 10_000
_MAX_ID_CHARS: Final = 200
_MAX_WORDS, _MAX_WORD_CHARS = 1_000, 10_000
_Words = Annotated[list[Annotated[str, Field(max_length=_MAX_WORD_CHARS)]], Field(max_length=_MAX_WORDS)]
_STRICT: Final = ConfigDict(extra="forbid")
_EXPECTED: Final = "Do it only to so many: refused where more or fewer match."
_DRY_RUN: Final = "Do nothing, and say how many it would be done to."


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


class AgentsWhere(BaseModel):
    """Agents by what they have, in the words of the command line; nothing given: all of them."""

    model_config = _STRICT

    labels: _Words = []
    states: _Words = []
    handlers: _Words = []
    text: Annotated[str, Field(max_length=_MAX_ID_CHARS, description="In their id, name, handler or reason.")] = ""


class MessagesWhere(BaseModel):
    """Messages as ``GET /api/v1/messages`` lists them."""

    model_config = _STRICT

    agent_id: Annotated[str | None, Field(max_length=_MAX_ID_CHARS)] = None
    states: Annotated[list[MessageState], Field(max_length=_MAX_WORDS)] = []
    undelivered: bool = False


class _Many(BaseModel):
    """What is done to many, who are named, or found by what they have."""

    model_config = _STRICT

    expected: Annotated[int | None, Field(ge=0, le=MAX_NUMBER, description=_EXPECTED)] = None
    dry_run: Annotated[bool, Field(description=_DRY_RUN)] = False

    @model_validator(mode="after")
    def _named_or_found(self) -> Self:
        if (getattr(self, "ids", None) is None) is (getattr(self, "where", None) is None):
            raise ValueError("give either ids or where")
        return self

    def is_to_be_done(self, matched: int) -> bool:
        """Whether it is to be done to so many; raises HTTPException where others were expected."""
        if self.expected is not None and self.expected != matched:
            raise HTTPException(HTTPStatus.CONFLICT, f"{matched} match by now, not {self.expected}; nothing was done")
        return not self.dry_run


class ManyAgents(_Many):
    """Agents, by their ids or by what they have, and what is to be done to each."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"action": "pause", "ids": ["650000000000000000000001"]},
                {"action": "pause", "where": {"labels": ["team=support"]}, "dry_run": True},
            ]
        },
    )

    action: BulkAgentAction
    ids: Annotated[list[Annotated[str, Field(max_length=_MAX_ID_CHARS)]] | None, Field(max_length=_MAX_AGENTS)] = None
    where: AgentsWhere | None = None


class ManyMessages(_Many):
    """Messages, by the journal's numbers or by what they are, and what is to be done to each."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"action": "replay", "ids": [17, 18]},
                {"action": "replay", "where": {"states": ["dead"]}, "expected": 2},
            ]
        },
    )

    action: BulkMessageAction
    ids: Annotated[list[Annotated[int, Field(ge=1, le=MAX_NUMBER)]] | None, Field(max_length=MAX_LISTED)] = None
    where: MessagesWhere | None = None


@dataclass(frozen=True)
class Done:
    """What became of many: how many were meant, to how many it was done, and why not to the others, by their ids."""

    matched: int
    done: int
    refused: dict[str, str]


_MANY: Final[dict[int | str, dict[str, Any]]] = {
    400: refused("There is no such state, or a label has no key"),
    409: refused("Others match than were expected"),
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
        ids = list(dict.fromkeys(many.ids or [])) if many.where is None else await _agents(service, many.where)
        if not many.is_to_be_done(len(ids)):
            return json_answer(Done(len(ids), 0, {}))
        refusals = await service.act_on(many.action, ids)
        return json_answer(Done(len(ids), len(ids) - len(refusals), refusals))

    @app.post(
        "/api/v1/bulk/messages",
        tags=["messages"],
        summary="Replay, discard or cancel many messages; one that cannot be does not keep the others from it",
        response_model=Done,
        responses=ERRORS | _MANY,
    )
    async def messages(many: ManyMessages) -> Response:
        numbers = sorted(set(many.ids or [])) if many.where is None else await _messages(service, many.where)
        if not many.is_to_be_done(len(numbers)):
            return json_answer(Done(len(numbers), 0, {}))
        outcomes = await service.settle_all(many.action, numbers)
        refusals = {str(one.number): str(one.refused) for one in outcomes if one.refused is not None}
        return json_answer(Done(len(numbers), len(outcomes) - len(refusals), refusals))


async def _agents(service: AdminService, where: AgentsWhere) -> list[str]:
    """The ids of the agents that have what is asked for; raises ConfigurationError where that has no sense."""
    wanted = Selector.of(where.labels, where.states, where.handlers, where.text)
    return [status.id async for status in service.each_status() if status in wanted]


async def _messages(service: AdminService, where: MessagesWhere) -> list[int]:
    """The numbers of the messages that match, the newest first, up to the bound."""
    query = MessageQuery(where.agent_id, None, where.states, undelivered=where.undelivered)
    numbers: list[int] = []
    while len(numbers) < _MAX_MESSAGES and (page := await service.messages(query, MAX_LISTED)):
        numbers += [one.id for one in page]
        query = dataclasses.replace(query, before_id=numbers[-1])
    return numbers[:_MAX_MESSAGES]
