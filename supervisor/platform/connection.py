"""One registered socket of an agent: what is asked and sent over it, and what comes in, until it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from supervisor.core.errors import ConnectionLostError, PlatformError, SendRefusedError, Verdict
from supervisor.core.flags import Flag
from supervisor.platform.chores import Chores
from supervisor.platform.endpoint import AGENTS_NAMESPACE, DOUBTFUL_NAMESPACE, ROOT
from supervisor.platform.heartbeats import Pulse, quiet_pulse
from supervisor.platform.hosts.facts import SocketFacts, Way
from supervisor.platform.joiner import JOIN, Joiner
from supervisor.platform.questions import Questions
from supervisor.platform.repeats import Repeats
from supervisor.platform.sender import OnSent, Sender
from supervisor.platform.sends import ACKLESS_GRACE_SECONDS, Sends, refusal
from supervisor.platform.tokens import Grant
from supervisor.platform.transport import Socket
from supervisor.protocol import InvalidEventError, parse_event
from supervisor.protocol.events import Presence

#: How long an acknowledged event may take that proves something about the socket.
PROOF_SECONDS: Final = 5.0

OnEvent = Callable[["Connection", str, object], None]


class Connection:
    """One agent's connection. Made by :class:`supervisor.platform.connector.Connector`; over when ``closed`` is done.

    Args:
        agent_id: the agent's id.
        on_event: gets every event but the answers to our own sends, in order; must only enqueue.
        facts: what is known of the host and namespace; learns which events are acknowledged.
        repeats: what the agent has sent lately, over whichever connection.
        pulse: what the agent's heartbeats say.
        ackless_grace_seconds: how long an ack may come after the event that says the same.

    Attributes:
        conversation_id: the conversation that the platform put the agent into by itself, where it named one.
        way, namespace: the namespace that it joined, and at which engine path.
        chores: what is done beside it, and ends when it is closed.
        questions: asks what nobody else sees, and sends heartbeats.
        registered: done once the agent's own presence came, or something else proved the registration.
        has_presence: whether the agent's own presence came.
        proven: done once the platform showed that it serves this very socket: by an acknowledged join, or by a message
            where whoever delivers handles events too.
        presences, presence_came: how often the agent's own presence came, and the signal that it did.
        joined: set by ``Joins`` once it is in all conversations that it is to be in.
        members: the conversations that the socket is in, as far as is known, and since when at the least (monotonic
            seconds); read only.
    """

    def __init__(
        self,
        agent_id: str,
        *,
        on_event: OnEvent,
        facts: SocketFacts | None = None,
        repeats: Repeats | None = None,
        pulse: Pulse | None = None,
        ackless_grace_seconds: float = ACKLESS_GRACE_SECONDS,
    ) -> None:
        self.agent_id = agent_id
        self.conversation_id: str | None = None
        self.way = Way("", "")
        self.namespace = ""
        self.registered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.joined = Flag()
        self.has_presence = False
        self.facts = facts or SocketFacts()
        self.proven: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.presences = 0
        self.presence_came = Flag()
        self._on_event = on_event
        self._grant: Grant | None = None
        self._socket: Socket | None = None
        self.questions = Questions(lambda: self.socket, self.facts, pulse or quiet_pulse())
        self._sends = Sends(agent_id, ackless_grace_seconds)
        self._sender = Sender(
            self._sends,
            repeats or Repeats(),
            later=lambda: self.at_agents_gateway,
            join=self.join,
            start_task=self.start_task,
        )
        self.chores = Chores(agent_id, lambda: self._socket.abort() if self._socket else None)
        self._joiner = Joiner(
            lambda conversation_id, timeout: self._ask(JOIN, conversation_id, timeout),
            lambda conversation_id: self.emit(JOIN, {"conversationId": conversation_id}),
            self.facts,
            self.questions,
            self.start_task,
        )
        self.members: dict[str, float] = {}

    def bind(self, socket: Socket, grant: Grant, way: Way) -> None:
        """Take over an open socket: the connector calls this once."""
        self._socket, self._grant, self.way, self.namespace = socket, grant, way, way.namespace
        self._sends.bind(socket)

    @property
    def grant(self) -> Grant:
        """The token that it was opened with."""
        if self._grant is None:
            raise ConnectionLostError("not connected")
        return self._grant

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
    def fades(self) -> bool:
        """Whether the platform finds the agent by this socket for a limited time only (docs/protocol.md#7-findings, 1).

        The first generation, which names the agent's conversation in its own presence, does not forget; a presence that
        is late says nothing else.
        """
        return self.conversation_id is None and not self.facts.presence_names_conversation

    @property
    def max_payload(self) -> int:
        """The largest frame the platform takes, in bytes."""
        return self.socket.max_payload

    @property
    def at_agents_gateway(self) -> bool:
        """Whether the third generation's gateway for agents is at the other end (docs/protocol.md#81-where).

        It puts the agent into its conversations by itself and knows no joins. People's process, which may be in the
        same namespace, tells no presence.
        """
        return self.namespace == AGENTS_NAMESPACE or (self.namespace == ROOT and self.has_presence)

    def watch_presences(self, wanted: bool) -> None:
        """Whether the presences of others are delivered: N agents cause N² of them."""
        self.socket.noise.want(wanted)

    def emit(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send an event that nobody waits for: typing, read receipts. Lost with the connection."""
        if self._socket is not None:
            self._socket.emit(event, payload)

    async def join(self, conversation_id: str, timeout: float) -> bool:
        """Join a conversation; v2 forgets all of them at each reconnect (docs/protocol.md#3-acceptance).

        Returns:
            Whether the platform acknowledged it. False where it never does, which is learned for the host and no reason
            to wait: the gateway for agents has no joins and puts them in by itself.

        Raises:
            SendRefusedError: the platform will not have the agent there.
            ConnectionLostError, AckTimeoutError: whether the agent is in it is unknown.
        """
        if self.at_agents_gateway:
            return False
        acked = await self._joiner.join(conversation_id, timeout)
        if acked and not self.proven.done():
            self.proven.set_result(None)
        return acked

    def member_since(self, conversation_id: str) -> float | None:
        """From when on the socket has certainly been in a conversation (monotonic seconds); None where unknown."""
        return self.members.get(conversation_id)

    def record_member(self, conversation_id: str, at: float) -> None:
        """A join or a message proves that the socket has been in a conversation since ``at`` (monotonic seconds)."""
        self.members.setdefault(conversation_id, at)

    async def leave(self, conversation_id: str, timeout: float) -> None:
        """Leave a conversation; raises as :meth:`join` does."""
        self.members.pop(conversation_id, None)
        await self._ask("conversation:leave", conversation_id, timeout)

    async def online_users(self, conversation_id: str, timeout: float) -> list[str]:
        """The ids of the users in a conversation; raises as :meth:`join` does."""
        answer = await self._ask("conversation:online", conversation_id, timeout)
        users = answer.get("onlineUsers")
        return [user for user in users if isinstance(user, str)] if isinstance(users, list) else []

    async def _ask(self, event: str, conversation_id: str, timeout: float) -> Mapping[str, Any]:
        if self.at_agents_gateway:
            raise SendRefusedError(f"this platform has no {event} for agents", Verdict.REJECT)
        answer = await self.socket.call(event, {"conversationId": conversation_id}, timeout)
        if answer is None:
            # Acknowledged without a word: that is no refusal.
            return {}
        if not isinstance(answer, Mapping):
            raise SendRefusedError(f"{event} was answered with {type(answer).__name__}")
        if answer.get("success") is False:
            raise refusal(str(answer.get("error", "no reason given")))
        return answer

    def send_soon(self, message_id: str, conversation_id: str, body: bytes, timeout: float, then: OnSent) -> None:
        """Send one message now, without a task; arguments as for :meth:`send`.

        Args:
            then: told once, after this call, what :meth:`send` returns or raises; also when the connection is lost or
                closed meanwhile.
        """
        self._sender.send(message_id, conversation_id, body, timeout, then)

    async def send(self, message_id: str, conversation_id: str, body: bytes, timeout: float) -> str | None:
        """Send one message and wait until the platform has it.

        ``No conversation found`` is answered by a join and one resend (docs/protocol.md#4-sending).

        Args:
            message_id: the ``_id`` that ``body`` carries.
            conversation_id: where the message goes.
            body: the message as JSON.
            timeout: seconds to wait for each answer.

        Returns:
            The platform's id of the message, where it told one.

        Raises:
            AlreadyStoredError: the platform has it, from an earlier send.
            SendRefusedError: with REJECT where trying again is pointless.
            ConnectionLostError, AckTimeoutError: whether it arrived is unknown.
        """
        return await self._sender.send_and_wait(message_id, conversation_id, body, timeout)

    async def drain(self, timeout: float) -> bool:
        """Wait until no send is in flight and all that the platform had for this socket is in; whether that is certain.

        Nothing is waited for longer than ``timeout`` seconds, nor after a loss.
        """
        await self._sends.idle(timeout)
        return await self.read_all(timeout)

    async def read_all(self, timeout: float) -> bool:
        """Wait until all that the platform had for this socket is in; whether that is certain.

        Nothing is waited for longer than ``timeout`` seconds, nor after a loss.
        """
        try:
            # One that came after those of the socket in its place would make this one the one that is found.
            beats = not is_found_by_heartbeat(self)
            await self.questions.any_answer(min(timeout, PROOF_SECONDS), beats=beats)
        except PlatformError:
            return False
        return True

    def start_task(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Do ``work`` beside the connection; it is cancelled when the connection is closed, before its first step too.

        Once it is closed, or closes, nothing is begun: the task is cancelled at once.
        """
        return self.chores.start(work, name)

    async def close(self) -> None:
        """Close the socket and end what is done beside it; idempotent."""
        await self.chores.end()
        if self._socket is not None:
            await self._socket.close()

    def receive(self, event: str, payload: object) -> None:
        """Take an event of the socket; the transport calls this, perhaps before the socket is bound."""
        if event == "presence:update":
            self._receive_presence(payload)
        elif event == "message:new":
            # Whoever delivers there need not handle anything; and until it is bound nobody knows where a socket leads.
            if not self.proven.done() and self.namespace not in ("", DOUBTFUL_NAMESPACE):
                self.proven.set_result(None)
            self._sends.match_echo(payload)
        elif event in ("message:sent", "message:error"):
            self._sends.match_outcome(payload)
            return
        self._on_event(self, event, payload)

    def _receive_presence(self, payload: object) -> None:
        try:
            presence = parse_event(Presence, payload)
        except InvalidEventError:
            return
        if presence.type == "agent" and presence.agent_id == self.agent_id and presence.status == "online":
            self.presences += 1
            self.presence_came.set()
            if presence.conversation_id:
                self.conversation_id = presence.conversation_id
            self.has_presence = self.facts.has_presence = True
            self.facts.presence_names_conversation = presence.conversation_id is not None
            if not self.registered.done():
                self.registered.set_result(None)


def is_found_by_heartbeat(connection: Connection) -> bool:
    """Whether the platform finds the agent at whichever socket sent the last heartbeat, for as long as after a connect.

    The newest gateway for agents alone does (docs/protocol.md#8-third-generation, 3); people's process, which may be in
    the same namespace, answers heartbeats too.
    """
    return connection.namespace == ROOT and connection.at_agents_gateway
