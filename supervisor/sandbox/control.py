"""The sandbox's own HTTP side, under ``/sandbox``: agents, people, fault switches. The platform has none of it.

The switches can stop a fleet, so a web page from elsewhere must not reach them: requests whose ``Host`` is not this
machine (while the sandbox listens on loopback) or whose ``Origin`` is another one are refused.
"""

import ipaddress
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from supervisor.sandbox.faults import UnknownFaultError, switch_named, switch_names
from supervisor.sandbox.ids import is_object_id, new_object_id
from supervisor.sandbox.state import Agent, AgentStatus

if TYPE_CHECKING:
    from supervisor.sandbox.sandbox import Sandbox

_BODY_LIMIT_BYTES = 1_000_000
_DOWN_LIMIT_SECONDS = 3600.0

B = TypeVar("B", bound=msgspec.Struct)


class ControlError(Exception):
    """A control request cannot be done; the message says what to change."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NewAgent(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Body of ``POST /sandbox/agents``; see :func:`supervisor.sandbox.state.make_agent`."""

    id: str
    secret: str | None = None
    name: str | None = None
    role: str = "editor"
    status: AgentStatus = "active"
    instruction: str | dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    mcp_servers: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None
    allowed_functions: list[str] | None = None


class NewUser(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Body of ``POST /sandbox/users``."""

    user_id: str | None = None


class Chosen(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which agents an action concerns; None is everyone."""

    agents: list[str] | None = None


class Restart(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Body of ``POST /sandbox/restart``."""

    down_seconds: float = 0.0


class Control:
    """The routes; every answer to a bad request is ``{"error": …}``."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox

    def router(self) -> APIRouter:
        """The routes under ``/sandbox``."""
        router = APIRouter(prefix="/sandbox", tags=["sandbox"], dependencies=[Depends(self._check_origin)])
        routes: tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...] = (
            ("GET", "/info", self.info),
            ("GET", "/agents", self.list_agents),
            ("POST", "/agents", self.add_agent),
            ("DELETE", "/agents/{agent_id}", self.delete_agent),
            ("POST", "/agents/{agent_id}/conversation", self.open_conversation),
            ("GET", "/conversations/{conversation_id}/messages", self.list_messages),
            ("POST", "/users", self.add_user),
            ("GET", "/faults", self.list_faults),
            ("PUT", "/faults/{name}", self.set_fault),
            ("DELETE", "/faults/{name}", self.clear_fault),
            ("DELETE", "/faults", self.clear_faults),
            ("POST", "/kick", self.kick),
            ("POST", "/cut", self.cut),
            ("POST", "/expire-tokens", self.expire_tokens),
            ("POST", "/restart", self.restart),
        )
        for method, path, endpoint in routes:
            router.add_api_route(path, endpoint, methods=[method])
        return router

    async def failed(self, _: Request, error: Exception) -> Response:
        """Turn a refusal into its answer."""
        status = error.status if isinstance(error, ControlError) else 500
        return JSONResponse({"error": str(error)}, status_code=status)

    async def _check_origin(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if _is_loopback(self._sandbox.config.host) and not _is_loopback(urllib.parse.urlsplit(f"//{host}").hostname):
            raise ControlError(403, f"this sandbox answers control requests to this machine only, not to host {host!r}")
        origin = request.headers.get("origin")
        if origin is not None and urllib.parse.urlsplit(origin).netloc != host:
            raise ControlError(403, f"control requests from another origin ({origin}) are refused")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise ControlError(403, "control requests from another site are refused")

    async def info(self) -> Response:
        """What the chat page needs to connect."""
        config = self._sandbox.config
        return JSONResponse(
            {
                "profile": config.profile,
                "namespace": config.declared_namespaces[0],
                "namespaces": list(config.declared_namespaces),
                "enginePath": config.engine_path,
                "apiUrl": self._sandbox.api_url,
                "wsUrl": self._sandbox.ws_url,
            }
        )

    async def list_agents(self) -> Response:
        """All agents but deleted ones, never with secrets."""
        agents = self._sandbox.agents.values()
        return JSONResponse({"agents": [self._shown(agent) for agent in agents if agent.status != "deleted"]})

    async def add_agent(self, request: Request) -> Response:
        """Register or change an agent."""
        new = await _body(request, NewAgent)
        if not is_object_id(new.id):
            raise ControlError(422, f"id must be 24 hex digits, not {new.id!r}")
        fields = {name: getattr(new, name) for name in NewAgent.__struct_fields__ if name not in ("id", "secret")}
        agent = self._sandbox.add_agent(new.id, new.secret, **fields)
        return JSONResponse(self._shown(agent), status_code=201)

    async def delete_agent(self, agent_id: str) -> Response:
        """Let the platform forget an agent; its sockets are kicked."""
        self._known(agent_id).status = "deleted"
        self._sandbox.kick(agent_id)
        return Response(status_code=204)

    async def open_conversation(self, agent_id: str) -> Response:
        """v1: the agent's conversation, made when there is none yet, for the page to join."""
        self._known(agent_id)
        if self._sandbox.config.profile != "v1":
            raise ControlError(409, "in v2 a user emits agent:connect instead")
        return JSONResponse({"conversationId": self._sandbox.conversation_of(agent_id)}, status_code=201)

    async def list_messages(self, conversation_id: str) -> Response:
        """What was said, for the page: the documents of ``message:new`` and who sent them."""
        messages = self._sandbox.messages(conversation_id)
        return JSONResponse(
            {
                "messages": [
                    {**message.document, "createdAt": message.created_at, "sender": message.sender_kind}
                    for message in messages
                ]
            }
        )

    async def add_user(self, request: Request) -> Response:
        """A token for a person, and the person's id."""
        user_id = (await _body(request, NewUser)).user_id or new_object_id()
        if not is_object_id(user_id) or user_id in self._sandbox.agents:
            raise ControlError(422, "userId must be 24 hex digits and not an agent's id")
        return JSONResponse({"userId": user_id, "token": self._sandbox.tokens.for_user(user_id)}, status_code=201)

    def _known(self, agent_id: str) -> Agent:
        agent = self._sandbox.agents.get(agent_id)
        if agent is None or agent.status == "deleted":
            raise ControlError(404, f"there is no agent {agent_id}")
        return agent

    def _shown(self, agent: Agent) -> dict[str, Any]:
        return {
            "id": agent.id,
            "name": agent.name,
            "role": agent.role,
            "status": agent.status,
            "online": self._sandbox.is_online(agent.id),
            "sockets": len(self._sandbox.sockets_of(agent.id)),
        }

    async def list_faults(self) -> Response:
        """Which switches there are, which are on, and how often each has struck."""
        faults = self._sandbox.faults
        return JSONResponse({"available": switch_names(), "active": faults.active(), "struck": dict(faults.struck)})

    async def set_fault(self, name: str, request: Request) -> Response:
        """Switch one on."""
        fault = await _body(request, _switch(name))
        try:
            self._sandbox.faults.set(fault)
        except ValueError as error:
            raise ControlError(422, str(error)) from error
        return await self.list_faults()

    async def clear_fault(self, name: str) -> Response:
        """Switch one off."""
        self._sandbox.faults.clear(_switch(name))
        return await self.list_faults()

    async def clear_faults(self) -> Response:
        """Switch all off."""
        self._sandbox.faults.clear()
        return await self.list_faults()

    async def kick(self, request: Request) -> Response:
        """Disconnect sockets without a reason."""
        return JSONResponse({"kicked": self._sandbox.kick(*await self._chosen(request))})

    async def cut(self, request: Request) -> Response:
        """Reset TCP connections."""
        return JSONResponse({"cut": self._sandbox.cut(*await self._chosen(request))})

    async def expire_tokens(self, request: Request) -> Response:
        """Let the tokens issued so far count as expired."""
        return JSONResponse({"expired": self._sandbox.tokens.expire(*await self._chosen(request))})

    async def restart(self, request: Request) -> Response:
        """Go down, dropping every socket, and come back on the same port."""
        seconds = (await _body(request, Restart)).down_seconds
        if not 0 <= seconds <= _DOWN_LIMIT_SECONDS:
            raise ControlError(422, f"downSeconds must be between 0 and {_DOWN_LIMIT_SECONDS:.0f}")
        self._sandbox.restart_soon(seconds)
        return JSONResponse({"downSeconds": seconds}, status_code=202)

    async def _chosen(self, request: Request) -> list[str]:
        agents = (await _body(request, Chosen)).agents
        if agents is not None and not agents:
            raise ControlError(422, "agents must not be empty; leave it out to mean everyone")
        return [self._known(agent_id).id for agent_id in agents or ()]


def _switch(name: str) -> Any:
    try:
        return switch_named(name)
    except UnknownFaultError as error:
        raise ControlError(404, str(error)) from error


async def _body(request: Request, shape: type[B]) -> B:
    raw = await request.body()
    if len(raw) > _BODY_LIMIT_BYTES:
        raise ControlError(413, f"the body is larger than {_BODY_LIMIT_BYTES} bytes")
    try:
        return msgspec.json.decode(raw or b"{}", type=shape)
    except msgspec.ValidationError as error:
        raise ControlError(422, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(400, f"the body is not JSON: {error}") from error


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
