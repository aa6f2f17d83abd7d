"""The journal: inbox and outbox as the engine uses them (DESIGN §4). Every method returns after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage, NewReply, Reply
from supervisor.core.states import (
    FINAL_MESSAGE_STATES,
    FINAL_REPLY_STATES,
    MESSAGE_TRANSITIONS,
    REPLY_TRANSITIONS,
    MessageState,
    ReplyState,
    check_transition,
)
from supervisor.protocol import InboundMessage
from supervisor.store import batch, codec, queries, spending, sqlite
from supervisor.store.committer import WAITING_BYTES_LIMIT, WAITING_LIMIT, GroupCommitter
from supervisor.store.reader import Reader
from supervisor.store.reading import JournalReader
from supervisor.store.usage import UsageJournal
from supervisor.store.writer import Writer

T = TypeVar("T")
#: The platform's clock may be a little ahead, and a backfill looks a little before the time it is given.
PURGE_MARGIN_SECONDS: Final = 10.0

_CLOSE_SECONDS: Final = 10.0


class Journal(JournalReader):
    """Messages and replies on disk, written in batches.

    A method that changes a row compares it first: where somebody else has changed it, nothing happens and the method
    says so. On success it brings the caller's row object up to date. A transition that ``states`` does not allow
    raises :class:`~supervisor.core.states.IllegalTransitionError`. Cancelling a caller does not undo what it asked for.

    While the disk refuses (full, locked, broken), operations wait in memory and are tried again; ``healthy`` is false
    then and ``problem`` says why.

    Args:
        reader: where it reads.
        writer: where it writes.
        numbers: the rows' numbers, loaded.
        path: the registry's file, for the wording of errors.
        texts: how messages and errors are stored, encrypted or not.
    """

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        numbers: batch.Numbers,
        path: Path,
        clock: Clock,
        *,
        texts: codec.TextCodec,
    ) -> None:
        super().__init__(reader, texts)
        self._writer = writer
        self._clock = clock
        self._committer = GroupCommitter(writer, numbers, clock, partial(sqlite.explain, path))
        #: What agents use of language models.
        self.usage = UsageJournal(self._committer)

    # ── health ───────────────────────────────────────────────────────────────────────────────────────────────────────

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

    @property
    def on_commit(self) -> Callable[[float, int], None] | None:
        """Called on the loop after each commit with its seconds and its number of operations."""
        return self._committer.on_commit

    @on_commit.setter
    def on_commit(self, hook: Callable[[float, int], None] | None) -> None:
        self._committer.on_commit = hook

    @property
    def on_error(self) -> Callable[[str], None] | None:
        """Called on the loop with one readable line for each failed attempt to write."""
        return self._committer.on_error

    @on_error.setter
    def on_error(self, hook: Callable[[str], None] | None) -> None:
        self._committer.on_error = hook

    # ── inbox ────────────────────────────────────────────────────────────────────────────────────────────────────────

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
            RegistryError: too many operations wait in memory because the disk refuses them.
        """
        if self.waiting >= WAITING_LIMIT or self.waiting_bytes >= WAITING_BYTES_LIMIT:
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
        added: JournaledMessage | None = await self._commit(
            batch.Add(self._future(), row=row, body=self._texts.body(message))
        )
        return added

    async def claim(self, row: JournaledMessage) -> bool:
        """Available or retryable → running; the attempt is counted before it begins (DESIGN §4)."""
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
        """→ done, dead or cancelled, and the replies into the outbox, in one transaction.

        Returns:
            The replies as they are in the outbox; None when the row had been changed, and nothing was inserted.
        """
        if state not in FINAL_MESSAGE_STATES:
            raise ValueError(f"{state} does not settle a message")
        operation = self._prepare_move(row, state, attempts=row.attempts, error=error, not_before=row.not_before)
        operation.settling = True
        operation.settled_at = self._clock.now()
        operation.replies = [self._put(row.agent_id, row.id, reply) for reply in replies]
        settled: list[Reply] | None = await self._commit(operation)
        return settled

    async def replay(self, row: JournaledMessage) -> bool:
        """Dead → available, with all its attempts again, because a person said so."""
        return (await self.replay_all([row]))[0]

    async def replay_all(self, rows: Sequence[JournaledMessage]) -> list[bool]:
        """As :meth:`replay`, all in one transaction: whoever follows the journal sees them together, in their order.

        Returns:
            Whether each was replayed; False where somebody was faster.
        """
        for row in rows:
            check_transition(MESSAGE_TRANSITIONS, row.state, MessageState.AVAILABLE)
            if row.state is not MessageState.DEAD:
                raise ValueError("only a dead letter can be replayed; use release()")
        won = await self._maintain(lambda connection: [queries.replay(connection, row) for row in rows])
        for row, replayed in zip(rows, won, strict=True):
            if replayed:
                row.state, row.attempts, row.not_before = MessageState.AVAILABLE, 0, 0.0
                row.replay += 1
                row.settled_at = None
        return won

    async def discard(self, row: JournaledMessage) -> bool:
        """Dead → cancelled, because a person said so; False when somebody was faster."""
        check_transition(MESSAGE_TRANSITIONS, row.state, MessageState.CANCELLED)
        if row.state is not MessageState.DEAD:
            raise ValueError("only a dead letter can be discarded; use settle()")
        now = self._clock.now()
        won = await self._maintain(partial(queries.discard, row=row, now=now))
        if won:
            row.state, row.settled_at = MessageState.CANCELLED, now
        return won

    async def note_conversation(self, agent_id: str, conversation_id: str, *, at: float) -> None:
        """An agent is in a conversation, last seen ``at`` (seconds since the epoch)."""
        await self._commit(batch.Know(self._future(), agent_id, conversation_id, at))

    async def forget_conversation(self, agent_id: str, conversation_id: str) -> None:
        """An agent is in a conversation no longer; what was said there stays."""
        await self._commit(batch.Know(self._future(), agent_id, conversation_id, None))

    # ── outbox ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def add_reply(self, agent_id: str, inbox_id: int | None, reply: NewReply) -> Reply:
        """A reply into the outbox, as pending; ``inbox_id`` is the message that it answers, if any."""
        put: Reply = await self._commit(self._put(agent_id, inbox_id, reply))
        return put

    async def mark_sent(self, reply: Reply) -> bool:
        """Pending → sent, before a send that must not be repeated."""
        return await self._move_reply(reply, ReplyState.SENT, error=reply.error)

    async def defer_reply(self, reply: Reply, error: str, not_before: float) -> bool:
        """A failed attempt: pending again until ``not_before`` (seconds since the epoch)."""
        if reply.state is ReplyState.DEAD:
            raise ValueError("a dead reply becomes pending through replay_replies()")
        if reply.state is not ReplyState.PENDING:
            check_transition(REPLY_TRANSITIONS, reply.state, ReplyState.PENDING)
        operation = self._prepare_reply(reply, ReplyState.PENDING, error)
        operation.attempts += 1
        operation.not_before = not_before
        deferred: bool = await self._commit(operation)
        return deferred

    async def settle_reply(self, reply: Reply, state: ReplyState, error: str | None = None) -> bool:
        """→ acked, unknown or dead."""
        if state not in FINAL_REPLY_STATES:
            raise ValueError(f"{state} does not settle a reply")
        return await self._move_reply(reply, state, error=error, settled_at=self._clock.now())

    async def replay_replies(self, replies: Sequence[Reply]) -> list[bool]:
        """Dead → pending, with all its attempts again and the same ``_id``, because a person said so.

        All in one transaction: whoever follows the journal sees them together, in their order.

        Returns:
            Whether each was replayed; False where somebody was faster.
        """
        for reply in replies:
            check_transition(REPLY_TRANSITIONS, reply.state, ReplyState.PENDING)
            if reply.state is not ReplyState.DEAD or reply.inbox_id is None:
                raise ValueError("only a dead reply to a message can be replayed; use defer_reply()")
        if not replies:
            return []
        won = await self._maintain(lambda connection: [queries.replay_reply(connection, reply) for reply in replies])
        for reply, replayed in zip(replies, won, strict=True):
            if replayed:
                reply.state, reply.attempts, reply.not_before = ReplyState.PENDING, 0, 0.0
        return won

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def unsettled(self, agent_id: str, *, after_id: int = 0, limit: int = 1000) -> list[JournaledMessage]:
        """Messages of an agent that are available or retryable, in order of their ids.

        One whose text cannot be read (its key is gone) becomes a dead letter: replayed once the key is back, it runs.
        """
        query = partial(queries.unsettled, agent_id=agent_id, after_id=after_id, limit=limit)
        return await self._readable(query)

    async def replayed(self) -> list[JournaledMessage]:
        """Messages of any agent that a person replayed and that are available, in order of their ids."""
        return await self._readable(queries.replayed)

    # ── maintenance ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def rescue(self, agent_id: str | None = None) -> int:
        """What was running when the process died, or when one agent broke down, becomes available; how many.

        The attempt stays counted. Nothing of it may be running still.
        """
        return await self._maintain(partial(queries.rescue, agent_id=agent_id))

    async def cancel_agent(self, agent_id: str) -> int:
        """An agent was removed: cancel its unsettled messages, give up its replies; the number of messages."""
        return await self._maintain(partial(queries.cancel_agent, agent_id=agent_id, now=self._clock.now()))

    async def cancel_removed(self) -> int:
        """At the start: as :meth:`cancel_agent`, for every agent that is not registered any more."""
        return await self._maintain(partial(queries.cancel_removed, now=self._clock.now()))

    async def purge(self, agent_id: str, conversation_id: str | None = None) -> int:
        """Erase everything of an agent or of one conversation, on the disk too; the number of messages and replies."""
        now = self._clock.now() + PURGE_MARGIN_SECONDS
        work = partial(queries.purge, agent_id=agent_id, conversation_id=conversation_id, now=now)
        erased = await self._maintain(work)
        await self._writer.call(sqlite.empty_log)
        return erased

    async def prune(self, before: float) -> int:
        """Delete what was settled before ``before`` (seconds since the epoch), in slices of 1,000 rows.

        A reply counts from its own settlement; a message stays while a reply to it is on its way. Conversations that
        were last seen before ``before`` are forgotten; the keys that stand for agents stay.

        Returns:
            The number of messages and replies.
        """
        deleted = 0
        for table in ("inbox", "outbox"):
            last = await self._reader.read(partial(queries.last_before, table=table, before=before))
            position = 0
            while position < last:
                work = partial(queries.prune_slice, table=table, after_id=position, last_id=last, before=before)
                some, position = await self._maintain(work)
                deleted += some
        while await self._maintain(partial(queries.prune_conversations, before=before)) == queries.SLICE:
            pass
        return deleted

    async def prune_usage(self, before_day: str) -> int:
        """Delete what was used before a UTC day (``2026-01-31``); the number of rows."""
        return await self._maintain(partial(spending.prune, before_day=before_day))

    async def flush(self) -> None:
        """Return when everything asked for so far is committed."""
        self.usage.write()
        await self._committer.flush()

    async def close(self, timeout: float | None = None) -> None:
        """Commit what waits, for ``timeout`` (10) seconds at most; what cannot be written fails its callers.

        Idempotent.
        """
        self.usage.write()
        await self._committer.close(_CLOSE_SECONDS if timeout is None else timeout)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    async def _readable(
        self, query: Callable[[Connection, codec.TextCodec], list[JournaledMessage]]
    ) -> list[JournaledMessage]:
        """The messages that a query finds, once those that cannot be read have become dead letters."""
        while True:
            rows = await self._read(query)
            unreadable = [row for row in rows if row.problem]
            if not unreadable:
                return rows
            self._tell_unreadable(unreadable)
            await asyncio.gather(*[self.settle(row, MessageState.DEAD, error=row.problem) for row in unreadable])

    async def _commit(self, operation: batch.Operation) -> Any:
        self._committer.submit(operation)
        return await operation.future

    def _prepare_move(
        self, row: JournaledMessage, state: MessageState, *, attempts: int, error: str | None, not_before: float
    ) -> batch.Move:
        check_transition(MESSAGE_TRANSITIONS, row.state, state)
        kept = codec.cut(error)
        return batch.Move(
            self._future(),
            row=row,
            state=state,
            attempts=attempts,
            not_before=not_before,
            error=kept,
            stored_error=self._texts.error(kept),
            expected=(codec.MESSAGE_CODES[row.state], row.attempts, row.replay),
        )

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
            self._prepare_move(
                row,
                state,
                attempts=row.attempts if attempts is None else attempts,
                error=error,
                not_before=row.not_before if not_before is None else not_before,
            )
        )
        return won

    def _put(self, agent_id: str, inbox_id: int | None, new: NewReply) -> batch.Put:
        reply = Reply(
            id=0,
            agent_id=agent_id,
            inbox_id=inbox_id,
            part=new.part,
            message=new.message,
            state=ReplyState.PENDING,
            created_at=self._clock.now(),
        )
        return batch.Put(self._future(), reply=reply, body=self._texts.body(new.message))

    def _prepare_reply(self, reply: Reply, state: ReplyState, error: str | None) -> batch.MoveReply:
        kept = codec.cut(error)
        return batch.MoveReply(
            self._future(),
            reply=reply,
            state=state,
            attempts=reply.attempts,
            not_before=reply.not_before,
            error=kept,
            stored_error=self._texts.error(kept),
            expected=codec.REPLY_CODES[reply.state],
        )

    async def _move_reply(
        self, reply: Reply, state: ReplyState, *, error: str | None, settled_at: float | None = None
    ) -> bool:
        check_transition(REPLY_TRANSITIONS, reply.state, state)
        operation = self._prepare_reply(reply, state, error)
        operation.settled_at = settled_at
        won: bool = await self._commit(operation)
        return won

    async def _maintain(self, work: Callable[[Connection], T]) -> T:
        """Run maintenance in a transaction of its own, after everything that was asked for before it."""
        await self._committer.flush()
        return await self._writer.alter(work)
