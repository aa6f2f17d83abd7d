"""What every message asks of the journal: it comes, it is settled, its reply goes out.

For the hot path each is there without a task or a future: a method whose name ends in ``_then`` returns at once and
calls ``then`` once after the commit, on the loop and in no message's context, with what its awaited twin returns and
None, or with None and the error. What the twin raises before it asks for anything, it raises itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage, NewReply, Reply
from supervisor.core.states import (
    FINAL_MESSAGE_STATES,
    FINAL_REPLY_STATES,
    REPLY_TRANSITIONS,
    MessageState,
    ReplyState,
    check_transition,
)
from supervisor.core.tasks import awaited
from supervisor.protocol import InboundMessage
from supervisor.store.committer import GroupCommitter, JournalLimits
from supervisor.store.dialect import Database, TextCodec
from supervisor.store.dialect.operations import AddMessage, Then, add_reply, move_message, move_reply
from supervisor.store.reading import JournalReader


class JournalWriter(JournalReader):
    """The part of the :class:`~supervisor.store.journal.Journal` that is on the hot path; the arguments are its."""

    def __init__(self, database: Database, clock: Clock, texts: TextCodec, limits: JournalLimits) -> None:
        super().__init__(database.questions, texts)
        self._clock = clock
        self._limits = limits
        self._committer = GroupCommitter(database.begin_commit, clock, self.hooks, limits)

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._committer.problem is None

    @property
    def problem(self) -> str | None:
        """Why nothing can be written at the moment, in one line."""
        return self._committer.problem

    @property
    def waiting(self) -> int:
        """Operations in memory that are not committed yet."""
        return self._committer.waiting

    @property
    def waiting_bytes(self) -> int:
        """The bytes of messages, replies and errors in them."""
        return self._committer.waiting_bytes

    async def add(
        self, agent_id: str, message: InboundMessage, *, key: str, received_at: float, claim: bool
    ) -> JournaledMessage | None:
        """Journal a message, and when its conversation was last seen.

        Args:
            key: what de-duplication compares, within the agent.
            received_at: seconds since the epoch.
            claim: insert it as running, with this as its first attempt, because a handler starts at once.

        Returns:
            The row, or None for a duplicate.

        Raises:
            RegistryError: too many operations wait in memory because the database refuses them.
        """
        future, then = awaited()
        self.add_then(agent_id, message, key=key, received_at=received_at, claim=claim, then=then)
        added: JournaledMessage | None = await future
        return added

    def add_then(
        self, agent_id: str, message: InboundMessage, *, key: str, received_at: float, claim: bool, then: Then
    ) -> None:
        """As :meth:`add`, by a callback."""
        if self._committer.full:
            reason = self.problem or "the disk is too slow"
            held = f"{self.waiting:,} operations ({self.waiting_bytes:,} bytes)"
            raise RegistryError(f"The journal is full: {held} wait to be written; {reason}")
        row = JournaledMessage(
            id=0,
            agent_id=agent_id,
            key=key,
            message=message,
            state=MessageState.RUNNING if claim else MessageState.AVAILABLE,
            attempts=1 if claim else 0,
            received_at=received_at,
        )
        self._committer.submit(AddMessage(row=row, body=self._texts.body(message), then=then))

    async def settle(
        self, row: JournaledMessage, state: MessageState, *, error: str | None = None, replies: Sequence[NewReply] = ()
    ) -> list[Reply] | None:
        """→ done, dead or cancelled, and the replies into the outbox, in one transaction; with it what it answers too.

        Returns:
            The replies as they are in the outbox; None when the row had been changed, and nothing was inserted.
        """
        future, then = awaited()
        self.settle_then(row, state, error=error, replies=replies, then=then)
        settled: list[Reply] | None = await future
        return settled

    def settle_then(
        self,
        row: JournaledMessage,
        state: MessageState,
        *,
        error: str | None = None,
        replies: Sequence[NewReply] = (),
        then: Then,
    ) -> None:
        """As :meth:`settle`, by a callback."""
        if state not in FINAL_MESSAGE_STATES:
            raise ValueError(f"{state} does not settle a message")
        operation = move_message(self._texts, row, state, error=error)
        operation.settled_at = now = self._clock.now()
        if row.earlier:
            operation.together = [
                move_message(self._texts, one, state, error=error, via=MessageState.RUNNING)
                for one in row.earlier
                if one.state not in FINAL_MESSAGE_STATES
            ]
            for move in operation.together:
                move.settled_at = now
        operation.settling = True
        if replies:
            operation.replies = [add_reply(self._texts, row.agent_id, row.id, reply, now) for reply in replies]
        operation.then = then
        self._committer.submit(operation)

    async def add_reply(self, agent_id: str, inbox_id: int | None, reply: NewReply) -> Reply:
        """A reply into the outbox, as pending; ``inbox_id`` is the message that it answers, if any."""
        future, then = awaited()
        self.add_reply_then(agent_id, inbox_id, reply, then=then)
        added: Reply = await future
        return added

    def add_reply_then(self, agent_id: str, inbox_id: int | None, reply: NewReply, *, then: Then) -> None:
        """As :meth:`add_reply`, by a callback."""
        operation = add_reply(self._texts, agent_id, inbox_id, reply, self._clock.now())
        operation.then = then
        self._committer.submit(operation)

    async def settle_reply(self, reply: Reply, state: ReplyState, error: str | None = None) -> bool:
        """→ acked, unknown or dead; whether it was as ``reply`` says."""
        future, then = awaited()
        self.settle_reply_then(reply, state, error, then=then)
        won: bool = await future
        return won

    def settle_reply_then(self, reply: Reply, state: ReplyState, error: str | None = None, *, then: Then) -> None:
        """As :meth:`settle_reply`, by a callback."""
        if state not in FINAL_REPLY_STATES:
            raise ValueError(f"{state} does not settle a reply")
        check_transition(REPLY_TRANSITIONS, reply.state, state)
        operation = move_reply(self._texts, reply, state, error)
        operation.settled_at = self._clock.now()
        operation.then = then
        self._committer.submit(operation)
