"""What the journal commits in batches: one class for each thing that may happen to a message or a reply.

An operation carries what a database needs to write it, and brings its caller's record up to date once it is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from supervisor.core.errors import RegistryError
from supervisor.core.records import JournaledMessage, NewReply, Reply, Sleep, UsageRecord
from supervisor.core.states import MESSAGE_TRANSITIONS, MessageState, ReplyState, check_transition
from supervisor.store.dialect import codec
from supervisor.store.dialect.codec import TextCodec
from supervisor.store.dialect.stored import StoredSummary

#: Called once, on the loop, after the commit: with what the caller gets and None, or with None and why it failed.
Then: TypeAlias = Callable[[Any, RegistryError | None], object]


def _nobody_waits(_result: Any, _error: RegistryError | None) -> None:
    return


class Operation(msgspec.Struct, eq=False, kw_only=True):
    """One thing to be committed; whoever asked for it is told by ``then``."""

    then: Then = _nobody_waits

    @property
    def bytes_held(self) -> int:
        """The bytes of text that it keeps in memory until it is committed."""
        return 0

    def result(self, won: bool) -> Any:
        """Bring the caller's record up to date after the commit, on the loop; what the caller gets.

        Args:
            won: whether the row was inserted or the compare and set succeeded.
        """
        raise NotImplementedError


class Barrier(Operation, eq=False, kw_only=True):
    """Nothing: it is committed when everything submitted before it is."""

    def result(self, won: bool) -> None:  # noqa: ARG002 - nothing to win
        return None


class AddMessage(Operation, eq=False, kw_only=True):
    """A message into the inbox; lost when its key is there already.

    Args:
        number: given by the database within the transaction; the record takes it over once that is committed.
    """

    row: JournaledMessage
    body: bytes
    number: int = 0

    @property
    def bytes_held(self) -> int:
        return len(self.body)

    def result(self, won: bool) -> JournaledMessage | None:
        if not won:
            return None
        self.row.id = self.number
        return self.row


class HandIn(AddMessage, eq=False, kw_only=True):
    """As :class:`AddMessage`, into the inbox of an agent that another process runs: to it that is news, as a replay is.

    Nothing is begun with it here.
    """


class NoteConversation(Operation, eq=False, kw_only=True):
    """When an agent's conversation was last seen; negative: when it was left; None: it is forgotten."""

    agent_id: str
    conversation_id: str
    last_seen: float | None

    def result(self, won: bool) -> None:  # noqa: ARG002 - it is as it was asked for, whatever was there
        return None


class AddReply(Operation, eq=False, kw_only=True):
    """A reply into the outbox; ``number`` as in :class:`AddMessage`."""

    reply: Reply
    body: bytes
    number: int = 0

    @property
    def bytes_held(self) -> int:
        return len(self.body)

    def result(self, won: bool) -> Reply:  # noqa: ARG002 - a reply is always inserted
        self.reply.id = self.number
        return self.reply


class MoveMessage(Operation, eq=False, kw_only=True):
    """A message of the inbox into another state, together with the replies that settle it.

    Args:
        expected: state, attempts and replay of the row when this was asked for: what is compared.
        stored_error: ``error`` as it is written.
        together: messages that are settled in the same commit; one that somebody else has changed is left as it is.
        lost: whether it was left so; written by the database.
        settling: whether the caller gets the replies, or only whether it succeeded.
    """

    row: JournaledMessage
    expected: tuple[MessageState, int, int]
    state: MessageState
    attempts: int
    not_before: float
    error: str | None
    stored_error: str | None
    settled_at: float | None = None
    replies: Sequence[AddReply] = ()
    together: Sequence[MoveMessage] = ()
    lost: bool = False
    settling: bool = False

    @property
    def bytes_held(self) -> int:
        held = len(self.stored_error or "")
        for reply in self.replies:
            held += len(reply.body)
        for other in self.together:
            held += other.bytes_held
        return held

    def result(self, won: bool) -> bool | list[Reply] | None:
        for other in self.together:
            other.result(won and not other.lost)
        if won:
            row = self.row
            row.state, row.attempts, row.not_before, row.error = self.state, self.attempts, self.not_before, self.error
            row.settled_at = self.settled_at
        if not self.settling:
            return won
        return [reply.result(won) for reply in self.replies] if won else None


class MoveReply(Operation, eq=False, kw_only=True):
    """A reply of the outbox into another state; ``expected`` is its state when this was asked for."""

    reply: Reply
    expected: ReplyState
    state: ReplyState
    attempts: int
    not_before: float
    error: str | None
    stored_error: str | None
    settled_at: float | None = None

    @property
    def bytes_held(self) -> int:
        return len(self.stored_error or "")

    def result(self, won: bool) -> bool:
        if won:
            reply = self.reply
            reply.state, reply.attempts, reply.not_before = self.state, self.attempts, self.not_before
            reply.error = self.error
        return won


class AddUsage(Operation, eq=False, kw_only=True):
    """What agents used of language models, added to their rows; one record for each agent, model and day."""

    records: Sequence[UsageRecord]

    def result(self, won: bool) -> None:  # noqa: ARG002 - sums are always added
        return None


class RecordRegistered(Operation, eq=False, kw_only=True):
    """When some agents were last known to be registered at the platform, in seconds since the epoch, by their ids."""

    times: Mapping[str, float]

    def result(self, won: bool) -> None:  # noqa: ARG002 - the last word counts, whatever was there
        return None


class RecordSleep(Operation, eq=False, kw_only=True):
    """That an agent sleeps; None: it is awake."""

    agent_id: str
    sleep: Sleep | None

    def result(self, won: bool) -> None:  # noqa: ARG002 - the last word counts, whatever was there
        return None


class KeepSummary(Operation, eq=False, kw_only=True):
    """What a conversation's beginning is summed up to, in place of what stood for less of it.

    Lost when the message that was being answered is there no more: what is erased must not come back so.

    Args:
        asked_id: that message's number.
    """

    agent_id: str
    conversation_id: str
    asked_id: int
    summary: StoredSummary

    @property
    def bytes_held(self) -> int:
        return len(self.summary.body)

    def result(self, won: bool) -> bool:
        return won


def move_message(
    texts: TextCodec,
    row: JournaledMessage,
    state: MessageState,
    *,
    error: str | None,
    attempts: int | None = None,
    not_before: float | None = None,
    via: MessageState | None = None,
) -> MoveMessage:
    """A message into another state; attempts and ``not_before`` stay as they are unless given.

    Args:
        via: a state that it passes through in the same commit.

    Raises:
        IllegalTransitionError: the state may not follow the one that the row has.
    """
    if via is not None:
        check_transition(MESSAGE_TRANSITIONS, row.state, via)
    check_transition(MESSAGE_TRANSITIONS, row.state if via is None else via, state)
    kept = None if error is None else codec.cut(error)
    return MoveMessage(
        row=row,
        expected=(row.state, row.attempts, row.replay),
        state=state,
        attempts=row.attempts if attempts is None else attempts,
        not_before=row.not_before if not_before is None else not_before,
        error=kept,
        stored_error=None if kept is None else texts.error(kept),
    )


def add_reply(texts: TextCodec, agent_id: str, inbox_id: int | None, new: NewReply, created_at: float) -> AddReply:
    """A reply into the outbox, as pending.

    Raises:
        RegistryError: the message cannot be written as JSON.
    """
    reply = Reply(
        id=0,
        agent_id=agent_id,
        inbox_id=inbox_id,
        part=new.part,
        message=new.message,
        state=ReplyState.PENDING,
        created_at=created_at,
        body=new.body,
    )
    return AddReply(reply=reply, body=texts.sealed(new.body) if new.body else texts.body(new.message))


def move_reply(texts: TextCodec, reply: Reply, state: ReplyState, error: str | None) -> MoveReply:
    """A reply into another state; its caller has checked that the state may follow."""
    kept = None if error is None else codec.cut(error)
    return MoveReply(
        reply=reply,
        expected=reply.state,
        state=state,
        attempts=reply.attempts,
        not_before=reply.not_before,
        error=kept,
        stored_error=None if kept is None else texts.error(kept),
    )
