"""The journal: inbox and outbox as the engine uses them. Every method returns after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

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
from supervisor.protocol import InboundMessage
from supervisor.store.committer import GroupCommitter, JournalLimits
from supervisor.store.dead_letters import DeadLetters
from supervisor.store.dialect import Database, TextCodec
from supervisor.store.dialect.operations import (
    AddMessage,
    NoteConversation,
    Operation,
    add_reply,
    move_message,
    move_reply,
)
from supervisor.store.dialect.stored import StoredMessage
from supervisor.store.lives import AgentLives
from supervisor.store.maintenance import JournalMaintenance
from supervisor.store.reading import JournalReader
from supervisor.store.summaries import ConversationSummaries
from supervisor.store.usage import UsageJournal


class Journal(JournalReader):
    """Messages and replies in a database, written in batches.

    A method that changes a row compares it first: where somebody else has changed it, nothing happens and the method
    says so. On success it brings the caller's record up to date. A transition that ``states`` does not allow
    raises :class:`~supervisor.core.states.IllegalTransitionError`. Cancelling a caller does not undo what it asked for.

    While the database refuses (disk full, locked, broken), operations wait in memory and are tried again; ``healthy``
    is false then and ``problem`` says why.

    Args:
        texts: how messages and errors are stored, encrypted or not.

    Attributes:
        usage: what agents use of language models.
        lives: what is remembered of each agent over a restart.
        summaries: what stands for the beginning of long conversations.
        dead_letters: what people do with them.
        maintenance: what touches many rows at once.
        hooks: what is told of commits and of trouble.
    """

    def __init__(self, database: Database, clock: Clock, texts: TextCodec, limits: JournalLimits) -> None:
        super().__init__(database.questions, texts)
        self._clock = clock
        self._limits = limits
        self._committer = GroupCommitter(database.commit, clock, self.hooks, limits)
        self.usage = UsageJournal(self._committer, self.hooks)
        self.lives = AgentLives(database, self._committer)
        self.summaries = ConversationSummaries(database.questions, self._committer, texts)
        self.dead_letters = DeadLetters(database.changes, self._committer, clock)
        self.maintenance = JournalMaintenance(database.changes, self._committer, clock)

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._committer.problem is None

    @property
    def problem(self) -> str | None:
        """Why nothing can be written at the moment, in one line."""
        return self._committer.problem

    @property
    def dead(self) -> bool:
        """Whether the task that writes has ended although the journal is open."""
        return self._committer.dead

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
        added: JournaledMessage | None = await self._commit(AddMessage(row=row, body=self._texts.body(message)))
        return added

    async def claim(self, row: JournaledMessage) -> bool:
        """Available or retryable → running; the attempt is counted before it begins."""
        return await self._move(row, MessageState.RUNNING, attempts=row.attempts + 1, error=row.error)

    async def release(self, row: JournaledMessage) -> bool:
        """Running → available, as if it had never been claimed: a clean drain costs no attempt."""
        return await self._move(row, MessageState.AVAILABLE, attempts=max(0, row.attempts - 1), error=row.error)

    async def retry(self, row: JournaledMessage, error: str, not_before: float) -> bool:
        """Running → retryable, to be tried again at ``not_before`` (seconds since the epoch)."""
        return await self._move(row, MessageState.RETRYABLE, error=error, not_before=not_before)

    async def settle(
        self, row: JournaledMessage, state: MessageState, *, error: str | None = None, replies: Sequence[NewReply] = ()
    ) -> list[Reply] | None:
        """→ done, dead or cancelled, and the replies into the outbox, in one transaction; with it what it answers too.

        Returns:
            The replies as they are in the outbox; None when the row had been changed, and nothing was inserted.
        """
        return await self.settling(row, state, error=error, replies=replies)

    def settling(
        self, row: JournaledMessage, state: MessageState, *, error: str | None = None, replies: Sequence[NewReply] = ()
    ) -> asyncio.Future[list[Reply] | None]:
        """As :meth:`settle`, asked for at once; done after the commit."""
        if state not in FINAL_MESSAGE_STATES:
            raise ValueError(f"{state} does not settle a message")
        now = self._clock.now()
        operation = move_message(self._texts, row, state, error=error)
        operation.together = [
            move_message(self._texts, one, state, error=error, via=MessageState.RUNNING)
            for one in row.earlier
            if one.state not in FINAL_MESSAGE_STATES
        ]
        operation.settling = True
        for move in (operation, *operation.together):
            move.settled_at = now
        operation.replies = [add_reply(self._texts, row.agent_id, row.id, reply, now) for reply in replies]
        self._committer.submit(operation)
        return operation.future

    async def record_conversation(self, agent_id: str, conversation_id: str, *, at: float) -> None:
        """An agent is in a conversation, last seen ``at`` (seconds since the epoch)."""
        await self._commit(NoteConversation(agent_id=agent_id, conversation_id=conversation_id, last_seen=at))

    async def forget_conversation(self, agent_id: str, conversation_id: str) -> None:
        """An agent is in a conversation no longer; what was said there stays.

        That it left is remembered as a negative time, which no list of those it is in reaches.
        """
        left = NoteConversation(agent_id=agent_id, conversation_id=conversation_id, last_seen=-self._clock.now())
        await self._commit(left)

    async def add_reply(self, agent_id: str, inbox_id: int | None, reply: NewReply) -> Reply:
        """A reply into the outbox, as pending; ``inbox_id`` is the message that it answers, if any."""
        added: Reply = await self._commit(add_reply(self._texts, agent_id, inbox_id, reply, self._clock.now()))
        return added

    async def mark_sent(self, reply: Reply) -> bool:
        """Pending → sent, before a send that must not be repeated."""
        check_transition(REPLY_TRANSITIONS, reply.state, ReplyState.SENT)
        return bool(await self._commit(move_reply(self._texts, reply, ReplyState.SENT, reply.error)))

    async def defer_reply(self, reply: Reply, error: str, not_before: float) -> bool:
        """A failed attempt: pending again until ``not_before`` (seconds since the epoch)."""
        if reply.state is ReplyState.DEAD:
            raise ValueError("a dead reply becomes pending through replay_replies()")
        if reply.state is not ReplyState.PENDING:
            check_transition(REPLY_TRANSITIONS, reply.state, ReplyState.PENDING)
        operation = move_reply(self._texts, reply, ReplyState.PENDING, error)
        operation.attempts += 1
        operation.not_before = not_before
        return bool(await self._commit(operation))

    async def settle_reply(self, reply: Reply, state: ReplyState, error: str | None = None) -> bool:
        """→ acked, unknown or dead."""
        if state not in FINAL_REPLY_STATES:
            raise ValueError(f"{state} does not settle a reply")
        check_transition(REPLY_TRANSITIONS, reply.state, state)
        operation = move_reply(self._texts, reply, state, error)
        operation.settled_at = self._clock.now()
        return bool(await self._commit(operation))

    async def unsettled(self, agent_id: str, *, after_id: int = 0, limit: int = 1000) -> list[JournaledMessage]:
        """Messages of an agent that are available or retryable, in order of their ids.

        One whose text cannot be read (its key is gone) becomes a dead letter: replayed once the key is back, it runs.
        """
        return await self._readable(lambda: self._questions.unsettled(agent_id, after_id, limit))

    async def replayed(self) -> list[JournaledMessage]:
        """Messages of any agent that a person replayed and that are available, in order of their ids."""
        return await self._readable(self._questions.replayed)

    async def flush(self) -> None:
        """Return when everything asked for so far is committed."""
        self.usage.write()
        await self._committer.flush()

    async def close(self, timeout: float | None = None) -> None:
        """Commit what waits, for ``timeout`` seconds at most; what cannot be written fails its callers.

        Idempotent.
        """
        self.usage.write()
        await self._committer.close(self._limits.close_seconds if timeout is None else timeout)

    async def _readable(self, query: Callable[[], Awaitable[list[StoredMessage]]]) -> list[JournaledMessage]:
        """The messages that a query finds, once those that cannot be read have become dead letters."""
        while True:
            rows = await self._messages(await query())
            unreadable = [row for row in rows if row.problem]
            if not unreadable:
                return rows
            self._warn_unreadable(unreadable)
            await asyncio.gather(*[self.settle(row, MessageState.DEAD, error=row.problem) for row in unreadable])

    async def _commit(self, operation: Operation) -> Any:
        self._committer.submit(operation)
        return await operation.future

    async def _move(
        self,
        row: JournaledMessage,
        state: MessageState,
        *,
        error: str | None,
        attempts: int | None = None,
        not_before: float | None = None,
    ) -> bool:
        if state is MessageState.AVAILABLE and row.state is MessageState.DEAD:
            raise ValueError("a dead letter becomes available through replay()")
        won: bool = await self._commit(
            move_message(self._texts, row, state, error=error, attempts=attempts, not_before=not_before)
        )
        return won
