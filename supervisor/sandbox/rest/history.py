"""What was said, over REST: by pages from the oldest, or the last few."""

import re
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from supervisor.sandbox.gateways.shapes import history_row_v1, history_row_v2
from supervisor.sandbox.rest.answers import authenticate
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.shared import Shared

_DEFAULT_PAGE_ROWS = 50


class HistoryRoutes:
    """``/messages`` in v1, ``/actions`` later, where ``/messages`` is still there and empty.

    An unknown or malformed conversation has no rows. A page has no maximum.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._profile = shared.config.profile

    def routes(self) -> Iterator[Route]:
        """The routes of the profile."""
        yield "GET", "/messages/conversation/{conversation_id}", self.messages
        yield "GET", "/messages/conversation/{conversation_id}/last/{count:int}", self.last_messages
        if self._profile != "v1":
            yield "GET", "/actions/conversation/{conversation_id}", self.actions
            yield "GET", "/actions/conversation/{conversation_id}/last/{count:int}", self.last_actions

    async def messages(self, conversation_id: str, request: Request) -> JSONResponse:
        """v1's pages."""
        return self._page(request, self._rows_v1(conversation_id))

    async def last_messages(self, conversation_id: str, count: int, request: Request) -> JSONResponse:
        """v1's last ones, a bare array, oldest first."""
        return self._last(request, self._rows_v1(conversation_id), count)

    async def actions(self, conversation_id: str, request: Request) -> JSONResponse:
        """The pages of later ones."""
        return self._page(request, self._rows_v2(conversation_id))

    async def last_actions(self, conversation_id: str, count: int, request: Request) -> JSONResponse:
        """The last ones of later generations, a bare array, oldest first."""
        return self._last(request, self._rows_v2(conversation_id), count)

    def _rows_v1(self, conversation_id: str) -> list[dict[str, Any]]:
        stored = self._shared.state.messages(conversation_id) if self._profile == "v1" else []
        return [history_row_v1(message) for message in stored]

    def _rows_v2(self, conversation_id: str) -> list[dict[str, Any]]:
        state, organisation_id = self._shared.state, self._shared.config.organisation_id
        agent_id = state.conversation_agent(conversation_id)
        stored = state.messages(conversation_id)
        return [history_row_v2(message, agent_id=agent_id, organisation_id=organisation_id) for message in stored]

    def _read(self, request: Request) -> None:
        identity = authenticate(self._shared, request)
        self._shared.state.log.add("history_read", identity.id, path=request.url.path, query=request.url.query)

    def _last(self, request: Request, rows: list[dict[str, Any]], count: int) -> JSONResponse:
        self._read(request)
        return JSONResponse(rows[-count:] if count > 0 else rows)

    def _page(self, request: Request, rows: list[dict[str, Any]]) -> JSONResponse:
        self._read(request)
        page = whole_number(request.query_params.get("page"), default=1)
        limit = whole_number(request.query_params.get("limit"), default=_DEFAULT_PAGE_ROWS)
        start = (page - 1) * limit
        return JSONResponse({"data": rows[start : start + limit], "total": len(rows), "page": page, "limit": limit})


def whole_number(text: str | None, *, default: int) -> int:
    """A page or a limit; nonsense is the default."""
    return int(text) if text is not None and re.fullmatch(r"[1-9][0-9]{0,8}", text) else default
