"""Sends one reply until its fate is known and in the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import msgspec

from supervisor.core.errors import AckTimeoutError, AlreadyStoredError, ConnectionLostError, SendRefusedError, Verdict
from supervisor.core.flags import Flag
from supervisor.core.records import JournaledMessage, Reply
from supervisor.core.states import ReplyState
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.platform.hosts.deliveries import Deliveries
from supervisor.protocol.outbound import as_shown, reply_id
from supervisor.telemetry.logs import AgentLog

#: How long to wait before each further attempt at a delivery; after the last one the reply is a dead letter. A failure
#: that may be the host's does not count, and its wait ends as soon as the host takes sends again.
RETRY_SECONDS = (5.0, 25.0, 120.0, 600.0)
#: How often it is asked whether the agent is certainly still this process's.
DOUBT_SECONDS = 0.2
#: How long a reply is tried on a host that takes nothing: nobody knows then whose the trouble is.
GIVE_UP_SECONDS = 5400.0

#: How the platform refuses whatever an agent with too low a role says (docs/protocol.md#4-sending).
_FORBIDDEN = "You do not have permission"

#: A reply that was in flight when so many connections broke may be what breaks them: it waits like any failed one.
SUSPECT_LOSSES = 3

OnAcked = Callable[[Reply], None]
OnSend = Callable[[], None]


#: How a send may fail.
SendError = SendRefusedError | ConnectionLostError | AckTimeoutError


class Outcome(NamedTuple):
    """What became of a send; ``not_before`` is when to send again, in seconds since the epoch."""

    state: ReplyState
    reason: str | None = None
    not_before: float = 0.0


class _Trouble(NamedTuple):
    """When a reply failed for the first time (monotonic seconds), and what its host had taken by then."""

    since: float
    acks: int


@dataclass(frozen=True, slots=True)
class Terms:
    """How one agent's replies are sent.

    Args:
        deliveries: what is known of the hosts, and ``host`` the one of this agent.
        ack_seconds: how long an acknowledgement may take.
        at_most_once: asked for each send, since the agent's settings may change: mark a send whose fate is unknown
            instead of repeating it.
        on_sending: told each id that the platform may know a reply by, so that its echo is known.
        was_delivered: asked before a doubtful reply is sent again to a platform that does not keep ``_id``.
        on_permission: told whether the platform lets the agent write.
    """

    deliveries: Deliveries
    host: Callable[[], str]
    ack_seconds: float
    at_most_once: Callable[[], bool]
    on_sending: Callable[[str], None]
    was_delivered: Callable[[Reply], Awaitable[bool]]
    on_permission: Callable[[bool], None] = lambda _allowed: None


class Outgoing(msgspec.Struct, eq=False):
    """A reply on its way.

    Attributes:
        answers: the message that the reply answers, where it is known.
        on_send: called just before each send.
        sends: how often the reply was sent.
        outcome: what the journal does not have yet. A reply whose fate is known is never sent again because the
            journal could not take it.
        doubtful: an earlier send may have arrived.
        refused: the last send was refused.
        known_as: the ``_id`` that it is sent with, and ``body`` what is sent.
        parked: nothing can be done now: the reply waits for its next attempt, or for a connection.
        error: how the last send failed, where that is still to be dealt with.
        losses: how many connections broke while it was in flight.
        failures: failed attempts, those that may be the host's trouble left out.
        trouble: the first failed attempt, where there was one.
        host_waited_for: the host whose trouble the reply waits out; None where the trouble is its own.
    """

    reply: Reply
    answers: JournaledMessage | None = None
    on_acked: OnAcked | None = None
    on_send: OnSend | None = None
    sends: int = 0
    doubtful: bool = False
    refused: bool = False
    known_as: str = ""
    body: bytes = b""
    parked: bool = False
    outcome: Outcome | None = None
    error: SendError | None = None
    losses: int = 0
    failures: int = 0
    trouble: _Trouble | None = None
    host_waited_for: str | None = None

    def name(self, message_id: str) -> None:
        """Send it with that ``_id`` from now on."""
        self.known_as = message_id
        shown = as_shown(self.reply.message)
        if shown is self.reply.message and shown.id == message_id and self.reply.body:
            self.body = self.reply.body
        else:
            self.body = msgspec.json.encode(msgspec.structs.replace(shown, id=message_id))

    def acked(self) -> None:
        """The platform has the reply."""
        self.outcome = Outcome(ReplyState.ACKED)
        if self.on_acked:
            self.on_acked(self.reply)


class ReplySender:
    """Sends one agent's replies, one after the other within a conversation.

    Args:
        on_parked: told that there is nothing to do now for some reply.
    """

    _log = AgentLog("supervisor.outbox")

    def __init__(self, scope: Scope, terms: Terms, *, on_parked: Callable[[], None]) -> None:
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._metrics = scope.metrics
        self._clock = scope.clock
        self._terms = terms
        self._at_most_once = terms.at_most_once
        self._on_sending = terms.on_sending
        self._on_parked = on_parked
        # Whether the platform keeps our ids, so that a second send of one does no harm; None until it has shown it.
        self._keeps_ids: bool | None = None
        # Whether the platform let nothing be written lately: what the next reply shows of that is logged with it.
        self._forbidden = False
        #: Replies that were sent and are not acknowledged yet.
        self.in_flight = 0
        self._connection: Connection | None = None
        self._online = Flag()

    def use(self, connection: Connection | None) -> None:
        """Send over ``connection`` from now on; None: wait for one. What is in flight on another one stays there."""
        self._connection = connection
        if connection is None:
            self._online.clear()
        else:
            self._online.set()

    def send_soon(self, outgoing: Outgoing, then: Callable[[bool], object]) -> bool:
        """Send a reply that is as most are: for the first time, now, over a connection that is there.

        Args:
            then: told once whether its fate is known and journaled; where it is not, :meth:`send` has to go on.

        Returns:
            False where it is not so, and :meth:`send` is to send it.
        """
        reply, connection = outgoing.reply, self._connection
        if connection is None or not connection.connected or self._at_most_once() or not self._journal.sure:
            return False
        if (
            self._forbidden
            or outgoing.sends
            or outgoing.doubtful
            or outgoing.outcome is not None
            or reply.attempts
            or reply.not_before
        ):
            return False
        self._name(outgoing, reply.message.id or "")
        started = self._begin(outgoing)
        told = partial(self._told, outgoing, started, then)
        connection.send_soon(outgoing.known_as, reply.conversation_id, outgoing.body, self._terms.ack_seconds, told)
        return True

    def _told(
        self,
        outgoing: Outgoing,
        started: float,
        then: Callable[[bool], object],
        known_as: str | None,
        error: Exception | None,
    ) -> None:
        """What the platform says of a reply that was sent at once."""
        self.in_flight -= 1
        if isinstance(error, AlreadyStoredError):
            known_as, error = outgoing.known_as, None
        if isinstance(error, SendError):
            outgoing.error = error
            then(False)
            return
        if error is not None:
            outgoing.doubtful = True
            self._log.error("delivery_failed", exc_info=error)
            then(False)
            return
        self._acked(outgoing, started, known_as)
        self._journal_ack(outgoing, then)

    def _journal_ack(self, outgoing: Outgoing, then: Callable[[bool], object]) -> None:
        def journaled(_won: bool | None, error: Exception | None) -> None:
            if error is None:
                outgoing.outcome = None
            then(error is None)

        try:
            self._journal.settle_reply_then(outgoing.reply, ReplyState.ACKED, then=journaled)
        except Exception as error:  # noqa: BLE001  the journal refuses: it is tried again
            journaled(None, error)

    async def send(self, outgoing: Outgoing) -> None:
        """Send a reply until its fate is known and journaled."""
        reply = outgoing.reply
        self._name(outgoing, reply.message.id or "")
        if (error := outgoing.error) is not None:
            outgoing.error = None
            self._failed(outgoing, error)
        while not await self._journal_outcome(outgoing):
            connection = await self._wait_for_turn(outgoing)
            if self._at_most_once():
                if reply.state is ReplyState.SENT:
                    outgoing.outcome = Outcome(ReplyState.UNKNOWN, "an earlier attempt broke off")
                    continue
                if not await self._journal.mark_sent(reply):
                    # Erased while it waited: there is nothing left to send.
                    return
            elif outgoing.doubtful and not self._keeps_ids and await self._terms.was_delivered(reply):
                outgoing.acked()
                continue
            try:
                await self._send_once(outgoing, connection)
            except (SendRefusedError, ConnectionLostError, AckTimeoutError) as failed:
                self._failed(outgoing, failed)

    def _failed(self, outgoing: Outgoing, error: SendError) -> None:
        """Decide what comes of a reply whose send failed."""
        if isinstance(error, SendRefusedError):
            self._refused(outgoing, error)
        else:
            outgoing.losses += isinstance(error, ConnectionLostError)
            self._ambiguous(outgoing, error)

    def _name(self, outgoing: Outgoing, message_id: str) -> None:
        self._on_sending(message_id)
        outgoing.name(message_id)

    def _begin(self, outgoing: Outgoing) -> float:
        """A reply goes out; the monotonic time."""
        if outgoing.on_send:
            outgoing.on_send()
        self.in_flight += 1
        outgoing.sends += 1
        return self._clock.monotonic()

    def _acked(self, outgoing: Outgoing, started: float, known_as: str | None) -> None:
        """The platform has a reply, and keeps it under that id, where it tells: ours, or one that it made."""
        self._metrics.sent("acked", self._clock.monotonic() - started)
        self._terms.deliveries.acked(self._terms.host())
        self._forbidden = False
        self._terms.on_permission(True)
        if known_as is not None:
            self._keeps_ids = known_as == outgoing.known_as
            if not self._keeps_ids:
                self._on_sending(known_as)
        outgoing.acked()

    async def _send_once(self, outgoing: Outgoing, connection: Connection) -> None:
        started = self._begin(outgoing)
        try:
            known_as = await self._deliver(outgoing, connection)
        finally:
            self.in_flight -= 1
        self._acked(outgoing, started, known_as)

    async def _deliver(self, outgoing: Outgoing, connection: Connection) -> str | None:
        """Send a reply so that people are shown it, also where the platform stored it and refused it all the same."""
        conversation_id, ack_seconds = outgoing.reply.conversation_id, self._terms.ack_seconds
        try:
            return await connection.send(outgoing.known_as, conversation_id, outgoing.body, ack_seconds)
        except AlreadyStoredError:
            if outgoing.doubtful or not outgoing.refused:
                return outgoing.known_as
        # It is in the history and nowhere else (docs/protocol.md#79-a-refused-send-may-have-been-stored).
        again = reply_id(outgoing.reply.agent_id, outgoing.known_as, outgoing.reply.part, outgoing.sends)
        self._name(outgoing, again)
        return await connection.send(again, conversation_id, outgoing.body, ack_seconds)

    async def _journal_outcome(self, outgoing: Outgoing) -> bool:
        """Write what became of a reply, where that is not written yet; whether that was the end of the reply."""
        if outgoing.outcome is None:
            return False
        state, reason, not_before = outgoing.outcome
        deferred = False
        if state is ReplyState.PENDING:
            # False where the reply was erased meanwhile: then this was its end.
            deferred = await self._journal.defer_reply(outgoing.reply, reason or "", not_before)
        else:
            await self._journal.settle_reply(outgoing.reply, state, reason)
        outgoing.outcome = None
        return not deferred

    async def _wait_for_turn(self, outgoing: Outgoing) -> Connection:
        """Wait until a reply is due and there is a connection for it."""
        # No longer than the wait after so many attempts, whatever became of the wall clock since.
        longest = RETRY_SECONDS[min(max(outgoing.reply.attempts, 1), len(RETRY_SECONDS)) - 1]
        wait = min(outgoing.reply.not_before - self._clock.now(), longest)
        outgoing.parked = wait > 0 or self._connection is None or not self._connection.connected
        if outgoing.parked:
            self._on_parked()
        if wait > 0 and outgoing.host_waited_for is None:
            await self._clock.sleep(wait)
        elif wait > 0 and outgoing.host_waited_for is not None:
            await self._terms.deliveries.wait(outgoing.host_waited_for, wait)
        connection = await self._wait_for_connection()
        while not self._journal.sure:
            # Another process may have the agent by now, and send it: this one says so soon, or ends.
            await self._clock.sleep(DOUBT_SECONDS)
            connection = await self._wait_for_connection()
        outgoing.parked = False
        return connection

    async def _wait_for_connection(self) -> Connection:
        while self._connection is None or not self._connection.connected:
            # A connection that broke is taken away by its runner a moment later.
            self._online.clear()
            await self._online.wait()
        return self._connection

    def _refused(self, outgoing: Outgoing, error: SendRefusedError) -> None:
        """Give a refused reply up, or try again later where that may help."""
        self._metrics.sent("refused")
        outgoing.refused = True
        if error.error.startswith(_FORBIDDEN):
            self._forbidden = True
            self._terms.on_permission(False)
        if error.verdict is Verdict.RETRY:
            self._try_again(outgoing, error.reason)
        else:
            self._give_up(outgoing, error.reason)

    def _ambiguous(self, outgoing: Outgoing, error: ConnectionLostError | AckTimeoutError) -> None:
        """Deal with a send that may or may not have arrived."""
        outgoing.doubtful = True
        lost = isinstance(error, ConnectionLostError)
        if self._at_most_once():
            self._metrics.sent("unknown")
            outgoing.outcome = Outcome(ReplyState.UNKNOWN, error.reason)
            return
        self._metrics.sent("lost" if lost else "timeout")
        if lost and outgoing.losses < SUSPECT_LOSSES:
            # Sent again, with the same _id, as soon as there is a connection: no fault of the reply's.
            return
        # What breaks connections would break those of others' too, were it tried whenever they are well.
        self._try_again(outgoing, error.reason, own=lost)

    def _try_again(self, outgoing: Outgoing, reason: str, *, own: bool = False) -> None:
        """Have a failed reply wait: for its next attempt, or for its host where the trouble may be the host's."""
        reply, host, deliveries = outgoing.reply, self._terms.host(), self._terms.deliveries
        trouble = outgoing.trouble
        own |= deliveries.failed(host, reply.conversation_id, trouble.acks if trouble else None)
        if trouble is None:
            trouble = outgoing.trouble = _Trouble(self._clock.monotonic(), deliveries.acks(host))
        outgoing.failures += own
        outgoing.host_waited_for = None if own else host
        if outgoing.failures > len(RETRY_SECONDS) or self._clock.monotonic() - trouble.since >= GIVE_UP_SECONDS:
            self._give_up(outgoing, reason)
        else:
            done = (outgoing.failures - 1) if own else reply.attempts
            wait = RETRY_SECONDS[min(done, len(RETRY_SECONDS) - 1)]
            outgoing.outcome = Outcome(ReplyState.PENDING, reason, self._clock.now() + wait)

    def _give_up(self, outgoing: Outgoing, reason: str) -> None:
        self._log.error("reply_refused", reason=reason)
        outgoing.outcome = Outcome(ReplyState.DEAD, reason)
