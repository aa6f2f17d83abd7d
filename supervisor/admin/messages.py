"""The routes about the inbox and its dead letters."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Response
from fastapi import Path as InPath

from supervisor.admin.access import shown_message, shown_summary
from supervisor.admin.answers import ERRORS, json_answer, refused
from supervisor.admin.given import Given
from supervisor.admin.interface import AdminService
from supervisor.admin.selecting import SelectedBeside
from supervisor.core.states import MessageState
from supervisor.core.status import MessageDetails, MessageSummary
from supervisor.management.messages import MessageQuery

#: Messages in one answer: their contents are in it.
MAX_LISTED: Final = 500
#: The largest number that the journal can hold.
MAX_NUMBER: Final = 2**63 - 1
#: Longer than any id that the inbox takes.
_MAX_ID_CHARS: Final = 200
#: Ages are counted back from now; this is more than the epoch's.
_MAX_AGE_SECONDS: Final = 1e10

Number = Annotated[int, InPath(ge=1, le=MAX_NUMBER, description="The journal's number of the message.")]
Id = Annotated[str | None, Query(max_length=_MAX_ID_CHARS)]
Age = Annotated[float | None, Query(ge=0, le=_MAX_AGE_SECONDS, allow_inf_nan=False)]

_MALFORMED: Final[dict[int | str, dict[str, Any]]] = {
    422: refused("A malformed number or filter"),
    503: refused("The journal cannot be read or written just now"),
}
_ONE: Final = ERRORS | _MALFORMED | {404: refused("No message of that number")}
_ACT: Final = (
    ERRORS
    | _MALFORMED
    | {
        404: refused("No message of that number"),
        409: refused("It is no dead letter, or its agent is registered no more"),
    }
)


def add_messages(app: FastAPI, service: AdminService) -> None:
    """Add the routes."""
    _reading(app, service)
    _acting(app, service)


def _reading(app: FastAPI, service: AdminService) -> None:
    @app.get(
        "/api/v1/messages",
        tags=["messages"],
        summary="Messages, the newest first: dead letters, unless other states are asked for",
        description="Without `state`: dead letters, and messages that are done with a reply that did not arrive, whose "
        "`reason` begins with `undelivered`. With `undelivered` and no `state`: messages in whatever state that have "
        "a reply which did not arrive, or of which nobody knows. The next page: `before_id` with the id of the last "
        "one. Contents are cut to 1,000 characters; `content_chars` tells how long they are.",
        response_model=list[MessageSummary],
        responses=ERRORS | _MALFORMED | {400: refused("There is no such state of an agent, or a label has no key")},
    )
    async def messages(
        access: Given,
        selected: SelectedBeside,
        *,
        agent_id: Id = None,
        conversation_id: Id = None,
        state: Annotated[list[MessageState] | None, Query(description="May be given more than once.")] = None,
        older_than_seconds: Age = None,
        newer_than_seconds: Age = None,
        undelivered: bool = False,
        before_id: Annotated[int | None, Query(ge=1, le=MAX_NUMBER)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    ) -> Response:
        query = MessageQuery(
            agent_id, conversation_id, state or (), older_than_seconds, newer_than_seconds, undelivered, before_id
        )
        if selected:
            ids = [status.id async for status in service.each_status() if status in selected]
            query = dataclasses.replace(query, agent_ids=ids)
        return json_answer([shown_summary(one, access) for one in await service.messages(query, limit)])

    @app.get(
        "/api/v1/messages/{number}",
        tags=["messages"],
        summary="One message with its traceback and its replies",
        response_model=MessageDetails,
        responses=_ONE,
    )
    async def message(number: Number, access: Given) -> Response:
        return json_answer(shown_message(await service.message(number), access))


def _acting(app: FastAPI, service: AdminService) -> None:
    @app.post(
        "/api/v1/messages/{number}/replay",
        tags=["messages"],
        summary="Have a dead letter run again, with all its attempts; answers with the message as it is then",
        description="A message that is done does not run again: its replies that did not arrive are sent again.",
        response_model=MessageDetails,
        responses=_ACT,
    )
    async def replay(number: Number) -> Response:
        await service.settle("replay", number)
        return json_answer(await service.message(number))

    @app.post(
        "/api/v1/messages/{number}/discard",
        tags=["messages"],
        summary="Cancel a dead letter; answers with the message as it is then",
        description="A message that is done stays so, and is refused, whatever became of its replies.",
        response_model=MessageDetails,
        responses=_ACT,
    )
    async def discard(number: Number) -> Response:
        await service.settle("discard", number)
        return json_answer(await service.message(number))

    @app.post(
        "/api/v1/messages/{number}/cancel",
        tags=["messages"],
        summary="Stop a message that waits, runs or hangs; answers with it as it is then",
        description="Its handler is cancelled. One that goes on all the same, as a thread does, is left behind after "
        "five seconds: what it still makes is discarded, and the next message of the conversation goes on.",
        response_model=MessageDetails,
        responses=_ACT | {409: refused("It has ended already")},
    )
    async def cancel(number: Number) -> Response:
        await service.settle("cancel", number)
        return json_answer(await service.message(number))
