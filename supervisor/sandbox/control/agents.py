"""Agents: which there are, and what the platform does with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from supervisor.sandbox.control.requests import ControlError, body_of, chosen_agents, known_agent
from supervisor.sandbox.world.ids import is_object_id
from supervisor.sandbox.world.model import Provider
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.state import Agent, AgentStatus, AgentType

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox


class NewAgent(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Body of ``POST /sandbox/agents``; see :func:`supervisor.sandbox.world.state.make_agent`."""

    id: str
    secret: str | None = None
    name: str | None = None
    role: str = "editor"
    status: AgentStatus = "inactive"
    type: AgentType = "engineer"
    instruction: str | dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    mcp_servers: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None
    allowed_functions: list[str] | None = None


class NewDeployment(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of ``POST /sandbox/agents/{id}/deployment``."""

    provider: Provider = "openai"
    model: str = "made-up-1"


class Command(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True, omit_defaults=True):
    """Body of ``POST /sandbox/agents/{id}/command``: v3's ``agent:command``, as the agent's sockets get it."""

    type: str
    conversation_id: str | None = None
    reason: str | None = None


class AgentControl:
    """Routes under ``/sandbox/agents``, and actions on agents' sockets and tokens."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> Sequence[Route]:
        """The routes."""
        return (
            ("GET", "/agents", self.list_agents),
            ("POST", "/agents", self.add_agent),
            ("DELETE", "/agents/{agent_id}", self.delete_agent),
            ("POST", "/agents/{agent_id}/stop", self.stop_agent),
            ("POST", "/agents/{agent_id}/start", self.start_agent),
            ("POST", "/agents/{agent_id}/deployment", self.deploy),
            ("POST", "/agents/{agent_id}/command", self.command),
            ("POST", "/forget", self.forget),
            ("POST", "/kick", self.kick),
            ("POST", "/cut", self.cut),
            ("POST", "/expire-tokens", self.expire_tokens),
        )

    async def list_agents(self) -> Response:
        """All agents but deleted ones, never with secrets."""
        agents = self._sandbox.agents.values()
        return JSONResponse({"agents": [self._shown(agent) for agent in agents if agent.status != "deleted"]})

    async def add_agent(self, request: Request) -> Response:
        """Register or change an agent."""
        new = await body_of(request, NewAgent)
        if not is_object_id(new.id):
            raise ControlError(422, f"id must be 24 hex digits, not {new.id!r}")
        fields: dict[str, Any] = {name: getattr(new, name) for name in NewAgent.__struct_fields__}
        agent = self._sandbox.add_agent(fields.pop("id"), fields.pop("secret"), **fields)
        return JSONResponse(self._shown(agent), status_code=201)

    async def delete_agent(self, agent_id: str) -> Response:
        """Delete an agent: it gets no token any more. Its sockets stay, as on the platform; `kick` ends them."""
        known_agent(self._sandbox, agent_id).status = "deleted"
        return Response(status_code=204)

    async def stop_agent(self, agent_id: str) -> Response:
        """Suspend an agent: it gets no token any more. Its sockets stay, as on the platform; `kick` ends them."""
        return self._set_status(agent_id, "suspended")

    async def start_agent(self, agent_id: str) -> Response:
        """End an agent's suspension."""
        return self._set_status(agent_id, "inactive")

    def _set_status(self, agent_id: str, status: Literal["suspended", "inactive"]) -> Response:
        agent = known_agent(self._sandbox, agent_id)
        agent.status = status
        return JSONResponse(self._shown(agent))

    async def deploy(self, agent_id: str, request: Request) -> Response:
        """Give an agent a made-up model behind the LLM proxy."""
        agent = known_agent(self._sandbox, agent_id)
        wanted = await body_of(request, NewDeployment)
        self._sandbox.deploy(agent.id, wanted.provider, wanted.model)
        return JSONResponse({"deployment": agent.deployment}, status_code=201)

    async def command(self, agent_id: str, request: Request) -> Response:
        """Send an ``agent:command`` to an agent's sockets."""
        agent = known_agent(self._sandbox, agent_id)
        command = msgspec.to_builtins(await body_of(request, Command))
        return JSONResponse({"sockets": self._sandbox.emit(agent.id, "agent:command", command)})

    async def forget(self, request: Request) -> Response:
        """Let the platform forget where agents are, of all: a Redis that lost its data. Open sockets stay."""
        chosen = await chosen_agents(self._sandbox, request)
        self._sandbox.presence.forget(*chosen)
        return JSONResponse({"forgotten": chosen or "everyone"})

    async def kick(self, request: Request) -> Response:
        """Disconnect sockets without a reason."""
        return JSONResponse({"kicked": self._sandbox.kick(*await chosen_agents(self._sandbox, request))})

    async def cut(self, request: Request) -> Response:
        """Reset TCP connections."""
        return JSONResponse({"cut": self._sandbox.cut(*await chosen_agents(self._sandbox, request))})

    async def expire_tokens(self, request: Request) -> Response:
        """Let the tokens issued so far count as expired."""
        return JSONResponse({"expired": self._sandbox.tokens.expire(*await chosen_agents(self._sandbox, request))})

    def _shown(self, agent: Agent) -> dict[str, Any]:
        return {
            "id": agent.id,
            "name": agent.name,
            "role": agent.role,
            "status": agent.status,
            "online": self._sandbox.is_online(agent.id),
            "sockets": len(self._sandbox.sockets_of(agent.id)),
            "findable": bool(self._sandbox.presence.sockets_of(agent.id)),
        }
