"""What people do with dead letters, and with replies that did not arrive: have them again, or put them away."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.core.clock import Clock
from supervisor.core.records import JournaledMessage, Reply
from supervisor.core.states import (
    MESSAGE_TRANSITIONS,
    REPLY_TRANSITIONS,
    MessageState,
    ReplyState,
    check_transition,
)
from supervisor.store.committer import GroupCommitter
from supervisor.store.dialect import JournalChanges


class DeadLetters:
    """Each method runs after everything that the journal was asked for before it.

    Rows are compared first, as in the journal: where somebody was faster, nothing happens and the method says so. On
    success the caller's records are brought up to date.
    """

    def __init__(self, changes: JournalChanges, committer: GroupCommitter, clock: Clock) -> None:
        self._changes = changes
        self._committer = committer
        self._clock = clock

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
        await self._committer.flush()
        won = await self._changes.replay(rows)
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
        await self._committer.flush()
        won = await self._changes.discard(row, now)
        if won:
            row.state, row.settled_at = MessageState.CANCELLED, now
        return won

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
        await self._committer.flush()
        won = await self._changes.replay_replies(replies)
        for reply, replayed in zip(replies, won, strict=True):
            if replayed:
                reply.state, reply.attempts, reply.not_before = ReplyState.PENDING, 0, 0.0
        return won
