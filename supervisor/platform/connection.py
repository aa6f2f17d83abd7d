"""One socket's life: from the attempt to connect, through registration, to its loss (DESIGN §3, PROTOCOL §2 to §5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from supervisor.core.errors import (
    AckTimeoutError,
    ConnectError,
    ConnectionLostError,
    PlatformError,
    SendRefusedError,
    Verdict,
)
from supervisor.core.tasks import TaskSet
from supervisor.platform.gates import HostGate
from supervisor.platform.sends import Sends
from supervisor.platform.tokens import Grant
from supervisor.platform.transport import Socket, Target, Transport
from supervisor.protocol import InvalidEventError, Presence, parse_event
from supervisor.telemetry.logs import get_logger

#: Namespaces that deployments of the platform were seen to use (PROTOCOL §2). The root is never one of them.
KNOWN_NAMESPACES = ("/chat", "/ws", "/ws/chat")
NO_CONVERSATION = "No conversation found"
#: How long an acknowledged event may take to prove that a presence was this socket's.
PROOF_SECONDS = 5.0

OnEvent = Callable[["Connection", str, object], None]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how one agent connects.

    Args:
        namespaces: candidates, the likeliest first; only ``Invalid namespace`` moves on to the next.
    """

    url: str
    namespaces: tuple[str, ...]
    engine_path: str
    token_via: str
    proxy: str | None

    @property
    def host(self) -> str:
        """The host whose rates apply."""
        return urlsplit(self.url).netloc

    def target(self, namespace: str) -> Target:
        """The transport's target for one candidate."""
        return Target(self.url, namespace, self.engine_path, self.token_via, self.proxy)  # type: ignore[arg-type]


def namespace_candidates(ws_url: str, ws_namespace: str) -> tuple[str, ...]:
    """The namespaces to try for a URL (DESIGN §3): the one that is set, or the URL's path and the known ones."""
    if ws_namespace != "auto":
        return (ws_namespace,)
    path = urlsplit(ws_url).path.rstrip("/")
    return tuple(dict.fromkeys([path, *KNOWN_NAMESPACES])) if path else KNOWN_NAMESPACES


def refusal_verdict(error: str) -> Verdict:
    """What a refused send asks for (PROTOCOL §4): most refusals are final, the platform's own trouble is not."""
    permanent = (
        "Message validation failed",
        "Action validation failed",
        "Invalid attachments",
        "You do not have permission",
        "Cast to ",
        "Entity with ID",
        "Cannot read properties",
        "E11000",
    )
    return Verdict.REJECT if error.startswith(permanent) else Verdict.RETRY


class Connection:
    """A registered socket of one agent. Made by :meth:`open`; over when ``closed`` is done.

    Args:
        on_event: gets every event but the answers to our own sends, in order; must only enqueue.
    """

    def __init__(self, agent_id: str, *, on_event: OnEvent) -> None:
        self.agent_id = agent_id
        self.conversation_id: str | None = None
        self.namespace = ""
        self._on_event = on_event
        self._grant: Grant | None = None
        self._registered = asyncio.get_running_loop().create_future()
        self._socket: Socket | None = None
        self._sends = Sends(agent_id)
        self._chores = TaskSet()
        self._member_since: dict[str, float] = {}
        #: Set once it is in all conversations that it is to be in.
        self.joined = asyncio.Event()
        self._log = get_logger("supervisor.connection").bind(agent=agent_id)

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    async def open(
        cls,
        transport: Transport,
        endpoint: Endpoint,
        grants: Callable[[], Awaitable[Grant]],
        *,
        agent_id: str,
        gate: HostGate,
        on_event: OnEvent,
        timeout: float,
        prove: bool,
        on_connected: Callable[[], None],
    ) -> Connection:
        """Connect and wait until the platform has registered the agent.

        Args:
            grants: gives a valid token; asked when it is this attempt's turn, for a turn may be longer in coming than a
                token lasts (RELIABILITY R16).
            timeout: seconds for the connect, and again for the registration.
            prove: ask for an acknowledged event on this socket too, because another socket of the agent is open or
                was a moment ago and a presence does not say whose it is (DESIGN §3).
            on_connected: called between the two.

        Raises:
            ConnectError: no candidate led to a registration; nothing is left open.
            TokenError, HandlerError: there was no token, or the handler would not start with it.
        """
        refused: ConnectError | None = None
        for namespace in endpoint.namespaces:
            connection = cls(agent_id, on_event=on_event)
            try:
                await connection._connect(transport, endpoint.target(namespace), grants, gate, timeout)
                on_connected()
                await connection._register(timeout, prove=prove)
            except ConnectError as error:
                await connection.close()
                if not error.invalid_namespace:
                    raise
                refused = error
            except BaseException:
                await connection.close()
                raise
            else:
                return connection
        tried = ", ".join(endpoint.namespaces)
        raise ConnectError(
            f"Invalid namespace; tried {tried}: set SUPERVISOR_WS_NAMESPACE", Verdict.REJECT
        ) from refused

    async def _connect(
        self,
        transport: Transport,
        target: Target,
        grants: Callable[[], Awaitable[Grant]],
        gate: HostGate,
        timeout: float,
    ) -> None:
        async def attempt() -> None:
            self._grant = await grants()
            # Kept here, not by the caller: one that is cancelled at this moment still has it to close.
            self._socket = await transport.open(
                target, self.grant.token, agent_id=self.agent_id, on_event=self._receive, timeout=timeout
            )

        try:
            # The transport bounds itself; the pool's own bound only catches what that misses.
            await gate.connect(attempt, timeout=timeout + 5)
        except TimeoutError:
            raise ConnectError(f"no connection within {timeout:g} s") from None
        self.namespace = target.namespace

    async def _register(self, timeout: float, *, prove: bool) -> None:
        """Wait for the agent's own presence: only that proves that it is registered (PROTOCOL §3)."""
        socket = self.socket
        either: list[asyncio.Future[Any]] = [self._registered, socket.closed]
        done, _ = await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if socket.closed in done:
            raise self._lost_before_registered(socket.closed.result())
        if not done:
            raise ConnectError(f"connected, but no presence of its own within {timeout:g} s", deaf=True)
        if prove:
            await self._prove()

    @staticmethod
    def _lost_before_registered(reason: str) -> ConnectError:
        kicked = reason == "server disconnect"
        verdict = Verdict.REAUTHENTICATE if kicked else Verdict.RETRY
        said = "the platform closed the connection without a reason" if kicked else f"connection lost: {reason}"
        return ConnectError(f"{said}, before the agent was registered", verdict, kicked=kicked)

    async def _prove(self) -> None:
        conversation = self.conversation_id or "0" * 24
        try:
            await self.socket.call("conversation:online", {"conversationId": conversation}, PROOF_SECONDS)
        except AckTimeoutError:
            # A server that acknowledges nothing can prove nothing; that the socket stayed open has to do.
            return
        except ConnectionLostError as error:
            raise self._lost_before_registered(error.reason) from None

    @property
    def grant(self) -> Grant:
        """The token that it was opened with."""
        if self._grant is None:
            raise ConnectionLostError("not connected")
        return self._grant

    # ── the open socket ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def socket(self) -> Socket:
        """The transport's socket."""
        if self._socket is None:
            raise ConnectionLostError("not connected")
        return self._socket

    @property
    def closed(self) -> asyncio.Future[str]:
        """Done with a short reason once the socket is gone."""
        return self.socket.closed

    @property
    def connected(self) -> bool:
        """Whether events can be sent."""
        return self._socket is not None and self._socket.connected

    @property
    def max_payload(self) -> int:
        """The largest frame the platform takes, in bytes."""
        return self.socket.max_payload

    def watch_presences(self, wanted: bool) -> None:
        """Whether the presences of others are delivered: N agents cause N² of them (PROTOCOL §3)."""
        self.socket.keeps_presences = wanted

    def emit(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send an event that nobody waits for: typing, read receipts. Lost with the connection."""
        if self._socket is not None:
            self._socket.emit(event, payload)

    async def join(self, conversation_id: str, timeout: float) -> None:
        """Join a conversation (v2 forgets them at each reconnect, PROTOCOL §3).

        Raises:
            SendRefusedError: the platform will not have us there.
            ConnectionLostError, AckTimeoutError: whether we are in it is unknown.
        """
        await self._ask("conversation:join", conversation_id, timeout)

    def member_since(self, conversation_id: str) -> float | None:
        """From when on it has certainly been in a conversation (monotonic seconds); None where that is not known."""
        return self._member_since.get(conversation_id)

    def note_member(self, conversation_id: str, at: float) -> None:
        """It joined a conversation, or a message came: it is there since ``at`` (monotonic seconds) at the latest."""
        self._member_since.setdefault(conversation_id, at)

    async def leave(self, conversation_id: str, timeout: float) -> None:
        """Leave a conversation; raises as :meth:`join` does."""
        self._member_since.pop(conversation_id, None)
        await self._ask("conversation:leave", conversation_id, timeout)

    async def online_users(self, conversation_id: str, timeout: float) -> list[str]:
        """The ids of the users in a conversation; raises as :meth:`join` does."""
        answer = await self._ask("conversation:online", conversation_id, timeout)
        users = answer.get("onlineUsers")
        return [user for user in users if isinstance(user, str)] if isinstance(users, list) else []

    async def _ask(self, event: str, conversation_id: str, timeout: float) -> Mapping[str, Any]:
        answer = await self.socket.call(event, {"conversationId": conversation_id}, timeout)
        if not isinstance(answer, Mapping):
            raise SendRefusedError(f"{event} was answered with {type(answer).__name__}")
        if answer.get("success") is False:
            error = str(answer.get("error", "no reason given"))
            raise SendRefusedError(error, refusal_verdict(error))
        return answer

    async def send(self, message_id: str, conversation_id: str, body: bytes, timeout: float) -> str | None:
        """Send one message and wait until the platform has it.

        ``No conversation found`` is answered by a join and one resend (PROTOCOL §4); ``E11000`` that names our own
        id means that an earlier send of it arrived.

        Args:
            message_id: the ``_id`` that ``body`` carries.
            body: the message as JSON.

        Returns:
            The platform's id of the message, where it told one.

        Raises:
            SendRefusedError: with REJECT where trying again is pointless.
            ConnectionLostError, AckTimeoutError: whether it arrived is unknown.
        """
        outcome = await self._sends.send(self.socket, message_id, conversation_id, body, timeout)
        if not outcome.success and (outcome.error or "").startswith(NO_CONVERSATION):
            await self.join(conversation_id, timeout)
            outcome = await self._sends.send(self.socket, message_id, conversation_id, body, timeout)
        if outcome.success:
            return outcome.message_id
        error = outcome.error or "no reason given"
        if error.startswith("E11000") and message_id in error:
            return message_id
        raise SendRefusedError(error, refusal_verdict(error))

    async def wind_down(self, timeout: float) -> bool:
        """Wait until no send is in flight and all that the platform had for this socket is in; whether that is certain.

        An acknowledged event proves the latter: the platform writes to a socket in order. Nothing is waited for longer
        than ``timeout`` seconds, nor after a loss.
        """
        await self._sends.idle(timeout)
        try:
            await self._ask("conversation:online", self.conversation_id or "0" * 24, min(timeout, PROOF_SECONDS))
        except SendRefusedError:
            # An answer all the same.
            return True
        except PlatformError:
            return False
        return True

    def tend(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do ``work`` beside the connection; it is cancelled when the connection is closed."""
        self._chores.spawn(work, f"{name} {self.agent_id}").add_done_callback(self._note_chore)

    def _note_chore(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("chore_failed", chore=task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Close the socket and end what is done beside it; idempotent."""
        await self._chores.cancel()
        if self._socket is not None:
            await self._socket.close()

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _receive(self, event: str, payload: object) -> None:
        if event == "presence:update":
            self._note_presence(payload)
        elif event == "message:new":
            self._sends.note_message(payload)
        elif event in ("message:sent", "message:error"):
            self._sends.note_outcome(payload)
            return
        self._on_event(self, event, payload)

    def _note_presence(self, payload: object) -> None:
        try:
            presence = parse_event(Presence, payload)
        except InvalidEventError:
            return
        if presence.type == "agent" and presence.agent_id == self.agent_id and presence.status == "online":
            if presence.conversation_id:
                self.conversation_id = presence.conversation_id
            if not self._registered.done():
                self._registered.set_result(None)
