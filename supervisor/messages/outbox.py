"""Delivers replies: in order within a conversation, each acknowledged before the next is sent (DESIGN §4)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field

import msgspec

from supervisor.core.errors import AckTimeoutError, ConnectionLostError, SendRefusedError, Verdict
from supervisor.core.records import JournaledMessage, Reply
from supervisor.core.states import FINAL_MESSAGE_STATES, FINAL_REPLY_STATES, ReplyState
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.telemetry.logs import bind_message, get_logger

#: How long to wait before each further attempt at a delivery (RELIABILITY: 5/25/120/600 s); then a dead letter.
RETRY_SECONDS = (5.0, 25.0, 120.0, 600.0)

#: A reply that was in flight when so many connections broke may be what breaks them: it waits like any failed one.
SUSPECT_LOSSES = 3

OnAcked = Callable[[Reply], None]


@dataclass(slots=True)
class _Entry:
    """A reply on its way.

    Attributes:
        answers: the message that it is a reply to, where it is known.
        sends: how often it was sent.
        owed: what became of it and is not in the journal yet: its state, why, and when to try again. A reply whose
            fate is known is never sent again because the journal could not take it.
        doubtful: an earlier send may have arrived.
        parked: nothing can be done for it now: it waits for its next attempt, or for a connection.
    """

    reply: Reply
    answers: JournaledMessage | None = None
    on_acked: OnAcked | None = None
    sends: int = 0
    doubtful: bool = False
    parked: bool = False
    owed: tuple[ReplyState, str | None, float] | None = None


@dataclass(slots=True)
class _Queue:
    """The replies of one conversation that are not settled yet, and the task that sends them."""

    replies: deque[_Entry] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class Outbox:
    """One agent's replies on their way. Owns each reply's state once the journal has committed it.

    Args:
        at_most_once: asked for each send, since the agent's settings may change: mark a send whose fate is unknown
            instead of repeating it.
        on_sending: told each id that the platform may know a reply by, so that its echo is known.
        was_delivered: asked before a doubtful reply is sent again to a platform that does not keep ``_id``.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        ack_seconds: float,
        at_most_once: Callable[[], bool],
        on_sending: Callable[[str], None],
        was_delivered: Callable[[Reply], Awaitable[bool]],
    ) -> None:
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._metrics = scope.metrics
        self._clock = scope.clock
        self._traces = scope.traces
        self._ack_seconds = ack_seconds
        self._at_most_once = at_most_once
        self._on_sending = on_sending
        self._was_delivered = was_delivered
        # Whether the platform keeps our ids, so that a second send of one does no harm; None until it has shown it.
        self._keeps_ids: bool | None = None
        self._queues: dict[str, _Queue] = {}
        #: Replies that were sent and are not acknowledged yet.
        self.in_flight = 0
        self._connection: Connection | None = None
        self._online = asyncio.Event()
        self._moved = asyncio.Event()  # set when a reply was settled or parked
        self._log = get_logger("supervisor.outbox").bind(agent=scope.agent_id)

    @property
    def waiting(self) -> int:
        """Replies that are not settled yet."""
        return sum(len(queue.replies) for queue in self._queues.values())

    def use(self, connection: Connection | None) -> None:
        """Send over ``connection`` from now on; None: wait for one. What is in flight on another one stays there."""
        self._connection = connection
        if connection is None:
            self._online.clear()
        else:
            self._online.set()

    def push(self, reply: Reply, answers: JournaledMessage, on_acked: OnAcked | None = None) -> None:
        """Take a committed reply to a message."""
        self._traces.replied(answers, reply)
        self._put(_Entry(reply, answers, on_acked))

    @property
    def held(self) -> set[int]:
        """The numbers of the replies that are not settled yet."""
        entries = [entry for queue in self._queues.values() for entry in queue.replies]
        return {entry.reply.id for entry in entries if entry.reply.state not in FINAL_REPLY_STATES}

    def take_up(self, reply: Reply) -> None:
        """Take a reply that a person replayed; one that is held already is ignored."""
        if reply.id not in self.held:
            # It may have died of lost acknowledgements.
            self._put(_Entry(reply, doubtful=True))

    def _put(self, entry: _Entry) -> None:
        reply = entry.reply
        queue = self._queues.setdefault(reply.conversation_id, _Queue())
        queue.replies.append(entry)
        if queue.task is None:
            queue.task = asyncio.create_task(
                # In a context of its own: it goes on to deliver replies to other messages.
                self._deliver_all(reply.conversation_id, queue),
                name=f"outbox {self._agent_id}",
                context=Context(),
            )

    async def restore(self) -> int:
        """Take up what an earlier run left; returns how many replies."""
        left = await self._journal.unsent(self._agent_id)
        messages = await self._journal.answered_by(left)
        entries = [_Entry(reply, messages.get(reply.id), doubtful=True) for reply in left]
        for entry in entries:
            if entry.answers is not None:
                self._traces.replied(entry.answers, entry.reply)
        for message in {message.id: message for message in messages.values()}.values():
            if message.state in FINAL_MESSAGE_STATES:
                self._traces.settled(message)
        for entry in entries:
            if entry.reply.state is ReplyState.SENT and self._at_most_once():
                await self._journal.settle_reply(entry.reply, ReplyState.UNKNOWN, "stopped before the acknowledgement")
                self._metrics.sent("unknown")
                self._note_end(entry)
            else:
                self._put(entry)
        return len(left)

    async def close(self) -> None:
        """Stop sending; what is not settled stays in the journal for the next start."""
        tasks = [queue.task for queue in self._queues.values() if queue.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queues.clear()

    async def flush(self, timeout: float | None) -> bool:
        """Wait until all that can be sent now is, for ``timeout`` seconds at most if given; whether nothing is left.

        What waits for its next attempt, or for a connection, is in the journal for the next start.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while any(not queue.replies[0].parked for queue in self._queues.values() if queue.replies):
                    self._moved.clear()
                    await self._moved.wait()
        return not self._queues

    async def _deliver_all(self, conversation_id: str, queue: _Queue) -> None:
        while queue.replies:
            entry = queue.replies[0]
            await self._name(entry)
            try:
                await self._deliver(entry)
            except Exception:  # noqa: BLE001  a defect of ours, or a journal that refuses: the reply must not be lost
                self._log.exception("delivery_failed")
                await self._clock.sleep(RETRY_SECONDS[0])
                continue
            queue.replies.popleft()
            self._moved.set()
            self._note_end(entry)
        # No await since the last look at the queue: a push finds either this task alive or no queue.
        del self._queues[conversation_id]

    async def _name(self, entry: _Entry) -> None:
        """Let the log say which message the reply is about that is delivered now."""
        if entry.answers is None and entry.reply.inbox_id is not None:
            # A person had it sent again.
            try:
                entry.answers = (await self._journal.answered_by([entry.reply])).get(entry.reply.id)
            except Exception as error:  # noqa: BLE001  whatever the row holds: the log says less, the reply goes out
                self._log.warning("message_of_reply_unreadable", number=entry.reply.id, reason=type(error).__name__)
        message = entry.answers
        fields = {} if message is None else {"message_id": message.key, **self._traces.log_fields(message)}
        bind_message(agent=self._agent_id, conversation=entry.reply.conversation_id, **fields)

    def _note_end(self, entry: _Entry) -> None:
        if entry.answers is not None:
            self._traces.sent(entry.answers, entry.reply, entry.sends)

    async def _deliver(self, entry: _Entry) -> None:
        """Send a reply until its fate is known and journaled."""
        reply = entry.reply
        body = msgspec.json.encode(reply.message)
        losses = 0
        self._on_sending(reply.message.id or "")
        while not await self._pay(entry):
            connection = await self._turn(entry)
            if self._at_most_once():
                if reply.state is ReplyState.SENT:
                    entry.owed = (ReplyState.UNKNOWN, "an earlier attempt broke off", 0.0)
                    continue
                if not await self._journal.mark_sent(reply):
                    # Erased while it waited: there is nothing left to send.
                    return
            elif entry.doubtful and not self._keeps_ids and await self._was_delivered(reply):
                self._acked(entry)
                continue
            started = self._clock.monotonic()
            self.in_flight += 1
            entry.sends += 1
            try:
                known_as = await connection.send(reply.message.id or "", reply.conversation_id, body, self._ack_seconds)
            except SendRefusedError as error:
                self._refused(entry, error)
            except (ConnectionLostError, AckTimeoutError) as error:
                losses += isinstance(error, ConnectionLostError)
                self._ambiguous(entry, error, losses)
            else:
                self._metrics.sent("acked", self._clock.monotonic() - started)
                self._note_id(reply, known_as)
                self._acked(entry)
            finally:
                self.in_flight -= 1

    @staticmethod
    def _acked(entry: _Entry) -> None:
        """The platform has a reply."""
        entry.owed = (ReplyState.ACKED, None, 0.0)
        if entry.on_acked:
            entry.on_acked(entry.reply)

    def _note_id(self, reply: Reply, known_as: str | None) -> None:
        """The platform has told the id under which it keeps a reply: ours, or one that it made."""
        if known_as is not None:
            self._keeps_ids = known_as == reply.message.id
            self._on_sending(known_as)

    async def _pay(self, entry: _Entry) -> bool:
        """Write what the journal is owed; whether that was the end of the reply."""
        if entry.owed is None:
            return False
        state, reason, not_before = entry.owed
        waits = False
        if state is ReplyState.PENDING:
            # Not where it was erased meanwhile: then this was its end.
            waits = await self._journal.defer_reply(entry.reply, reason or "", not_before)
        else:
            await self._journal.settle_reply(entry.reply, state, reason)
        entry.owed = None
        return not waits

    async def _turn(self, entry: _Entry) -> Connection:
        """Wait until a reply is due and there is a connection for it."""
        wait = entry.reply.not_before - self._clock.now()
        entry.parked = wait > 0 or self._connection is None or not self._connection.connected
        if entry.parked:
            self._moved.set()
        if wait > 0:
            await self._clock.sleep(wait)
        connection = await self._wait_for_connection()
        entry.parked = False
        return connection

    async def _wait_for_connection(self) -> Connection:
        while self._connection is None or not self._connection.connected:
            # A connection that broke is taken away by its runner a moment later.
            self._online.clear()
            await self._online.wait()
        return self._connection

    def _refused(self, entry: _Entry, error: SendRefusedError) -> None:
        """Give a refused reply up, or try again later where that may help."""
        self._metrics.sent("refused")
        if error.verdict is Verdict.RETRY and entry.reply.attempts < len(RETRY_SECONDS):
            self._defer(entry, error.reason)
        else:
            self._log.error("reply_refused", reason=error.reason)
            entry.owed = (ReplyState.DEAD, error.reason, 0.0)

    def _ambiguous(self, entry: _Entry, error: ConnectionLostError | AckTimeoutError, losses: int) -> None:
        """Deal with a send that may or may not have arrived."""
        entry.doubtful = True
        lost = isinstance(error, ConnectionLostError)
        if self._at_most_once():
            self._metrics.sent("unknown")
            entry.owed = (ReplyState.UNKNOWN, error.reason, 0.0)
            return
        self._metrics.sent("lost" if lost else "timeout")
        if lost and losses < SUSPECT_LOSSES:
            # Sent again, with the same _id, as soon as there is a connection: no fault of the reply's.
            return
        if entry.reply.attempts >= len(RETRY_SECONDS):
            entry.owed = (ReplyState.DEAD, error.reason, 0.0)
        else:
            self._defer(entry, error.reason)

    def _defer(self, entry: _Entry, reason: str) -> None:
        wait = RETRY_SECONDS[min(entry.reply.attempts, len(RETRY_SECONDS) - 1)]
        entry.owed = (ReplyState.PENDING, reason, self._clock.now() + wait)
