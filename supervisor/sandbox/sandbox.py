"""The sandbox as a whole: builds the parts, starts and stops them, and is the Python side of it."""

import asyncio
import dataclasses
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from supervisor.sandbox.config import SandboxConfig
from supervisor.sandbox.control import Control, ControlError
from supervisor.sandbox.events import Chat
from supervisor.sandbox.faults import Faults
from supervisor.sandbox.gateway import Gateway
from supervisor.sandbox.ids import is_object_id, new_object_id
from supervisor.sandbox.middleware import FaultLine
from supervisor.sandbox.pages import Pages
from supervisor.sandbox.rest import PlatformError, PlatformRest
from supervisor.sandbox.server import PortServer
from supervisor.sandbox.sessions import Rooms, SocketSession
from supervisor.sandbox.state import (
    Agent,
    AgentStatus,
    ConnectAttempt,
    Event,
    PlatformState,
    StoredMessage,
    Subscription,
    TokenRequest,
)
from supervisor.sandbox.tokens import Identity, TokenMint
from supervisor.sandbox.user import LocalSession, SandboxUser

T = TypeVar("T")

_USER_TOKEN_SECONDS = 86_400.0
_ANSWER_SECONDS = 0.05


class Sandbox:
    """A local AIWM platform.

    Use as an async context manager, or call :meth:`start` and :meth:`stop`. Fields of
    :class:`~supervisor.sandbox.config.SandboxConfig` are keyword arguments; the port defaults to a free one::

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
        self.faults = Faults(on_change=self._release_hung)
        self.tokens = TokenMint(organisation_id=config.organisation_id)
        self._state = PlatformState()
        self._rooms = Rooms()
        self._chat = Chat(
            profile=config.profile, organisation_id=config.organisation_id, state=self._state, rooms=self._rooms
        )
        self._gateway = Gateway(
            config, state=self._state, tokens=self.tokens, faults=self.faults, rooms=self._rooms, chat=self._chat
        )
        self._server = PortServer(host=config.host, port=config.port, max_payload_bytes=config.max_payload_bytes)
        self._app = self._build_app()
        self._restarts: set[asyncio.Task[None]] = set()

    def _release_hung(self) -> None:
        self._server.abort_tainted()

    def _build_app(self) -> FaultLine:
        rest = PlatformRest(self.config, state=self._state, tokens=self.tokens)
        app = FastAPI(title="AIWM sandbox", docs_url=None, redoc_url=None, openapi_url=None)
        app.include_router(rest.router())
        control = Control(self)
        app.include_router(control.router())
        app.include_router(Pages().router())
        app.add_exception_handler(ControlError, control.failed)
        app.add_exception_handler(PlatformError, rest.failed)
        app.add_exception_handler(HTTPException, rest.not_found)
        return FaultLine(
            self.config,
            engine=self._gateway.engine.handle_request,
            routes=app,
            faults=self.faults,
            state=self._state,
            tokens=self.tokens,
            reset=self._server.reset,
        )

    # Life

    async def start(self) -> Self:
        """Open the port; a no-op when it is open."""
        await self._server.start(self._app)
        self._state.log.add("started", port=self.port)
        return self

    async def stop(self) -> None:
        """Close the port and drop every socket at once, as a killed platform does (PROTOCOL.md §6); keeps the state."""
        self._gateway.shut_down()
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

    # Addresses

    @property
    def port(self) -> int:
        """The port; known after the first start when it was 0."""
        return self._server.port

    @property
    def running(self) -> bool:
        """Whether the port is open."""
        return self._server.running

    @property
    def base_url(self) -> str:
        """``http://host:port``."""
        return f"http://{self._authority}"

    @property
    def api_url(self) -> str:
        """What API_URL is to be: the base URL with the REST prefix."""
        return f"{self.base_url}{self.config.rest_prefix}"

    @property
    def ws_url(self) -> str:
        """What WS_URL is to be: its path is the last declared namespace, ``/chat`` by default (PROTOCOL.md §2)."""
        return f"ws://{self._authority}{self.config.declared_namespaces[-1]}"

    @property
    def _authority(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.config.host, self.config.host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    # Agents

    def add_agent(
        self,
        agent_id: str,
        secret: str | None,
        *,
        name: str | None = None,
        role: str = "editor",
        status: AgentStatus = "active",
        instruction: str | dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        mcp_servers: dict[str, Any] | None = None,
        deployment: dict[str, Any] | None = None,
        allowed_functions: list[str] | None = None,
    ) -> Agent:
        """Register an agent, or change one (PROTOCOL.md §1).

        Args:
            agent_id: 24 hex digits.
            secret: What the token endpoint wants; None for an agent without one.
            name: Shown on the chat page.
            role: ``owner``, ``admin`` or ``editor`` may send messages, lower ones may not (PROTOCOL.md §4).
            status: ``active``, ``inactive`` (treated the same), ``suspended`` or ``deleted``.
            instruction: The system prompt, or the whole ``instruction`` object.
            settings: The ``settings`` object.
            mcp_servers: ``{name: {url, …}}``; the bearer header is added with each token.
            deployment: v2's LLM proxy, left out of the answer when None.
            allowed_functions: v2's ``allowedFunctions``; empty allows all.

        Raises:
            ValueError: The id is not 24 hex digits.
        """
        if not is_object_id(agent_id):
            raise ValueError(f"an agent id is 24 hex digits, not {agent_id!r}")
        if isinstance(instruction, str):
            instruction = {"id": new_object_id(), "systemPrompt": instruction, "guidelines": []}
        agent = Agent(
            id=agent_id,
            secret=secret,
            name=name or f"Agent {agent_id[-4:]}",
            role=role,
            status=status,
            instruction=instruction,
            settings=settings or {},
            mcp_servers=mcp_servers,
            deployment=deployment,
            allowed_functions=allowed_functions or [],
        )
        self._state.agents[agent_id] = agent
        self._state.log.add("agent_added", agent_id)
        return agent

    @property
    def agents(self) -> dict[str, Agent]:
        """All agents by id; change one in place to change what the platform thinks of it."""
        return self._state.agents

    def sockets_of(self, agent_id: str) -> list[SocketSession]:
        """The registered sockets of an agent."""
        return self._gateway.sockets_of(agent_id)

    def is_online(self, agent_id: str) -> bool:
        """Whether an agent has a registered socket."""
        return bool(self._gateway.sockets_of(agent_id))

    def online_agents(self) -> set[str]:
        """The agents that have a registered socket."""
        return {agent_id for agent_id in self._state.agents if self.is_online(agent_id)}

    # People and messages

    async def user(self, user_id: str | None = None) -> SandboxUser:
        """A person who is online from now on; all hear of it (PROTOCOL.md §3.6)."""
        identity = Identity(kind="user", id=user_id or new_object_id(), expires_at=float("inf"), token_id="")
        session = LocalSession(namespace=self.config.declared_namespaces[0], identity=identity, role="owner")
        self._rooms.add(session)
        self._chat.register(session)
        return SandboxUser(session, profile=self.config.profile, state=self._state, chat=self._chat, rooms=self._rooms)

    def user_token(self, user_id: str, *, expires_in_seconds: float = _USER_TOKEN_SECONDS) -> str:
        """A token with which a person can connect by socket."""
        return self.tokens.issue("user", user_id, roles=["organization.owner"], expires_in_seconds=expires_in_seconds)

    def agent_token(self, agent_id: str, *, expires_in_seconds: float | None = None) -> str:
        """A token for an agent without asking the token endpoint; negative seconds make an expired one."""
        seconds = self.config.expires_in_seconds if expires_in_seconds is None else expires_in_seconds
        roles = [f"organization.{self._state.agents[agent_id].role}"]
        return self.tokens.issue("agent", agent_id, roles=roles, expires_in_seconds=seconds)

    def conversation_of(self, agent_id: str) -> str:
        """v1: the agent's one conversation."""
        return self._state.agent_conversation(agent_id).id

    def messages(self, conversation_id: str) -> list[StoredMessage]:
        """The stored messages of a conversation, in order; empty when it is unknown."""
        conversation = self._state.conversations.get(conversation_id)
        return list(conversation.messages) if conversation else []

    def bridge(self, conversation_id: str, content: str, *, username: str = "somebody#1") -> None:
        """v2: deliver a message from Discord or Telegram, without ``_id`` (PROTOCOL.md §5)."""
        self._chat.bridge(conversation_id, content, username=username)

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

    # Actions that are over at once; the lasting ones are in `faults`

    def kick(self, *agent_ids: str) -> int:
        """Disconnect these agents' sockets (default: everyone's) without a reason (PROTOCOL.md §3.2)."""
        return self._gateway.kick(list(agent_ids) or None)

    def cut(self, *agent_ids: str) -> int:
        """Reset these agents' TCP connections (default: everyone's)."""
        return self._gateway.cut(list(agent_ids) or None)

    def expire_tokens(self, *agent_ids: str) -> int:
        """Let all tokens issued so far to these agents (default: to anyone) count as expired; sockets stay."""
        return self.tokens.expire(agent_ids or None)

    # What happened

    @property
    def token_requests(self) -> list[TokenRequest]:
        """Every request to the token endpoint, in order of arrival."""
        return self._state.token_requests

    @property
    def connects(self) -> list[ConnectAttempt]:
        """Every namespace CONNECT, in order of arrival."""
        return self._state.connects

    @property
    def events(self) -> list[Event]:
        """What happened, oldest first: online, offline, message, refused, typing, read, join, leave, heartbeat …"""
        return list(self._state.log.events)

    def subscribe(self) -> Subscription:
        """The events from now on, as an async iterator and context manager."""
        return self._state.log.subscribe()

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
            missing = sorted(wanted - self.online_agents())
            raise TimeoutError(f"{len(missing)} agents still offline after {timeout} s: {missing[:5]}") from None


async def serve(config: SandboxConfig) -> None:
    """Run a sandbox until cancelled."""
    async with Sandbox(config):
        await asyncio.Event().wait()
