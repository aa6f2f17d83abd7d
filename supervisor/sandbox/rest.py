"""The platform's REST side: tokens, heartbeats, history, with its exact failures."""

import hmac
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from supervisor.sandbox.ids import is_object_id, timestamp
from supervisor.sandbox.shapes import v1_history_row, v2_history_row
from supervisor.sandbox.shared import Shared
from supervisor.sandbox.state import Agent, make_agent
from supervisor.sandbox.tokens import Identity, InvalidTokenError

DEFAULT_PROMPT = "No instruction configured for this agent."
_DEFAULT_MCP_SERVERS: dict[str, dict[str, Any]] = {"Builtin": {"type": "http", "url": "http://localhost:3306"}}
_DEFAULT_PAGE_ROWS = 10
_PAGE_ROWS_LIMIT = 1000


class PlatformError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, *, errors: list[str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.errors = errors


def error_answer(
    path: str,
    status: int,
    message: str,
    *,
    errors: list[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The platform's error body; ``path`` is the one the platform sees, without a proxy's prefix."""
    body: dict[str, Any] = {
        "statusCode": status,
        "message": message,
        "timestamp": timestamp(),
        "path": path,
        "correlationId": str(uuid.uuid4()),
    }
    if errors is not None:
        body["errors"] = errors
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


class PlatformRest:
    """The routes of one profile."""

    def __init__(self, shared: Shared) -> None:
        self._config = shared.config
        self._state = shared.state
        self._tokens = shared.tokens

    def router(self) -> APIRouter:
        """The routes, under the configured prefix."""
        router = APIRouter(prefix=self._config.rest_prefix, tags=["platform"])
        router.post("/agents/{agent_id}/connect")(self.connect)
        own = "/agents/{agent_id}" if self._config.profile == "v1" else "/agents"
        router.post(f"{own}/heartbeat")(self.heartbeat)
        router.post(f"{own}/disconnect")(self.disconnect)
        router.get("/messages/conversation/{conversation_id}")(self.messages)
        if self._config.profile == "v2":
            router.get("/actions/conversation/{conversation_id}")(self.actions)
        return router

    def platform_path(self, request: Request) -> str:
        """The request's path and query as the platform sees it, behind the proxy that strips the prefix."""
        path = request.url.path.removeprefix(self._config.rest_prefix)
        return f"{path}?{request.url.query}" if request.url.query else path

    async def failed(self, request: Request, error: Exception) -> Response:
        """Turn a refusal into the platform's error body."""
        if not isinstance(error, PlatformError):
            return error_answer(self.platform_path(request), 500, "Internal server error")
        return error_answer(self.platform_path(request), error.status, str(error), errors=error.errors)

    async def not_found(self, request: Request, error: Exception) -> Response:
        """Unknown routes, in the platform's words."""
        status = getattr(error, "status_code", 404)
        path = self.platform_path(request)
        message = f"Cannot {request.method} {path}" if status in (404, 405) else str(getattr(error, "detail", error))
        return error_answer(path, 404 if status == 405 else status, message)

    async def connect(self, agent_id: str, request: Request) -> JSONResponse:
        """The token endpoint."""
        secret = _checked_secret(await _json_object(request))
        if not is_object_id(agent_id):
            raise PlatformError(500, "Internal server error")
        agent = self._state.agents.get(agent_id)
        if agent is None and self._config.open_registration:
            agent = make_agent(agent_id, secret)
            self._state.add_agent(agent)
        if agent is None or agent.status == "deleted":
            raise PlatformError(404, f"Agent with ID {agent_id} not found")
        if agent.status == "suspended":
            raise PlatformError(401, "Agent is suspended")
        if agent.secret is None:
            raise PlatformError(401, "Agent has no secret configured")
        if not hmac.compare_digest(agent.secret.encode(), secret.encode()):
            raise PlatformError(401, "Invalid credentials")
        return JSONResponse(self._credentials(agent), status_code=201)

    def _credentials(self, agent: Agent) -> dict[str, Any]:
        seconds = self._config.expires_in_seconds
        token = self._tokens.issue("agent", agent.id, roles=[f"organization.{agent.role}"], expires_in_seconds=seconds)
        bearer = {"Authorization": f"Bearer {token}"}
        servers = _DEFAULT_MCP_SERVERS if agent.mcp_servers is None else agent.mcp_servers
        answer: dict[str, Any] = {"id": agent.id, "name": agent.name} if self._config.profile == "v2" else {}
        answer |= {
            "accessToken": token,
            "expiresIn": int(seconds) if float(seconds).is_integer() else seconds,
            "refreshToken": None,
            "refreshExpiresIn": 0,
            "tokenType": "bearer",
            "mcpServers": {
                name: {"type": "http", **server, "headers": {**server.get("headers", {}), **bearer}}
                for name, server in servers.items()
            },
            "instruction": self._instruction(agent),
        }
        if self._config.profile == "v1":
            return answer | {"settings": agent.settings}
        answer |= {
            "tools": [],
            "allowedFunctions": agent.allowed_functions,
            "framework": "claude-agent-sdk",
            "settings": agent.settings,
            "channels": [],
        }
        return answer if agent.deployment is None else answer | {"deployment": agent.deployment}

    def _instruction(self, agent: Agent) -> dict[str, Any]:
        if agent.instruction is not None:
            return agent.instruction
        empty: dict[str, Any] = {"id": "", "systemPrompt": DEFAULT_PROMPT}
        return empty | {"guidelines": []} if self._config.profile == "v1" else empty

    async def heartbeat(self, request: Request) -> JSONResponse:
        """The optional heartbeat; v1 has the agent's id in the path, v2 takes it from the token."""
        identity = self._authenticate(request)
        status = (await _json_object(request)).get("status")
        if status not in ("idle", "busy"):
            # The list of values is empty in the platform's own answer.
            raise PlatformError(400, "Validation failed", errors=["status must be one of the following values: "])
        self._state.log.add("heartbeat", identity.id, status=status)
        return JSONResponse({"success": True}, status_code=201)

    async def disconnect(self, request: Request) -> JSONResponse:
        """The optional farewell."""
        identity = self._authenticate(request)
        reason = (await _json_object(request)).get("reason")
        self._state.log.add("farewell", identity.id, reason=reason)
        return JSONResponse({"success": True}, status_code=201)

    async def messages(self, conversation_id: str, request: Request) -> JSONResponse:
        """History, oldest first; in v2 there is nothing here."""
        rows: list[dict[str, Any]] = []
        self._check_history(request, conversation_id)
        if self._config.profile == "v1" and (conversation := self._state.conversations.get(conversation_id)):
            rows = [v1_history_row(message) for message in conversation.messages]
        return _page(request, rows)

    async def actions(self, conversation_id: str, request: Request) -> JSONResponse:
        """v2: history in the other shape."""
        self._check_history(request, conversation_id)
        conversation = self._state.conversations.get(conversation_id)
        rows = [
            v2_history_row(message, agent_id=conversation.agent_id, organisation_id=self._config.organisation_id)
            for message in (conversation.messages if conversation else ())
            if conversation is not None
        ]
        return _page(request, rows)

    def _check_history(self, request: Request, conversation_id: str) -> None:
        self._authenticate(request)
        if not is_object_id(conversation_id):
            raise PlatformError(500, "Internal server error")

    def _authenticate(self, request: Request) -> Identity:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() == "bearer":
                return self._tokens.verify(token)
        except InvalidTokenError:
            pass
        raise PlatformError(401, "Unauthorized")


async def _json_object(request: Request) -> Mapping[str, Any]:
    raw = await request.body()
    try:
        body = json.loads(raw) if raw else {}
    except ValueError as error:
        raise PlatformError(400, f"Bad JSON: {error}") from error
    return body if isinstance(body, Mapping) else {}


def _checked_secret(body: Mapping[str, Any]) -> str:
    secret = body.get("secret")
    errors = []
    if not isinstance(secret, str):
        errors.append("secret must be a string")
    if secret in (None, ""):
        errors.append("secret should not be empty")
    if errors or not isinstance(secret, str):
        raise PlatformError(400, "Validation failed", errors=errors)
    return secret


def _page(request: Request, rows: list[dict[str, Any]]) -> JSONResponse:
    page = _whole_number(request.query_params.get("page"), default=1, limit=1_000_000)
    limit = _whole_number(request.query_params.get("limit"), default=_DEFAULT_PAGE_ROWS, limit=_PAGE_ROWS_LIMIT)
    start = (page - 1) * limit
    return JSONResponse({"data": rows[start : start + limit], "total": len(rows), "page": page, "limit": limit})


def _whole_number(text: str | None, *, default: int, limit: int) -> int:
    if text is None or not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        return default
    return min(int(text), limit)
