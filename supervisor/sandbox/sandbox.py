"""The sandbox as a whole: builds the parts, starts and stops them, and is the Python side of it."""

import asyncio
import dataclasses
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from supervisor.sandbox.control import ControlError, control_failed, control_routes, guard
from supervisor.sandbox.gateways.endpoints import AGENTS_NAMESPACE, Endpoints
from supervisor.sandbox.middleware import FaultLine
from supervisor.sandbox.pages import Pages
from supervisor.sandbox.port import PortServer
from supervisor.sandbox.rest import Failures, PlatformError, platform_routes
from supervisor.sandbox.sockets import SocketServer, SocketSession
from supervisor.sandbox.user import LocalSession, SandboxUser
from supervisor.sandbox.world.config import SandboxConfig
from supervisor.sandbox.world.ids import new_object_id
from supervisor.sandbox.world.log import Event
from supervisor.sandbox.world.model import Provider
from supervisor.sandbox.world.routes import built_routes
from supervisor.sandbox.world.shared import Shared
from supervisor.sandbox.world.state import Agent, AgentFields, StoredMessage, make_agent
from supervisor.sandbox.world.switchboard import Faults
from supervisor.sandbox.world.tokens import Identity

T = TypeVar("T")

_ANSWER_SECONDS = 0.05


class Sandbox:
    """A local AIWM platform.

    Use as an async context manager, or call :meth:`start` and :meth:`stop`. Fields of
    :class:`~supervisor.sandbox.world.config.SandboxConfig` are keyword arguments; the port defaults to a free one::

        async with Sandbox(profile="v1") as sandbox:
            sandbox.add_agent("a" * 24, "secret")
            user = await sandbox.user()
            conversation = await user.open("a" * 24)
            message = await user.say(conversation, "hello")
            replies = await user.wait_for_reply(conversation, after=message)
    """

    def __init__(self, config: SandboxConfig | None = None, **settings: Any) -> None:
        if config is None:
            config = SandboxConfig(**{"port": 0, **settings})
        elif settings:
            config = dataclasses.replace(config, **settings)
        self.config = config
        #: The fault switches, also behind ``/sandbox/faults``.
        self.faults = Faults()
        self._shared = Shared(config, self.faults)
        self._state = self._shared.state
        self._endpoints = Endpoints(self._shared)
        self._sockets = SocketServer(self._shared, self._endpoints)
        self._server = PortServer(config, engine_paths=self._endpoints.engine_paths)
        self.faults.on_change = self._server.abort_tainted
        self._app = FaultLine(
            self._shared,
            engine=self._sockets.engine.handle_request,
            engine_paths=self._endpoints.engine_paths,
            routes=build_routes(self, self._shared),
            reset=self._server.reset,
        )
        self._restarts: set[asyncio.Task[None]] = set()
        #: Makes and judges tokens.
        self.tokens = self._shared.tokens
        #: Where the platform finds agents, and how it forgets them.
        self.presence = self._shared.presence
        #: Works and reminders that heartbeats bring.
        self.works = self._shared.works
        #: People on Discord, Telegram and their like.
        self.bridge = self._shared.bridge
        #: The made-up model behind the LLM proxy.
        self.model = self._shared.model
        #: v3: what agents have uploaded.
        self.files = self._shared.files
        #: All agents by id; change one in place to change what the platform thinks of it.
        self.agents = self._state.agents
        #: All conversations by id.
        self.conversations = self._state.conversations
        #: Every request to the token endpoint, in order of arrival.
        self.token_requests = self._state.token_requests
        #: Every namespace CONNECT, in order of arrival.
        self.connects = self._state.connects
        #: What happened: online, offline, message, refused, typing, read, join, leave, heartbeat …
        self.log = self._state.log

    async def start(self) -> Self:
        """Open the port; a no-op when it is open."""
        await self._server.start(self._app)
        self._state.log.add("started", port=self.port)
        return self

    async def stop(self) -> None:
        """Close the port and drop every socket at once, as a killed platform does; keeps the state."""
        self._sockets.shut_down()
        await self._server.stop()

    async def restart(self, down_seconds: float = 0.0) -> None:
        """Stop, stay down for ``down_seconds``, start again on the same port."""
        await self.stop()
        if down_seconds > 0:
            await asyncio.sleep(down_seconds)
        await self.start()

    def restart_soon(self, down_seconds: float) -> None:
        """As :meth:`restart`, without waiting: for callers that the restart would cut off."""

        async def restart() -> None:
            # The answer to the caller goes out first.
            await asyncio.sleep(_ANSWER_SECONDS)
            await self.restart(down_seconds)

        task = asyncio.create_task(restart())
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        for task in list(self._restarts):
            task.cancel()
        await asyncio.gather(*self._restarts, return_exceptions=True)
        await self.stop()

    @property
    def port(self) -> int:
        """The port; known after the first start when it was 0."""
        return self._server.port

    @property
    def base_url(self) -> str:
        """``http://host:port``."""
        return f"http://{_authority(self.config.host, self.port)}"

    @property
    def api_url(self) -> str:
        """What API_URL is to be: the base URL with the REST prefix."""
        return f"{self.base_url}{self.config.rest_prefix}"

    @property
    def ws_url(self) -> str:
        """What WS_URL is to be: its path is the last declared namespace, ``/chat`` in v1, ``/ws/chat`` in v2.

        In v3 it is the agents' own namespace (ii), or leads to the agents' engine path (iii).
        """
        path = self.config.declared_namespaces[-1]
        if self.config.profile == "v3" and self.config.stage != "i":
            path = self.config.agents_path.removesuffix("/socket.io") if self.config.apart else AGENTS_NAMESPACE
        return f"ws://{_authority(self.config.host, self.port)}{path}"

    def add_agent(self, agent_id: str, secret: str | None, **fields: Unpack[AgentFields]) -> Agent:
        """Register an agent, or change one; the arguments are those of :func:`make_agent`.

        Raises:
            ValueError: The id is not 24 hex digits.
        """
        agent = make_agent(agent_id, secret, **fields)
        self._state.add_agent(agent)
        return agent

    def sockets_of(self, agent_id: str) -> list[SocketSession]:
        """The registered sockets of an agent."""
        return self._sockets.sockets_of(agent_id)

    def is_online(self, agent_id: str) -> bool:
        """Whether an agent has a registered socket."""
        return bool(self._sockets.sockets_of(agent_id))

    async def user(self, user_id: str | None = None, *, visiting: str | None = None) -> SandboxUser:
        """A person who is online from now on, of which all hear.

        Args:
            user_id: The person's id; None makes one.
            visiting: v2: the agent whom an anonymous person talks to, instead of a user of the platform.
        """
        person_id, never = user_id or new_object_id(), float("inf")
        identity = (
            Identity("user", person_id, never, "")
            if visiting is None
            else Identity("anonymous", person_id, never, "", role="", agent_id=visiting)
        )
        session = LocalSession(self._endpoints.people, namespace=self.config.declared_namespaces[0], identity=identity)
        self._shared.rooms.add(session)
        session.gateway.register(session)
        return SandboxUser(session, self._shared)

    def conversation_of(self, agent_id: str) -> str:
        """v1: the agent's one conversation."""
        return self._state.conversation_of(agent_id).id

    def messages(self, conversation_id: str) -> list[StoredMessage]:
        """The stored messages of a conversation, in order, refused ones too; empty when it is unknown."""
        return list(self._state.messages(conversation_id))

    def deploy(self, agent_id: str, provider: Provider = "openai", model: str = "made-up-1") -> None:
        """v2: give an agent a model behind the LLM proxy; its next token tells it."""
        deployment = self.model.deploy(provider, model)
        base = f"{self.api_url}/deployments/{deployment.id}/inference"
        self.agents[agent_id].deployment = {
            "id": deployment.id,
            "provider": provider,
            "model": model,
            "baseAPIEndpoint": base,
            "apiEndpoint": f"{base}{deployment.path}",
        }

    def emit(self, agent_id: str, event: str, payload: Any) -> int:
        """Send any event to the sockets of an agent, however malformed; returns to how many."""
        sockets = self.sockets_of(agent_id)
        for session in sockets:
            session.emit(event, payload)
        return len(sockets)

    def send_raw(self, agent_id: str, frame: str | bytes) -> int:
        """Send any Engine.IO packet (text) or binary frame to the sockets of an agent; returns to how many."""
        sockets = self.sockets_of(agent_id)
        for session in sockets:
            session.engine.post(frame) if isinstance(frame, str) else session.engine.post_binary(frame)
        return len(sockets)

    def kick(self, *agent_ids: str) -> int:
        """Disconnect these agents' sockets (default: everyone's) without a reason."""
        return self._sockets.kick(list(agent_ids) or None)

    def cut(self, *agent_ids: str) -> int:
        """Reset these agents' TCP connections (default: everyone's)."""
        return self._sockets.cut(list(agent_ids) or None)

    @property
    def events(self) -> list[Event]:
        """What is in :attr:`log`, oldest first."""
        return list(self.log.events)

    async def wait_until(self, predicate: Callable[[], T], timeout: float = 10.0) -> T:
        """The first true value of ``predicate``, asked anew after each event on the sandbox.

        Raises:
            TimeoutError: It was still false after ``timeout`` seconds.
        """
        return await self._state.log.wait_until(predicate, timeout)

    async def wait_online(self, *agent_ids: str, timeout: float = 10.0) -> None:
        """Wait until these agents (default: all that are registered here) are online.

        Raises:
            TimeoutError: Some were still offline; it names up to five.
        """
        wanted = set(agent_ids) or set(self._state.agents)
        try:
            await self.wait_until(lambda: all(map(self.is_online, wanted)), timeout)
        except TimeoutError:
            missing = sorted(agent_id for agent_id in wanted if not self.is_online(agent_id))
            raise TimeoutError(f"{len(missing)} agents still offline after {timeout} s: {missing[:5]}") from None


def build_routes(sandbox: Sandbox, shared: Shared) -> Starlette:
    """The platform's REST side, the sandbox's own, and the chat page."""
    failures = Failures(shared.config.rest_prefix)
    app = Starlette(
        routes=[
            *built_routes(shared.config.rest_prefix, platform_routes(shared)),
            *built_routes("/sandbox", control_routes(sandbox, shared), check=guard(shared.config.host)),
            *built_routes("", Pages().routes()),
        ],
        exception_handlers={
            ControlError: control_failed,
            PlatformError: failures.refused,
            HTTPException: failures.not_found,
        },
    )
    # An engine path that is not there is a 404, whatever page has nearly its name.
    app.router.redirect_slashes = False
    return app


def _authority(host: str, port: int) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
