"""One socket's life: from the attempt to connect, through registration, to its loss (DESIGN §3, PROTOCOL §2 to §5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from supervisor.clock import Clock
from supervisor.errors import (
    AckTimeoutError,
    ConnectError,
    ConnectionLostError,
    PlatformError,
    SendRefusedError,
    Verdict,
)
from supervisor.gates import HostGate
from supervisor.protocol import InvalidEventError, Presence, SendOutcome, parse_event
from supervisor.tokens import Grant
from supervisor.transport import Socket, Target, Transport

#: Namespaces that deployments of the platform were seen to use (PROTOCOL §2). The root is never one of them.
KNOWN_NAMESPACES = ("/chat", "/ws", "/ws/chat")
NO_CONVERSATION = "No conversation found"
#: How long an acknowledged event may take to prove that a presence was this socket's.
PROOF_SECONDS = 5.0
#: How long after message:sent or message:error the ack may still come before the event itself settles the send.
ACKLESS_GRACE_SECONDS = 1.0

#: After so many sends in a row without an ack the server counts as one that never acks.
ACKLESS_SENDS = 3

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
        clock: times the registration.
        on_event: gets every event but the answers to our own sends, in order; must only enqueue.
    """

    def __init__(self, agent_id: str, grant: Grant, *, clock: Clock, on_event: OnEvent) -> None:
        self.agent_id = agent_id
        self.grant = grant
        self.conversation_id: str | None = None
        self.namespace = ""
        self.opened_at = 0.0
        self._clock = clock
        self._on_event = on_event
        self._registered = asyncio.get_running_loop().create_future()
        self._socket: Socket | None = None
        self._sends: dict[str, asyncio.Future[SendOutcome]] = {}
        self._unacked = 0
        self._alone = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    async def open(
        cls,
        transport: Transport,
        endpoint: Endpoint,
        grant: Grant,
        *,
        agent_id: str,
        gate: HostGate,
        clock: Clock,
        on_event: OnEvent,
        timeout: float,
        prove: bool,
        on_connected: Callable[[], None],
    ) -> Connection:
        """Connect and wait until the platform has registered the agent.

        Args:
            timeout: seconds for the connect, and again for the registration.
            prove: ask for an acknowledged event on this socket too, because another socket of the agent is open or
                was a moment ago and a presence does not say whose it is (DESIGN §3).
            on_connected: called between the two.

        Raises:
            ConnectError: no candidate led to a registration; nothing is left open.
        """
        refused: ConnectError | None = None
        for namespace in endpoint.namespaces:
            connection = cls(agent_id, grant, clock=clock, on_event=on_event)
            try:
                await connection._connect(transport, endpoint.target(namespace), gate, timeout)
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

    async def _connect(self, transport: Transport, target: Target, gate: HostGate, timeout: float) -> None:
        async def attempt() -> None:
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
        self.opened_at = self._clock.now()

    async def _register(self, timeout: float, *, prove: bool) -> None:
        """Wait for the agent's own presence: only that proves that it is registered (PROTOCOL §3)."""
        socket = self.socket
        either: list[asyncio.Future[Any]] = [self._registered, socket.closed]
        done, _ = await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if socket.closed in done:
            raise self._lost_before_registered(socket.closed.result())
        if not done:
            raise ConnectError(f"connected, but no presence of its own within {timeout:g} s")
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

    async def leave(self, conversation_id: str, timeout: float) -> None:
        """Leave a conversation; raises as :meth:`join` does."""
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
        outcome = await self._send_once(message_id, body, timeout)
        if not outcome.success and (outcome.error or "").startswith(NO_CONVERSATION):
            await self.join(conversation_id, timeout)
            outcome = await self._send_once(message_id, body, timeout)
        if outcome.success:
            return outcome.message_id
        error = outcome.error or "no reason given"
        if error.startswith("E11000") and message_id in error:
            return message_id
        raise SendRefusedError(error, refusal_verdict(error))

    async def _send_once(self, message_id: str, body: bytes, timeout: float) -> SendOutcome:
        if self._unacked < ACKLESS_SENDS:
            return await self._send_awaiting_both(message_id, body, timeout)
        # Without acks nothing ties an outcome to a send, so there may be only one in flight.
        async with self._alone:
            return await self._send_awaiting_both(message_id, body, timeout)

    async def _send_awaiting_both(self, message_id: str, body: bytes, timeout: float) -> SendOutcome:
        """Settle a send by its ack or, on a server that never acks, by message:sent or message:error."""
        told: asyncio.Future[SendOutcome] = asyncio.get_running_loop().create_future()
        self._sends[message_id] = told
        self._idle.clear()
        ack = asyncio.ensure_future(self.socket.call("message:send", body, timeout))
        either: list[asyncio.Future[Any]] = [ack, told]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not ack.done() and self._unacked < ACKLESS_SENDS:
                await asyncio.wait([ack], timeout=ACKLESS_GRACE_SECONDS)
            if told.done() and (not ack.done() or ack.exception()):
                self._unacked += 1
                return told.result()
            answer = ack.result()
            self._unacked = 0
            return _ack_outcome(answer)
        finally:
            self._sends.pop(message_id, None)
            if not self._sends:
                self._idle.set()
            ack.cancel()
            await asyncio.gather(ack, return_exceptions=True)

    async def idle(self, timeout: float) -> None:
        """Wait until no send is in flight, for ``timeout`` seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    async def close(self) -> None:
        """Close the socket; idempotent."""
        if self._socket is not None:
            await self._socket.close()

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _receive(self, event: str, payload: object) -> None:
        if event == "presence:update":
            self._note_presence(payload)
        elif event in ("message:sent", "message:error"):
            self._note_outcome(payload)
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

    def _note_outcome(self, payload: object) -> None:
        """Tie message:sent or message:error to a send where that is certain (PROTOCOL §4)."""
        try:
            outcome = parse_event(SendOutcome, payload)
        except InvalidEventError:
            return
        told = self._sends.get(outcome.message_id or "")
        if told is None and len(self._sends) == 1:
            told = next(iter(self._sends.values()))
        if told is not None and not told.done():
            told.set_result(outcome)


def _ack_outcome(answer: object) -> SendOutcome:
    if not isinstance(answer, Mapping):
        return SendOutcome(success=False, error=f"the acknowledgement is a {type(answer).__name__}, not an object")
    if answer.get("success") is True:
        message = answer.get("message")
        message_id = message.get("_id") if isinstance(message, Mapping) else None
        return SendOutcome(success=True, message_id=message_id if isinstance(message_id, str) else None)
    error = answer.get("error")
    return SendOutcome(success=False, error=error if isinstance(error, str) else "no reason given")


async def rejoin(connection: Connection, conversations: Sequence[str], timeout: float) -> list[str]:
    """Join conversations again after a reconnect (PROTOCOL §3).

    Returns:
        Those that the platform refused for good; a lost connection ends the round early and is noticed by its owner.
    """
    refused: list[str] = []
    for conversation_id in conversations:
        try:
            await connection.join(conversation_id, timeout)
        except SendRefusedError as error:
            if error.verdict is Verdict.REJECT:
                refused.append(conversation_id)
        except PlatformError:
            break
    return refused
