"""The journal: inbox and outbox as the engine uses them. Every awaited method returns after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from supervisor.core.clock import Clock
from supervisor.core.records import JournaledMessage, Reply
from supervisor.core.states import (
    REPLY_TRANSITIONS,
    MessageState,
    ReplyState,
    check_transition,
)
from supervisor.protocol import InboundMessage
from supervisor.store.committer import JournalLimits
from supervisor.store.dead_letters import DeadLetters
from supervisor.store.dialect import Database, TextCodec
from supervisor.store.dialect.operations import (
    HandIn,
    NoteConversation,
    move_message,
    move_reply,
)
from supervisor.store.dialect.stored import StoredMessage
from supervisor.store.lives import AgentLives
from supervisor.store.maintenance import JournalMaintenance
from supervisor.store.summaries import ConversationSummaries
from supervisor.store.usage import UsageJournal
from supervisor.store.writing import JournalWriter


class Journal(JournalWriter):
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
        super().__init__(database, clock, texts, limits)
        self._database = database
        self.usage = UsageJournal(self._committer, self.hooks)
        self.lives = AgentLives(database, self._committer)
        self.summaries = ConversationSummaries(database.questions, self._committer, texts)
        self.dead_letters = DeadLetters(database.changes, self._committer, clock)
        self.maintenance = JournalMaintenance(database.changes, self._committer, clock)

    @property
    def sure(self) -> bool:
        """Whether nobody else can run the agents of this process by now: else nothing of theirs is to be sent."""
        return self._database.sure

    async def hand_in(self, agent_id: str, message: InboundMessage, *, key: str, received_at: float) -> bool:
        """Journal what was said to an agent that another process runs, which hears of it; whether it did not have it.

        Arguments, Raises: as :meth:`JournalWriter.add`.
        """
        row = JournaledMessage(
            id=0,
            agent_id=agent_id,
            key=key,
            message=message,
            state=MessageState.AVAILABLE,
            attempts=0,
            received_at=received_at,
        )
        return await self._committer.commit(HandIn(row=row, body=self._texts.body(message))) is not None

    async def claim(self, row: JournaledMessage, *, counted: bool = True) -> bool:
        """Available or retryable → running; the attempt is counted before it begins, unless there will be none."""
        return await self._move(row, MessageState.RUNNING, attempts=row.attempts + counted, error=row.error)

    async def release(self, row: JournaledMessage) -> bool:
        """Running → available, as if it had never been claimed: a clean drain costs no attempt."""
        return await self._move(row, MessageState.AVAILABLE, attempts=max(0, row.attempts - 1), error=row.error)

    async def retry(self, row: JournaledMessage, error: str, not_before: float) -> bool:
        """Running → retryable, to be tried again at ``not_before`` (seconds since the epoch)."""
        return await self._move(row, MessageState.RETRYABLE, error=error, not_before=not_before)

    async def record_conversation(self, agent_id: str, conversation_id: str, *, at: float) -> None:
        """An agent is in a conversation, last seen ``at`` (seconds since the epoch)."""
        await self._committer.commit(NoteConversation(agent_id=agent_id, conversation_id=conversation_id, last_seen=at))

    async def forget_conversation(self, agent_id: str, conversation_id: str) -> None:
        """An agent is in a conversation no longer; what was said there stays.

        That it left is remembered as a negative time, which no list of those it is in reaches.
        """
        left = NoteConversation(agent_id=agent_id, conversation_id=conversation_id, last_seen=-self._clock.now())
        await self._committer.commit(left)

    async def mark_sent(self, reply: Reply) -> bool:
        """Pending → sent, before a send that must not be repeated."""
        check_transition(REPLY_TRANSITIONS, reply.state, ReplyState.SENT)
        return bool(await self._committer.commit(move_reply(self._texts, reply, ReplyState.SENT, reply.error)))

    async def defer_reply(self, reply: Reply, error: str, not_before: float) -> bool:
        """A failed attempt: pending again until ``not_before`` (seconds since the epoch)."""
        if reply.state is ReplyState.DEAD:
            raise ValueError("a dead reply becomes pending through replay_replies()")
        if reply.state is not ReplyState.PENDING:
            check_transition(REPLY_TRANSITIONS, reply.state, ReplyState.PENDING)
        operation = move_reply(self._texts, reply, ReplyState.PENDING, error)
        operation.attempts += 1
        operation.not_before = not_before
        return bool(await self._committer.commit(operation))

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
        won: bool = await self._committer.commit(
            move_message(self._texts, row, state, error=error, attempts=attempts, not_before=not_before)
        )
        return won
