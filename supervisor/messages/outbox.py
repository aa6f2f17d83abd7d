"""Delivers replies: in order within a conversation, each acknowledged before the next is sent."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial

import msgspec

from supervisor.core.flags import Flag
from supervisor.core.owners import own_context
from supervisor.core.records import JournaledMessage, Reply, Undelivered, undelivered
from supervisor.core.states import FINAL_MESSAGE_STATES, FINAL_REPLY_STATES, ReplyState
from supervisor.core.tasks import cancel_all, is_cancelled
from supervisor.messages.reply_sender import RETRY_SECONDS, OnAcked, OnSend, Outgoing, ReplySender, Terms
from supervisor.messages.scope import Scope
from supervisor.platform.connection import Connection
from supervisor.telemetry.logs import AgentLog, bind_message


class _Queue(msgspec.Struct, eq=False):
    """The replies of one conversation that are not settled yet, and the task that sends them where one does."""

    replies: deque[Outgoing] = msgspec.field(default_factory=deque)
    sending: bool = False
    task: asyncio.Task[None] | None = None


class Outbox:
    """One agent's replies on their way. Owns each reply's state once the journal has committed it."""

    _log = AgentLog("supervisor.outbox")

    def __init__(self, scope: Scope, terms: Terms) -> None:
        self._agent_id = scope.agent_id
        self._journal = scope.journal
        self._metrics = scope.metrics
        self._clock = scope.clock
        self._traces = scope.traces
        self._terms = terms
        self._queues: dict[str, _Queue] = {}
        # Set when a reply was settled or has to wait.
        self._moved = Flag()
        self._sender = ReplySender(scope, terms, on_parked=self._moved.set)

    @property
    def waiting(self) -> int:
        """Replies that are not settled yet."""
        return sum(len(queue.replies) for queue in self._queues.values())

    def is_sending(self, conversation_id: str) -> bool:
        """Whether replies of a conversation are not settled yet."""
        return conversation_id in self._queues

    @property
    def undelivered(self) -> Undelivered:
        """Those that wait because sending failed, and why."""
        return undelivered([outgoing.reply for outgoing in queue.replies] for queue in self._queues.values())

    @property
    def in_flight(self) -> int:
        """Replies that were sent and are not acknowledged yet."""
        return self._sender.in_flight

    @property
    def unsettled(self) -> set[int]:
        """The numbers of the replies that are not settled yet."""
        every = [outgoing.reply for queue in self._queues.values() for outgoing in queue.replies]
        return {reply.id for reply in every if reply.state not in FINAL_REPLY_STATES}

    def use(self, connection: Connection | None) -> None:
        """Send over ``connection`` from now on; None: wait for one. What is in flight on another one stays there."""
        self._sender.use(connection)

    def push(
        self,
        reply: Reply,
        answers: JournaledMessage | None,
        on_acked: OnAcked | None = None,
        *,
        on_send: OnSend | None = None,
    ) -> None:
        """Take a committed reply to a message; None: to nobody's."""
        if answers is not None:
            self._traces.replied(answers, reply)
        self._put(Outgoing(reply, answers, on_acked, on_send))

    def resend(self, reply: Reply) -> None:
        """Take a reply that a person replayed; one that is not settled yet is ignored."""
        if reply.id not in self.unsettled:
            # It may have died of lost acknowledgements.
            self._put(Outgoing(reply, doubtful=True))

    async def restore(self) -> int:
        """Take up what an earlier run left; returns how many replies.

        Raises:
            RegistryError: the journal cannot be read.
        """
        left = await self._journal.unsent(self._agent_id)
        messages = await self._journal.answered_by(left)
        host = self._terms.host()
        # What became of the host since they failed is not known.
        every = [Outgoing(reply, messages.get(reply.id), doubtful=True, host_waited_for=host) for reply in left]
        for outgoing in every:
            if outgoing.answers is not None:
                self._traces.replied(outgoing.answers, outgoing.reply)
        for message in {message.id: message for message in messages.values()}.values():
            if message.state in FINAL_MESSAGE_STATES:
                self._traces.settled(message)
        for outgoing in every:
            if outgoing.reply.state is ReplyState.SENT and self._terms.at_most_once():
                reason = "stopped before the acknowledgement"
                await self._journal.settle_reply(outgoing.reply, ReplyState.UNKNOWN, reason)
                self._metrics.sent("unknown")
                self._end_trace(outgoing)
            else:
                self._put(outgoing)
        return len(left)

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

    async def close(self) -> None:
        """Stop sending; what is not settled stays in the journal for the next start."""
        await cancel_all([queue.task for queue in self._queues.values() if queue.task])
        self._queues.clear()

    def _put(self, outgoing: Outgoing) -> None:
        conversation_id = outgoing.reply.conversation_id
        queue = self._queues.get(conversation_id)
        if queue is None:
            queue = self._queues[conversation_id] = _Queue()
        queue.replies.append(outgoing)
        if not queue.sending:
            queue.sending = True
            self._send_next(conversation_id, queue)

    def _send_next(self, conversation_id: str, queue: _Queue) -> None:
        """Send the first of a conversation's replies; only what does not go out at once, and well, takes a task."""
        if not self._sender.send_soon(queue.replies[0], partial(self._sent, conversation_id, queue)):
            self._send_in_task(conversation_id, queue)

    def _send_in_task(self, conversation_id: str, queue: _Queue) -> None:
        queue.task = asyncio.create_task(
            # In a context of its own: the task goes on to deliver replies to other messages.
            self._deliver_all(conversation_id, queue),
            name=f"outbox {self._agent_id}",
            context=own_context(),
        )

    def _sent(self, conversation_id: str, queue: _Queue, settled: bool) -> None:
        """What became of a reply that was sent at once."""
        if self._queues.get(conversation_id) is not queue:
            # Closed meanwhile.
            return
        if not settled:
            self._send_in_task(conversation_id, queue)
            return
        self._settled(queue)
        if queue.replies:
            self._send_next(conversation_id, queue)
        else:
            del self._queues[conversation_id]

    def _settled(self, queue: _Queue) -> None:
        """The first of a conversation's replies is over."""
        outgoing = queue.replies.popleft()
        self._moved.set()
        self._end_trace(outgoing)

    async def _deliver_all(self, conversation_id: str, queue: _Queue) -> None:
        while queue.replies:
            outgoing = queue.replies[0]
            try:
                await self._bind_log(outgoing)
                await self._sender.send(outgoing)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                # By foreign code (docs/faults.md#r25): it may have been sent.
                outgoing.doubtful = True
                continue
            except Exception:  # noqa: BLE001  a defect of ours, or a journal that refuses: the reply must not be lost
                self._log.exception("delivery_failed")
                await self._clock.sleep(RETRY_SECONDS[0])
                continue
            self._settled(queue)
        # No await since the last look at the queue: a push finds either this task alive or no queue.
        del self._queues[conversation_id]

    async def _bind_log(self, outgoing: Outgoing) -> None:
        """Let the log say which message the reply is about that is delivered now."""
        reply = outgoing.reply
        if outgoing.answers is None and reply.inbox_id is not None:
            # A person had the reply sent again.
            try:
                outgoing.answers = (await self._journal.answered_by([reply])).get(reply.id)
            except Exception as error:  # noqa: BLE001  whatever the row holds: the log says less, the reply goes out
                self._log.warning("message_of_reply_unreadable", number=reply.id, reason=type(error).__name__)
        message = outgoing.answers
        fields = {} if message is None else {"message_id": message.key, **self._traces.log_fields(message)}
        bind_message(agent=self._agent_id, conversation=reply.conversation_id, **fields)

    def _end_trace(self, outgoing: Outgoing) -> None:
        if outgoing.answers is not None:
            self._traces.sent(outgoing.answers, outgoing.reply, outgoing.sends)
