"""Delivers replies: in order within a conversation, each acknowledged before the next is sent (DESIGN §4)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from supervisor.clock import Clock
from supervisor.connection import Connection
from supervisor.errors import AckTimeoutError, ConnectionLostError, SendRefusedError, Verdict
from supervisor.logs import get_logger
from supervisor.metrics import Metrics
from supervisor.records import Reply
from supervisor.registry import Journal
from supervisor.states import ReplyState

#: How long to wait before each further attempt at a delivery (RELIABILITY: 5/25/120/600 s); then a dead letter.
RETRY_SECONDS = (5.0, 25.0, 120.0, 600.0)

#: A reply that was in flight when so many connections broke may be what breaks them: it waits like any failed one.
SUSPECT_LOSSES = 3

OnAcked = Callable[[Reply], None]


@dataclass(slots=True)
class _Queue:
    """The replies of one conversation that are not settled yet, and the task that sends them."""

    replies: deque[tuple[Reply, OnAcked | None]] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class Outbox:
    """One agent's replies on their way. Owns each reply's state once the journal has committed it.

    Args:
        at_most_once: asked for each send, since the agent's settings may change: mark a send whose fate is unknown
            instead of repeating it.
        on_sending: told each id that the platform may know a reply by, so that its echo is known.
    """

    def __init__(
        self,
        agent_id: str,
        journal: Journal,
        metrics: Metrics,
        clock: Clock,
        *,
        ack_seconds: float,
        at_most_once: Callable[[], bool],
        on_sending: Callable[[str], None],
    ) -> None:
        self._agent_id = agent_id
        self._journal = journal
        self._metrics = metrics
        self._clock = clock
        self._ack_seconds = ack_seconds
        self._at_most_once = at_most_once
        self._on_sending = on_sending
        self._queues: dict[str, _Queue] = {}
        self._connection: Connection | None = None
        self._online = asyncio.Event()
        self._log = get_logger("supervisor.outbox").bind(agent=agent_id)

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

    def push(self, reply: Reply, on_acked: OnAcked | None = None) -> None:
        """Take a committed reply."""
        queue = self._queues.setdefault(reply.conversation_id, _Queue())
        queue.replies.append((reply, on_acked))
        if queue.task is None:
            queue.task = asyncio.create_task(
                self._deliver_all(reply.conversation_id, queue), name=f"outbox {self._agent_id}"
            )

    async def restore(self) -> int:
        """Take up what an earlier run left; returns how many replies."""
        left = await self._journal.unsent(self._agent_id)
        for reply in left:
            if reply.state is ReplyState.SENT and self._at_most_once():
                await self._journal.settle_reply(reply, ReplyState.UNKNOWN, "stopped before the acknowledgement")
                self._metrics.sent("unknown")
            else:
                self.push(reply)
        return len(left)

    async def close(self) -> None:
        """Stop sending; what is not settled stays in the journal for the next start."""
        tasks = [queue.task for queue in self._queues.values() if queue.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._queues.clear()

    async def flush(self, timeout: float | None) -> bool:
        """Wait until nothing is on its way, for ``timeout`` seconds at most if given; whether that came true."""
        tasks = {queue.task for queue in self._queues.values() if queue.task}
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        return not self._queues

    async def _deliver_all(self, conversation_id: str, queue: _Queue) -> None:
        while queue.replies:
            reply, on_acked = queue.replies[0]
            try:
                await self._deliver(reply, on_acked)
            except Exception:  # noqa: BLE001  a defect of ours, or a journal that refuses: the reply must not be lost
                self._log.exception("delivery_failed", conversation=conversation_id)
                await self._clock.sleep(RETRY_SECONDS[0])
                continue
            queue.replies.popleft()
        # No await since the last look at the queue: a push finds either this task alive or no queue.
        del self._queues[conversation_id]

    async def _deliver(self, reply: Reply, on_acked: OnAcked | None) -> None:
        body = msgspec.json.encode(reply.message)
        losses = 0
        self._on_sending(reply.message.id or "")
        while True:
            await self._due(reply)
            connection = await self._wait_for_connection()
            if self._at_most_once():
                await self._journal.mark_sent(reply)
            started = self._clock.monotonic()
            try:
                known_as = await connection.send(reply.message.id or "", reply.conversation_id, body, self._ack_seconds)
            except SendRefusedError as error:
                if await self._refused(reply, error):
                    return
            except (ConnectionLostError, AckTimeoutError) as error:
                losses += isinstance(error, ConnectionLostError)
                if await self._ambiguous(reply, error, losses):
                    return
            else:
                self._metrics.sent("acked", self._clock.monotonic() - started)
                self._on_sending(known_as or "")
                if on_acked:
                    on_acked(reply)
                await self._journal.settle_reply(reply, ReplyState.ACKED)
                return

    async def _due(self, reply: Reply) -> None:
        wait = reply.not_before - self._clock.now()
        if wait > 0:
            await self._clock.sleep(wait)

    async def _wait_for_connection(self) -> Connection:
        while self._connection is None or not self._connection.connected:
            # A connection that broke is taken away by its runner a moment later.
            self._online.clear()
            await self._online.wait()
        return self._connection

    async def _refused(self, reply: Reply, error: SendRefusedError) -> bool:
        """Settle a refused reply if that is final; whether it was."""
        self._metrics.sent("refused")
        if error.verdict is Verdict.RETRY and reply.attempts < len(RETRY_SECONDS):
            await self._defer(reply, error.reason)
            return False
        self._log.error("reply_refused", conversation=reply.conversation_id, reason=error.reason)
        await self._journal.settle_reply(reply, ReplyState.DEAD, error.reason)
        return True

    async def _ambiguous(self, reply: Reply, error: ConnectionLostError | AckTimeoutError, losses: int) -> bool:
        """Deal with a send that may or may not have arrived; whether that settled it."""
        if self._at_most_once():
            self._metrics.sent("unknown")
            await self._journal.settle_reply(reply, ReplyState.UNKNOWN, error.reason)
            return True
        if isinstance(error, ConnectionLostError) and losses < SUSPECT_LOSSES:
            # Sent again, with the same _id, as soon as there is a connection: no fault of the reply's.
            self._metrics.sent("lost")
            return False
        self._metrics.sent("lost" if isinstance(error, ConnectionLostError) else "timeout")
        if reply.attempts >= len(RETRY_SECONDS):
            await self._journal.settle_reply(reply, ReplyState.DEAD, error.reason)
            return True
        await self._defer(reply, error.reason)
        return False

    async def _defer(self, reply: Reply, reason: str) -> None:
        not_before = self._clock.now() + RETRY_SECONDS[min(reply.attempts, len(RETRY_SECONDS) - 1)]
        await self._journal.defer_reply(reply, reason, not_before)
