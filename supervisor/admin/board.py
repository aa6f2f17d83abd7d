"""``GET /api/v1/board``: the whole fleet as a live table, as server-sent events that hold what changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import FastAPI, Request, Response

from supervisor.admin.access import Access, shown_agent
from supervisor.admin.answers import ERRORS, Problem, json_answer, refused
from supervisor.admin.events import EventStream, Places
from supervisor.admin.given import Given
from supervisor.admin.interface import AdminService
from supervisor.core.status import AgentStatus, Overview
from supervisor.core.tasks import cancel_all
from supervisor.telemetry.telling import HEARTBEAT_SECONDS

#: How often the fleet is looked at while somebody follows.
LOOK_SECONDS: Final = 1.0
#: A look may take this share of the time, so a large fleet is looked at less often; but at least so often.
_SHARE: Final = 0.2
MOST_SECONDS: Final = 5.0
#: Agents in one event: what is encoded in one turn of the event loop.
AT_ONCE: Final = 250
_RETRY: Final = b"retry: 2000\n\n"


@dataclass(frozen=True, slots=True)
class Change:
    """What an event of the board holds.

    Args:
        agents: those that are new or changed, without their settings; of the first events, all.
        gone: the ids of those that are there no more.
        first: whether what was known before is to be forgotten.
        more: whether the next event goes on with this one.
    """

    agents: tuple[AgentStatus, ...]
    gone: tuple[str, ...]
    overview: Overview
    first: bool = False
    more: bool = False


class Board:
    """The fleet as followers last saw it: looked at once for all of them, and not at all without one."""

    def __init__(self, service: AdminService, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._service = service
        self._look_seconds = look_seconds
        self._rows: dict[str, tuple[int, AgentStatus]] = {}
        self._gone: dict[str, int] = {}
        self._overview: Overview | None = None
        self._version = 0
        self._news = asyncio.Event()
        self._followers = 0
        self._looking: asyncio.Task[None] | None = None

    async def follow(self, access: Access) -> AsyncGenerator[bytes]:
        """The table, then what changes in it, until the server closes; an empty comment where nothing does."""
        self._followers += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look(), name="board")
        try:
            yield _RETRY
            seen = 0
            while not self._service.closing.is_set():
                news = self._news
                if self._overview is not None and seen < self._version:
                    before, seen = seen, self._version
                    for change in self._since(before):
                        yield _written(change, access)
                        await asyncio.sleep(0)
                    continue
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        await news.wait()
                except TimeoutError:
                    yield b": nothing new\n\n"
        finally:
            self._followers -= 1
            if not self._followers:
                await self._forget()

    async def _look(self) -> None:
        """Look at the fleet again and again, as long as somebody follows."""
        while not self._service.closing.is_set():
            began = time.perf_counter()
            await self._look_once()
            took = time.perf_counter() - began
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(max(self._look_seconds, took / _SHARE), MOST_SECONDS)):
                    await self._service.closing.wait()
        self._tell()

    async def _look_once(self) -> None:
        found, version = set(), self._version + 1
        changed = False
        async for status in self._service.each_status():
            found.add(status.id)
            row = replace(status, settings={})
            known = self._rows.get(status.id)
            if known is None or known[1] != row:
                self._rows[status.id] = (version, row)
                self._gone.pop(status.id, None)
                changed = True
        for agent_id in self._rows.keys() - found:
            del self._rows[agent_id]
            self._gone[agent_id] = version
            changed = True
        overview = await self._service.overview()
        if changed or overview != self._overview:
            self._overview, self._version = overview, version
            self._tell()

    def _since(self, seen: int) -> list[Change]:
        """What changed after a version; all of it after version 0."""
        assert self._overview is not None  # noqa: S101  nobody asks before the first look
        rows = [status for version, status in self._rows.values() if version > seen]
        gone = tuple(agent_id for agent_id, version in self._gone.items() if version > seen) if seen else ()
        slices = [tuple(rows[begin : begin + AT_ONCE]) for begin in range(0, len(rows), AT_ONCE)] or [()]
        last = len(slices) - 1
        return [
            Change(agents, gone if not number else (), self._overview, not seen and not number, number < last)
            for number, agents in enumerate(slices)
        ]

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _forget(self) -> None:
        looking, self._looking = self._looking, None
        self._rows, self._gone, self._overview, self._version = {}, {}, None, 0
        if looking is not None:
            await cancel_all([looking])


def _written(change: Change, access: Access) -> bytes:
    shown = replace(change, agents=tuple(shown_agent(status, access) for status in change.agents))
    return b"event: board\ndata: " + msgspec.json.encode(shown) + b"\n\n"


def add_board(app: FastAPI, service: AdminService, places: Places) -> None:
    """Add the route."""
    board = Board(service)

    @app.get(
        "/api/v1/board",
        tags=["supervisor"],
        summary="The whole fleet as a live table, as server-sent events",
        description="Events `board`: `agents` holds those that are new or changed, without their settings, `gone` the "
        "ids of those that are there no more, `overview` what `/api/v1/status` answers. With `first` what was known "
        "before is to be forgotten; with `more` the next event goes on with it.",
        response_class=Response,
        responses=ERRORS
        | {
            200: {"content": {"text/event-stream": {}}, "description": "Events"},
            400: refused("Asked for over a WebSocket"),
            503: refused("Too many streams"),
        },
    )
    async def follow(request: Request, access: Given) -> Response:
        if "upgrade" in request.headers:
            return json_answer(Problem("The board comes as text/event-stream, over plain HTTP"), HTTPStatus.BAD_REQUEST)
        if not places.take():
            return places.full()
        return EventStream(board.follow(access), on_end=places.give_back)
