"""Which conversations an agent has, over REST (docs/protocol.md#7-findings, 2)."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from supervisor.sandbox.rest.answers import PlatformError, authenticate
from supervisor.sandbox.rest.history import whole_number
from supervisor.sandbox.world.ids import timestamp
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.state import Conversation
from supervisor.sandbox.world.tokens import Identity

_DEFAULT_PAGE_ROWS = 10
_FILTER = re.compile(r"filter\[(\w+)\](?:\[(\$\w+)\])?")
_HIDDEN_FROM_PAGES = ("isDeleted", "deletedAt", "createdBy", "updatedBy")


class ConversationRoutes:
    """The bare list of one agent's, in all generations alike, and the paged list of the organisation's."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._profile = shared.config.profile

    def routes(self) -> Iterator[Route]:
        """The routes."""
        yield "GET", "/conversations/agent/{agent_id}", self.of_agent
        yield "GET", "/conversations", self.pages

    async def of_agent(self, agent_id: str, request: Request) -> JSONResponse:
        """A bare array of whole rows, the one that changed last first; no limit, any role."""
        self._listed(request)
        status = request.query_params.get("status")
        mine = self._shared.state.conversations_of(agent_id)
        return JSONResponse([self._row(found) for found in mine if status in (None, "", found.status)])

    async def pages(self, request: Request) -> JSONResponse:
        """One page.

        v1 and v2 read ``filter[…]`` and drop everything else: ``?agentId=`` alone gives the whole organisation's. v3
        reads plain names, and finds nothing where it meets ``filter[…]``.
        """
        identity = self._listed(request)
        if not identity.role:
            raise PlatformError(403, "You do not have permission to read.")
        wanted = self._wanted(request.query_params)
        found = self._sorted(request, wanted.get(("agentId", "$eq")))
        if self._profile == "v3" and request.query_params.get("unanswered") == "true":
            found = [one for one in found if one.last_message and one.last_message["role"] == "user"]
        rows = [row for row in map(self._row, found) if _matches(row, wanted)]
        page = whole_number(request.query_params.get("page"), default=1)
        limit = whole_number(request.query_params.get("limit"), default=_DEFAULT_PAGE_ROWS)
        start = (page - 1) * limit
        statistics: dict[str, Any] = {"total": len(rows)}
        if self._profile != "v1":
            statistics["byStatus"] = dict(Counter(row["status"] for row in rows))
            statistics["byConversationType"] = {"chat": len(rows)} if rows else {}
        return JSONResponse(
            {
                "data": [_paged(row) for row in rows[start : start + limit]],
                "pagination": {"page": page, "limit": limit, "total": len(rows)},
                "statistics": statistics,
            }
        )

    def _listed(self, request: Request) -> Identity:
        identity = authenticate(self._shared, request)
        self._shared.state.log.add("conversations_listed", identity.id, query=request.url.query)
        return identity

    def _sorted(self, request: Request, agent_id: str | None) -> list[Conversation]:
        """v1 sorts by nothing unless asked to, which is by age."""
        state = self._shared.state
        found = list(state.conversations.values()) if agent_id is None else state.conversations_of(agent_id)
        if self._profile == "v1" and request.query_params.get("sort[updatedAt]") != "-1":
            return sorted(found, key=lambda conversation: conversation.created_at)
        return sorted(found, key=lambda conversation: conversation.updated_at, reverse=True)

    def _wanted(self, query: Mapping[str, str]) -> dict[tuple[str, str], str]:
        if self._profile == "v3":
            others = {name: value for name, value in query.items() if name not in ("page", "limit", "sort")}
            others.pop("unanswered", None)
            return {(name, "$eq"): value for name, value in others.items()}
        filters = {_FILTER.fullmatch(name): value for name, value in query.items()}
        return {(match[1], match[2] or "$eq"): value for match, value in filters.items() if match is not None}

    def _row(self, conversation: Conversation) -> dict[str, Any]:
        agent_id, user_id = conversation.agent_id, conversation.user_id
        joined = timestamp(conversation.created_at)
        owner = {"orgId": self._shared.config.organisation_id, "agentId": agent_id, "userId": user_id or ""}
        people = [] if user_id is None else [{"type": "user", "id": user_id, "joined": joined}]
        row: dict[str, Any] = {
            "_id": conversation.id,
            "title": f"Conversation with agent {agent_id}",
            "description": "",
            "agentId": agent_id,
            "conversationType": "chat",
            "status": conversation.status,
            "totalTokens": 0,
            "totalMessages": conversation.total_messages,
            "totalCost": 0,
            "participants": [*people, {"type": "agent", "id": agent_id, "joined": joined}],
            "tags": [],
            "owner": {**owner, "groupId": "", "appId": ""},
            "isDeleted": False,
            "createdBy": user_id or agent_id,
            "updatedBy": user_id or agent_id,
            "createdAt": joined,
            "updatedAt": timestamp(conversation.updated_at),
            "__v": 0,
        }
        last = conversation.last_message
        if last is not None:
            # In v3 it can be the text alone; of which conversations is not known.
            text_alone = self._profile == "v3" and conversation.platform != "portal"
            row["lastMessage"] = last["content"] if text_alone else dict(last)
        if self._profile != "v1":
            row |= {"userId": user_id or "", "userType": "anonymous" if conversation.anonymous else "authenticated"}
        return row


def _paged(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _HIDDEN_FROM_PAGES}


def _matches(row: dict[str, Any], wanted: dict[tuple[str, str], str]) -> bool:
    return all(_holds(row.get(name), operator, value) for (name, operator), value in wanted.items())


def _holds(found: Any, operator: str, value: str) -> bool:
    if operator == "$eq":
        return bool(found == value)
    try:
        left, right = datetime.fromisoformat(str(found)), datetime.fromisoformat(value)
    except ValueError:
        return False
    return {"$gte": left >= right, "$gt": left > right, "$lte": left <= right, "$lt": left < right}.get(operator, False)
