"""Group commit: many operations of the journal applied in one transaction, with few statements.

A statement takes as many rows as there are (in few sizes, so that few texts have to be prepared), never one
statement a row: the driver gives up the interpreter lock around every step, and while the loop is busy it gets it back
only after milliseconds (measured for 100 rows on a busy loop: 800 ms with ``executemany``, 2 to 17 ms like this).

Changes of state are compare and set: a row is changed only if it is as its owner knows it. A statement tells how many
rows it changed, not which; when one is missing, the transaction is rolled back and the batch applied again, one
operation at a time (:func:`apply_singly`), which also finds a single operation that the database refuses.

No write asks whether this process still holds the registry: the file's lock says so for as long as the process lives.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from supervisor.core.records import UsageRecord
from supervisor.store.dialect.operations import (
    AddMessage,
    AddReply,
    AddUsage,
    KeepSummary,
    MoveMessage,
    MoveReply,
    NoteConversation,
    Operation,
    RecordRegistered,
    RecordSleep,
)
from supervisor.store.sql import columns
from supervisor.store.sql.usage import SUMS
from supervisor.store.sqlite.errors import is_transient
from supervisor.store.sqlite.many_rows import ManyRows
from supervisor.store.sqlite.numbers import Numbers

_ADD: Final = ManyRows(
    "INSERT INTO inbox (id, agent_key, message_key, conversation_id, state, attempts, received_at, body) VALUES",
    8,
    "ON CONFLICT (agent_key, message_key) DO NOTHING",
)
_SEEN: Final = ManyRows(
    "INSERT INTO conversations (agent_key, conversation_id, last_seen) VALUES",
    3,
    "ON CONFLICT (agent_key, conversation_id) DO UPDATE SET last_seen = excluded.last_seen "
    "WHERE excluded.last_seen > conversations.last_seen",
)
_UNSEEN: Final = ManyRows("DELETE FROM conversations WHERE (agent_key, conversation_id) IN (VALUES", 2, ")")
_MOVE: Final = ManyRows(
    "UPDATE inbox SET state = v.column5, attempts = v.column6, not_before = v.column7, error = v.column8, "
    "settled_at = v.column9 FROM (VALUES",
    9,
    ") AS v WHERE inbox.id = v.column1 AND inbox.state = v.column2 AND inbox.attempts = v.column3 "
    "AND inbox.replay = v.column4",
    # What joins a list costs four times as much for one row.
    one="UPDATE inbox SET state = ?5, attempts = ?6, not_before = ?7, error = ?8, settled_at = ?9 "
    "WHERE id = ?1 AND state = ?2 AND attempts = ?3 AND replay = ?4",
)
_AS_KNOWN: Final = "SELECT 1 FROM inbox WHERE id = ? AND state = ? AND attempts = ? AND replay = ?"
_ADD_REPLY: Final = ManyRows(
    "INSERT INTO outbox (id, agent_key, inbox_id, part, conversation_id, state, created_at, body) VALUES", 8, ""
)
_MOVE_REPLY: Final = ManyRows(
    "UPDATE outbox SET state = v.column3, attempts = v.column4, not_before = v.column5, error = v.column6, "
    "settled_at = v.column7 FROM (VALUES",
    7,
    ") AS v WHERE outbox.id = v.column1 AND outbox.state = v.column2",
    one="UPDATE outbox SET state = ?3, attempts = ?4, not_before = ?5, error = ?6, settled_at = ?7 "
    "WHERE id = ?1 AND state = ?2",
)
_ADD_USAGE: Final = ManyRows(
    f"INSERT INTO usage (day, agent_key, model, {', '.join(SUMS)}) VALUES",
    3 + len(SUMS),
    "ON CONFLICT (day, agent_key, model) DO UPDATE SET "
    + ", ".join(f"{column} = usage.{column} + excluded.{column}" for column in SUMS),
)

_REGISTERED: Final = ManyRows(
    "INSERT INTO agent_lives (agent_id, registered_at) VALUES",
    2,
    "ON CONFLICT (agent_id) DO UPDATE SET registered_at = excluded.registered_at",
)
_SLEEP: Final = ManyRows(
    "INSERT INTO agent_lives (agent_id, asleep_since, asleep_until, asleep_reason) VALUES",
    4,
    "ON CONFLICT (agent_id) DO UPDATE SET asleep_since = excluded.asleep_since, "
    "asleep_until = excluded.asleep_until, asleep_reason = excluded.asleep_reason",
)


_KEEP_SUMMARY: Final = (
    "INSERT INTO conversation_summaries (agent_key, conversation_id, up_to_id, since, body) SELECT ?1, ?2, ?3, ?4, ?5 "
    "WHERE EXISTS (SELECT 1 FROM inbox WHERE id = ?6 AND agent_key = ?1 AND conversation_id = ?2) "
    "ON CONFLICT (agent_key, conversation_id) DO UPDATE SET up_to_id = excluded.up_to_id, since = excluded.since, "
    "body = excluded.body WHERE excluded.up_to_id >= conversation_summaries.up_to_id"
)


class ContendedError(Exception):
    """Some operation of the batch lost against somebody else; which one is not known."""


def apply(connection: sqlite3.Connection, operations: Sequence[Operation], numbers: Numbers) -> list[bool]:
    """Apply a batch within the caller's transaction.

    Returns:
        For each operation, whether it won; only an :class:`AddMessage` or a :class:`KeepSummary` can have lost.

    Raises:
        ContendedError: some operation lost, which is not known; the transaction must be rolled back.
    """
    numbers.forget()
    batch = _sorted(operations)
    lost = _add_messages(connection, batch.adds, numbers)
    if batch.conversed:
        conversed = [o for o in batch.conversed if o not in lost] if lost else batch.conversed
        _record_conversations(connection, conversed, numbers)
    if batch.moves:
        _move(connection, batch.moves)
    if batch.replies:
        _add_replies(connection, batch.replies, numbers)
    if batch.reply_moves:
        _move_replies(connection, batch.reply_moves)
    for operation in batch.others:
        if not _note(connection, operation, numbers):
            lost.add(operation)
    return [o not in lost for o in operations] if lost else [True] * len(operations)


class _Sorted(NamedTuple):
    """The operations of a batch by what is done about them, each list in the batch's order."""

    adds: list[AddMessage]
    conversed: list[AddMessage | NoteConversation]
    moves: list[MoveMessage]
    replies: list[AddReply]
    reply_moves: list[MoveReply]
    others: list[Operation]


def _sorted(operations: Sequence[Operation]) -> _Sorted:
    batch = _Sorted([], [], [], [], [], [])
    for operation in operations:
        match operation:
            case AddMessage():
                batch.adds.append(operation)
                batch.conversed.append(operation)
            case MoveMessage(together=together, replies=replies):
                batch.moves.append(operation)
                batch.moves.extend([other for other in together if not other.lost])
                batch.replies.extend(replies)
            case MoveReply():
                batch.reply_moves.append(operation)
            case AddReply():
                batch.replies.append(operation)
            case NoteConversation():
                batch.conversed.append(operation)
            case _:
                batch.others.append(operation)
    return batch


def _note(connection: sqlite3.Connection, operation: Operation, numbers: Numbers) -> bool:
    """Write what is neither a message nor a reply; whether it won."""
    match operation:
        case AddUsage(records=records):
            _add_usage(connection, records, numbers)
        case RecordRegistered(times=times):
            _REGISTERED.execute(connection, [value for time in times.items() for value in time])
        case RecordSleep(agent_id=agent_id, sleep=sleep):
            slept = (sleep.since, sleep.until, sleep.reason) if sleep else (None, None, None)
            _SLEEP.execute(connection, (agent_id, *slept))
        case KeepSummary():
            return _keep_summary(connection, operation, numbers)
    return True


def apply_singly(
    connection: sqlite3.Connection, operations: Sequence[Operation], numbers: Numbers
) -> list[bool | sqlite3.Error | ValueError | OverflowError]:
    """Apply a batch one operation at a time: whether each won, or why the database refuses it."""
    numbers.load(connection)
    outcomes: list[bool | sqlite3.Error | ValueError | OverflowError] = []
    for operation in operations:
        try:
            if isinstance(operation, MoveMessage):
                _leave_out_changed(connection, operation)
            with _savepoint(connection):
                outcomes += apply(connection, [operation], numbers)
            numbers.keep()
        except ContendedError:
            outcomes.append(False)
        except sqlite3.Error as error:
            if is_transient(error):
                raise
            outcomes.append(error)
        except (ValueError, OverflowError) as error:
            outcomes.append(error)
    return outcomes


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """What is done within is kept, or undone where it raises."""
    connection.execute("SAVEPOINT operation")
    try:
        yield
    except BaseException:
        # Where the disk is full, SQLite has undone all of the transaction.
        if connection.in_transaction:
            connection.execute("ROLLBACK TO operation")
            connection.execute("RELEASE operation")
        raise
    connection.execute("RELEASE operation")


def _leave_out_changed(connection: sqlite3.Connection, move: MoveMessage) -> None:
    """Note which of the messages that are to be settled together with another are not as their owner knows them."""
    for other in move.together:
        state, attempts, replay = other.expected
        known = (other.row.id, columns.MESSAGE_CODES[state], attempts, replay)
        other.lost = connection.execute(_AS_KNOWN, known).fetchone() is None


def _add_messages(connection: sqlite3.Connection, adds: Sequence[AddMessage], numbers: Numbers) -> set[Operation]:
    """Insert messages; those whose key is there already."""
    if not adds:
        return set()
    values: list[Any] = []
    first = numbers.inbox + 1
    for add in adds:
        row = add.row
        key = numbers.agent_key(connection, row.agent_id)
        numbers.inbox += 1
        add.number = numbers.inbox
        values += (
            add.number,
            key,
            columns.encode_key(row.key),
            row.conversation_id,
            columns.MESSAGE_CODES[row.state],
            row.attempts,
            row.received_at,
            add.body,
        )
    added = _ADD.execute(connection, values)
    if added == len(adds):
        return set()
    found = connection.execute("SELECT id FROM inbox WHERE id BETWEEN ? AND ?", (first, numbers.inbox))
    present = {number for (number,) in found}
    if len(present) != added:
        # Another process has used some of these numbers: which of the rows are ours cannot be told.
        raise ContendedError
    return {add for add in adds if add.number not in present}


def _record_conversations(
    connection: sqlite3.Connection, operations: Iterable[AddMessage | NoteConversation], numbers: Numbers
) -> None:
    """Note conversations when a message comes or when asked to, and forget them; the last word counts."""
    latest: dict[tuple[int, str], float | None] = {}
    for operation in operations:
        if isinstance(operation, AddMessage):
            row = operation.row
            where = numbers.agent_key(connection, row.agent_id), row.conversation_id
            latest[where] = max(row.received_at, latest.get(where) or 0.0)
        else:
            where = numbers.agent_key(connection, operation.agent_id), operation.conversation_id
            latest[where] = operation.last_seen
    _UNSEEN.execute(connection, [part for where, at in latest.items() if at is None or at < 0 for part in where])
    _SEEN.execute(connection, [part for where, at in latest.items() if at is not None for part in (*where, at)])


def _move(connection: sqlite3.Connection, moves: Sequence[MoveMessage]) -> None:
    """Change messages that are as their owners know them; all of them, or it is known of none."""
    values: list[Any] = []
    for move in moves:
        state, attempts, replay = move.expected
        values += (
            move.row.id,
            columns.MESSAGE_CODES[state],
            attempts,
            replay,
            columns.MESSAGE_CODES[move.state],
            move.attempts,
            move.not_before,
            move.stored_error,
            move.settled_at,
        )
    if _MOVE.execute(connection, values) != len(moves):
        raise ContendedError


def _add_replies(connection: sqlite3.Connection, adds: Sequence[AddReply], numbers: Numbers) -> None:
    values: list[Any] = []
    for add in adds:
        reply = add.reply
        numbers.outbox += 1
        add.number = numbers.outbox
        values += (
            add.number,
            numbers.agent_key(connection, reply.agent_id),
            reply.inbox_id,
            reply.part,
            reply.conversation_id,
            columns.REPLY_CODES[reply.state],
            reply.created_at,
            add.body,
        )
    _ADD_REPLY.execute(connection, values)


def _move_replies(connection: sqlite3.Connection, moves: Sequence[MoveReply]) -> None:
    """As :func:`_move`, of replies."""
    values: list[Any] = []
    for move in moves:
        values += (
            move.reply.id,
            columns.REPLY_CODES[move.expected],
            columns.REPLY_CODES[move.state],
            move.attempts,
            move.not_before,
            move.stored_error,
            move.settled_at,
        )
    if _MOVE_REPLY.execute(connection, values) != len(moves):
        raise ContendedError


def _add_usage(connection: sqlite3.Connection, records: Iterable[UsageRecord], numbers: Numbers) -> None:
    """Add what was used to the rows of its agents, models and days."""
    values: list[Any] = []
    for record in records:
        key = numbers.agent_key(connection, record.agent_id)
        values += (record.day, key, record.model, *(getattr(record, column) for column in SUMS))
    _ADD_USAGE.execute(connection, values)


def _keep_summary(connection: sqlite3.Connection, keep: KeepSummary, numbers: Numbers) -> bool:
    body, up_to_id, since = keep.summary
    place = numbers.agent_key(connection, keep.agent_id), keep.conversation_id
    return connection.execute(_KEEP_SUMMARY, (*place, up_to_id, since, body, keep.asked_id)).rowcount == 1
