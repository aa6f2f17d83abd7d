"""``GET /api/v1/events``: what happened and what happens, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from supervisor.admin.access import Access, shown_reason
from supervisor.admin.answers import ERRORS, Problem, json_answer, refused
from supervisor.admin.given import Given
from supervisor.admin.interface import AdminService
from supervisor.admin.selecting import Selected
from supervisor.telemetry.events import Event, Kind, Wanted
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.telling import Told

#: A follower that takes nothing for so long is dropped.
SEND_SECONDS: Final = 30.0
#: Streams at once; each holds one of the server's connections.
MAX_STREAMS: Final = 32
#: When one that found no place may come back, in seconds.
_FULL_SECONDS: Final = 10
#: When a browser may come back.
_RETRY_MILLISECONDS: Final = 2000
_MAX_ID_CHARS: Final = 200
#: A position among the events of many replicas.
_MAX_POSITION_CHARS: Final = 4000
_Level = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    Query(description="Lines that matter at least so much; a change of state counts as `info`."),
]
_Text = Annotated[str, Query(max_length=_MAX_ID_CHARS, description="Events with this in a field, as `name=value`.")]
_NewerThan = Annotated[float | None, Query(ge=0, le=1e10, allow_inf_nan=False, description="Of so long ago and later.")]
_log = get_logger(__name__)


class EventStream(StreamingResponse):
    """Server-sent events. A client that does not read is dropped: it holds up nobody, but its place is another's.

    Args:
        send_seconds: how long it may take to read what was sent.
        on_end: called once it is over, however it ended.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        content: AsyncGenerator[bytes],
        *,
        send_seconds: float = SEND_SECONDS,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(content)
        self._content = content
        self._send_seconds = send_seconds
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()

    async def stream_response(self, send: Send) -> None:
        """Send all of it, within the bound for each piece."""

        async def bounded(message: Message) -> None:
            async with asyncio.timeout(self._send_seconds):
                await send(message)

        try:
            await super().stream_response(bounded)
        except TimeoutError:
            # Returning unfinished makes the server close the connection.
            _log.info("event_stream_dropped", reason="it was not read")
        finally:
            # A client that left stops following now, not when the generator is collected.
            await self._content.aclose()


class Places:
    """The places of streams; each is one until its stream has ended."""

    def __init__(self, streams: int = MAX_STREAMS) -> None:
        self._streams = streams
        self._taken = 0

    def take(self) -> bool:
        """Take one, before the stream begins, for many may ask at once; whether there was one."""
        if self._taken >= self._streams:
            return False
        self._taken += 1
        return True

    def give_back(self) -> None:
        """A stream has ended."""
        self._taken -= 1

    def full(self) -> Response:
        """What one is told that found none."""
        full = json_answer(Problem(f"{self._streams} streams are open; end one"), HTTPStatus.SERVICE_UNAVAILABLE)
        full.headers["retry-after"] = str(_FULL_SECONDS)
        return full


def add_events(app: FastAPI, service: AdminService, places: Places) -> None:
    """Add the route."""

    @app.get(
        "/api/v1/events",
        tags=["supervisor"],
        summary="Changes of state and log lines, as server-sent events",
        description="Each event has an `id`, the name `state` or `log`, and JSON as data. With the header "
        "`Last-Event-ID` it goes on where it was; a `gap` tells how many events were gone by then, or of which "
        "`replica` nothing comes any more. Lines below LOG_LEVEL are not among the events. A token that only reads "
        "gets states, and no lines.",
        response_class=StreamingResponse,
        responses=ERRORS
        | {
            200: {"content": {"text/event-stream": {}}, "description": "Events"},
            400: refused("Asked for over a WebSocket, or a selection of agents that makes no sense"),
            422: refused("A malformed filter"),
            503: refused("Too many streams"),
        },
    )
    async def events(
        request: Request,
        access: Given,
        selected: Selected,
        *,
        agent_id: Annotated[str | None, Query(max_length=_MAX_ID_CHARS, description="Only this one's.")] = None,
        kind: Annotated[list[Literal["state", "log"]] | None, Query(description="May be given more than once.")] = None,
        level: _Level = "debug",
        text: _Text = "",
        newer_than_seconds: _NewerThan = None,
        last: Annotated[int, Query(ge=0, le=1000, description="Begin with so many that were.")] = 0,
        follow: Annotated[bool, Query(description="Go on with what comes.")] = True,
        last_event_id: Annotated[str | None, Header(max_length=_MAX_POSITION_CHARS)] = None,
    ) -> Response:
        if "upgrade" in request.headers:
            return json_answer(Problem("Events come as text/event-stream, over plain HTTP"), HTTPStatus.BAD_REQUEST)
        if access is Access.READ and ("log" in (kind or ()) or text):
            return json_answer(Problem("This token sees no log: ask for kind=state, no text"), HTTPStatus.FORBIDDEN)
        kinds: tuple[Kind, ...] = ("state",) if access is Access.READ else tuple(kind or ())
        since = 0.0 if newer_than_seconds is None else time.time() - newer_than_seconds
        wanted = Wanted(agent_id, kinds, level, text, since)
        if not places.take():
            return places.full()
        told = service.happened(wanted, selected, last=last, follow=follow, after=last_event_id)
        return EventStream(stream_events(told, access), on_end=places.give_back)


async def stream_events(told: AsyncGenerator[Told], access: Access = Access.FULL) -> AsyncGenerator[bytes]:
    """What is told as server-sent events."""
    yield f"retry: {_RETRY_MILLISECONDS}\n\n".encode()
    async with aclosing(told):
        async for one in told:
            yield b"".join(_pieces(one, access)) or b": nothing new\n\n"


def _pieces(told: Told, access: Access) -> Iterator[bytes]:
    if told.silent is not None:
        yield _gap({"missed": 0, "replica": told.silent, "reason": told.why if access is Access.FULL else ""})
    if told.missed:
        yield _gap({"missed": told.missed})
    for position, event in told.events:
        yield _written(position, event, access)


def _gap(fields: dict[str, Any]) -> bytes:
    return f"event: gap\ndata: {json.dumps(fields)}\n\n".encode()


def _written(position: str, event: Event, access: Access) -> bytes:
    data = event.data
    if access is Access.READ:
        fields = json.loads(data)
        fields["reason"] = shown_reason(fields.get("state", ""), fields.get("reason", ""), access)
        data = json.dumps(fields).encode()
    # One line is enough, because JSON holds no line break.
    return f"id: {position}\nevent: {event.kind}\ndata: ".encode() + data + b"\n\n"
