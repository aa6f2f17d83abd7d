"""The token endpoint, and what it tells an agent of itself."""

import hmac
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from supervisor.sandbox.rest.answers import PlatformError, authenticate, json_object
from supervisor.sandbox.world.ids import is_object_id
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.state import Agent, make_agent

DEFAULT_PROMPT = "No instruction configured for this agent."
_DEFAULT_MCP_SERVERS: dict[str, dict[str, Any]] = {"Builtin": {"type": "http", "url": "http://localhost:3306"}}


class TokenRoutes:
    """``connect``, ``config`` and ``instruction``."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._config = shared.config
        self._state = shared.state
        self._tokens = shared.tokens

    def routes(self) -> Iterator[Route]:
        """The routes of the profile."""
        if self._config.profile == "v3":
            yield "POST", "/agents/connect", self.connect_by_body
        if self._config.profile != "v3" or self._config.deprecated_connect:
            yield "POST", "/agents/{agent_id}/connect", self.connect
        yield "GET", "/agents/{agent_id}/config", self.config
        if self._config.profile != "v1":
            yield "GET", "/agents/{agent_id}/instruction", self.instruction

    async def connect(self, agent_id: str, request: Request) -> JSONResponse:
        """The token endpoint; in v3 the path with the id is deprecated."""
        return self._connect(agent_id, _checked_secret(await json_object(request)))

    async def connect_by_body(self, request: Request) -> JSONResponse:
        """v3's token endpoint: ``{id, secret, version?}``."""
        body = await json_object(request)
        return self._connect(str(body.get("id")), _checked_secret(body))

    def _connect(self, agent_id: str, secret: str) -> JSONResponse:
        if not is_object_id(agent_id):
            raise PlatformError(500, "Internal server error")
        agent = self._state.agents.get(agent_id)
        if agent is None and self._config.open_registration:
            agent = make_agent(agent_id, secret, role=self._config.registration_role)
            self._state.add_agent(agent)
        if agent is None or agent.status == "deleted":
            raise PlatformError(404, f"Agent with ID {agent_id} not found")
        if agent.status == "suspended":
            # Before the secret: no bcrypt check is spent.
            raise PlatformError(401, "Agent is suspended")
        if agent.secret is None:
            raise PlatformError(401, "Agent has no secret configured")
        self._state.log.add("secret_checked", agent_id)
        if not hmac.compare_digest(agent.secret.encode(), secret.encode()):
            raise PlatformError(401, "Invalid credentials")
        if self._config.profile != "v1" and agent.status != "sleep":
            agent.status = "idle"
        seconds = self._config.expires_in_seconds
        token = self._tokens.for_agent(agent.id, role=agent.role, expires_in_seconds=seconds)
        return JSONResponse(self._credentials(agent, token, seconds, bearer=token), status_code=201)

    async def config(self, agent_id: str, request: Request) -> JSONResponse:
        """What the token endpoint tells, without a token and without a secret; suspended agents are told too."""
        return JSONResponse(self._credentials(self._own(agent_id, request), "", 0, bearer="<USER_ACCESS_TOKEN>"))

    async def instruction(self, agent_id: str, request: Request) -> JSONResponse:
        """The instruction as it is now; suspended agents are told too."""
        agent = self._own(agent_id, request)
        instruction = self._instruction(agent)
        return JSONResponse({"id": instruction["id"], "systemPrompt": instruction["systemPrompt"]})

    def _own(self, agent_id: str, request: Request) -> Agent:
        authenticate(self._shared, request)
        agent = self._state.living_agent(agent_id)
        if agent is None:
            raise PlatformError(404, f"Agent with ID {agent_id} not found")
        self._state.log.add("config_read", agent_id)
        return agent

    def _credentials(self, agent: Agent, token: str, seconds: float, *, bearer: str) -> dict[str, Any]:
        answer: dict[str, Any] = {} if self._config.profile == "v1" else {"id": agent.id, "name": agent.name}
        answer |= {
            "accessToken": token,
            "expiresIn": int(seconds) if float(seconds).is_integer() else seconds,
            "refreshToken": None,
            "refreshExpiresIn": 0,
            "tokenType": "bearer",
            "mcpServers": _mcp_servers(agent, bearer),
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
        if agent.deployment is not None:
            answer["deployment"] = agent.deployment
        return answer | self._more_of_v3(agent) if self._config.profile == "v3" else answer

    @staticmethod
    def _more_of_v3(agent: Agent) -> dict[str, Any]:
        return {
            "ragEnabled": False,
            "ragConfig": {},
            "ragCollections": [],
            "agentCode": f"agent-{agent.id[-4:]}",
            "browserApiUrl": "http://localhost:3390",
            "browserApiKey": f"browser-key-of-{agent.id}",
        }

    def _instruction(self, agent: Agent) -> dict[str, Any]:
        if agent.instruction is not None:
            return agent.instruction
        empty: dict[str, Any] = {"id": "", "systemPrompt": DEFAULT_PROMPT}
        return empty | {"guidelines": []} if self._config.profile == "v1" else empty


def _mcp_servers(agent: Agent, bearer: str) -> dict[str, Any]:
    header = {"Authorization": f"Bearer {bearer}"}
    servers = _DEFAULT_MCP_SERVERS if agent.mcp_servers is None else agent.mcp_servers
    return {
        name: {"type": "http", **server, "headers": {**server.get("headers", {}), **header}}
        for name, server in servers.items()
    }


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
