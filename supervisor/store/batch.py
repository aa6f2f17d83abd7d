"""Group commit: many operations of the journal applied in one transaction, with few statements.

A statement takes as many rows as there are (in powers of two, so that few texts have to be prepared), never one
statement a row: the driver gives up the interpreter lock around every step, and while the loop is busy it gets it back
only after milliseconds (measured for 100 rows on a busy loop: 800 ms with ``executemany``, 2 to 17 ms like this).

Changes of state are compare and set: a row is changed only if it is as its owner knows it. A statement tells how many
rows it changed, not which; when one is missing, the transaction is rolled back and the batch applied again, one
operation at a time (:func:`apply_singly`), which also finds a single operation that the database refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from supervisor.core.records import JournaledMessage, Reply, UsageRecord
from supervisor.core.states import MessageState, ReplyState
from supervisor.store import codec, spending, sqlite
from supervisor.store.rows import RowsStatement


class ContendedError(Exception):
    """Some operation of the batch lost against somebody else; which one is not known."""


# ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True, eq=False)
class Operation:
    """One thing to be committed; whoever asked for it waits for ``future``."""

    future: asyncio.Future[Any]

    @property
    def bytes_held(self) -> int:
        """The bytes of text that it keeps in memory until it is committed."""
        return 0

    def result(self, won: bool) -> Any:
        """Bring the caller's row up to date after the commit, on the loop; what the caller gets.

        Args:
            won: whether the row was inserted or the compare and set succeeded.
        """
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class Barrier(Operation):
    """Nothing: it is committed when everything submitted before it is."""

    def result(self, won: bool) -> None:  # noqa: ARG002 - nothing to win
        return None


@dataclass(slots=True, eq=False)
class Add(Operation):
    """A message into the inbox; lost when its key is there already."""

    row: JournaledMessage
    body: bytes
    # Given by the writer's thread within the transaction; the row takes it over once that is committed.
    number: int = 0

    @property
    def bytes_held(self) -> int:
        return len(self.body)

    def result(self, won: bool) -> JournaledMessage | None:
        if not won:
            return None
        self.row.id = self.number
        return self.row


@dataclass(slots=True, eq=False)
class Know(Operation):
    """A conversation of an agent noted, or forgotten."""

    agent_id: str
    conversation_id: str
    # None: it is forgotten.
    last_seen: float | None

    def result(self, won: bool) -> None:  # noqa: ARG002 - it is as it was asked for, whatever was there
        return None


@dataclass(slots=True, eq=False)
class Put(Operation):
    """A reply into the outbox."""

    reply: Reply
    body: bytes
    number: int = 0

    @property
    def bytes_held(self) -> int:
        return len(self.body)

    def result(self, won: bool) -> Reply:  # noqa: ARG002 - a reply is always inserted
        self.reply.id = self.number
        return self.reply


@dataclass(slots=True, eq=False)
class Move(Operation):
    """A message of the inbox into another state, together with the replies that settle it."""

    row: JournaledMessage
    state: MessageState
    attempts: int
    not_before: float
    error: str | None
    settled_at: float | None = None
    replies: list[Put] = field(default_factory=list)
    # settle() gives the replies, everything else whether it succeeded.
    settling: bool = False
    # The row as it was when this was asked for.
    expected: tuple[int, int, int] = (0, 0, 0)
    # The error as its column holds it.
    stored_error: str | None = None

    @property
    def bytes_held(self) -> int:
        return sum(put.bytes_held for put in self.replies) + len(self.stored_error or "")

    def result(self, won: bool) -> bool | list[Reply] | None:
        if won:
            row = self.row
            row.state, row.attempts, row.not_before, row.error = self.state, self.attempts, self.not_before, self.error
            row.settled_at = self.settled_at
        if not self.settling:
            return won
        return [put.result(won) for put in self.replies] if won else None


@dataclass(slots=True, eq=False)
class MoveReply(Operation):
    """A reply of the outbox into another state."""

    reply: Reply
    state: ReplyState
    attempts: int
    not_before: float
    error: str | None
    settled_at: float | None = None
    expected: int = 0
    # The error as its column holds it.
    stored_error: str | None = None

    @property
    def bytes_held(self) -> int:
        return len(self.stored_error or "")

    def result(self, won: bool) -> bool:
        if won:
            reply = self.reply
            reply.state, reply.attempts, reply.not_before = self.state, self.attempts, self.not_before
            reply.error = self.error
        return won


@dataclass(slots=True, eq=False)
class Spend(Operation):
    """What agents used of language models, added to their rows; one record for each agent, model and day."""

    records: list[UsageRecord]

    def result(self, won: bool) -> None:  # noqa: ARG002 - sums are always added
        return None


# ── statements ───────────────────────────────────────────────────────────────────────────────────────────────────────


_ADD = RowsStatement(
    "INSERT INTO inbox (id, agent_key, message_key, conversation_id, state, attempts, received_at, body) VALUES",
    8,
    "ON CONFLICT (agent_key, message_key) DO NOTHING",
)
_SEEN = RowsStatement(
    "INSERT INTO conversations (agent_key, conversation_id, last_seen) VALUES",
    3,
    "ON CONFLICT (agent_key, conversation_id) DO UPDATE SET last_seen = excluded.last_seen "
    "WHERE excluded.last_seen > conversations.last_seen",
)
_UNSEEN = RowsStatement("DELETE FROM conversations WHERE (agent_key, conversation_id) IN (VALUES", 2, ")")
_MOVE = RowsStatement(
    "UPDATE inbox SET state = v.column5, attempts = v.column6, not_before = v.column7, error = v.column8, "
    "settled_at = v.column9 FROM (VALUES",
    9,
    ") AS v WHERE inbox.id = v.column1 AND inbox.state = v.column2 AND inbox.attempts = v.column3 "
    "AND inbox.replay = v.column4",
)
_PUT = RowsStatement(
    "INSERT INTO outbox (id, agent_key, inbox_id, part, conversation_id, state, created_at, body) VALUES", 8, ""
)
_MOVE_REPLY = RowsStatement(
    "UPDATE outbox SET state = v.column3, attempts = v.column4, not_before = v.column5, error = v.column6, "
    "settled_at = v.column7 FROM (VALUES",
    7,
    ") AS v WHERE outbox.id = v.column1 AND outbox.state = v.column2",
)


# ── applying ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Numbers:
    """The numbers that rows get, given in process so that rows of one batch can name each other.

    Used in the writer's thread only. A number whose transaction was rolled back is not used again.
    """

    def __init__(self) -> None:
        self.inbox = 0
        self.outbox = 0
        self._keys: dict[str, int] = {}
        self._fresh: dict[str, int] = {}

    def load(self, connection: Connection) -> None:
        """Take up where the database is: at opening, and when another process has written rows too."""
        self.forget()
        self._keys.clear()
        self.inbox = max(self.inbox, connection.exec_driver_sql("SELECT max(id) FROM inbox").scalar() or 0)
        self.outbox = max(self.outbox, connection.exec_driver_sql("SELECT max(id) FROM outbox").scalar() or 0)

    def agent_key(self, connection: Connection, agent_id: str) -> int:
        """The small integer that stands for an agent in the journal; made when it is first needed."""
        key = self._keys.get(agent_id) or self._fresh.get(agent_id)
        if key is None:
            connection.exec_driver_sql(
                "INSERT INTO agent_keys (agent_id) VALUES (?) ON CONFLICT (agent_id) DO NOTHING", (agent_id,)
            )
            key = connection.exec_driver_sql("SELECT key FROM agent_keys WHERE agent_id = ?", (agent_id,)).scalar_one()
            self._fresh[agent_id] = key
        return key

    def keep(self) -> None:
        """The transaction that made keys is committed."""
        self._keys.update(self._fresh)
        self._fresh.clear()

    def forget(self) -> None:
        """The transaction that made keys is rolled back."""
        self._fresh.clear()


def apply(connection: Connection, operations: Sequence[Operation], numbers: Numbers) -> list[bool]:
    """Apply a batch within the caller's transaction.

    Returns:
        For each operation, whether it won; only an :class:`Add` can have lost.

    Raises:
        ContendedError: some operation lost, which is not known; the transaction must be rolled back.
    """
    numbers.forget()
    lost = _add(connection, [o for o in operations if isinstance(o, Add)], numbers)
    _know(connection, [o for o in operations if isinstance(o, Add | Know) and o not in lost], numbers)
    moves = [o for o in operations if isinstance(o, Move)]
    if moves and _MOVE.execute(connection, [_move_row(o) for o in moves]) != len(moves):
        raise ContendedError
    puts: list[Put] = []
    for operation in operations:
        if isinstance(operation, Move):
            puts += operation.replies
        elif isinstance(operation, Put):
            puts.append(operation)
    _put(connection, puts, numbers)
    replies = [o for o in operations if isinstance(o, MoveReply)]
    if replies and _MOVE_REPLY.execute(connection, [_move_reply_row(o) for o in replies]) != len(replies):
        raise ContendedError
    for operation in operations:
        if isinstance(operation, Spend):
            spending.spend(connection, operation.records, numbers.agent_key)
    return [o not in lost for o in operations] if lost else [True] * len(operations)


def apply_singly(
    connection: Connection, operations: Sequence[Operation], numbers: Numbers
) -> list[bool | SQLAlchemyError | ValueError | OverflowError]:
    """Apply a batch one operation at a time: whether each won, or why the database refuses it."""
    numbers.load(connection)
    outcomes: list[bool | SQLAlchemyError | ValueError | OverflowError] = []
    for operation in operations:
        try:
            with connection.begin_nested():
                outcomes += apply(connection, [operation], numbers)
            numbers.keep()
        except ContendedError:
            outcomes.append(False)
        except DBAPIError as error:
            if sqlite.is_transient(error):
                raise
            outcomes.append(error)
        except (SQLAlchemyError, ValueError, OverflowError) as error:
            outcomes.append(error)
    return outcomes


def _add(connection: Connection, adds: Sequence[Add], numbers: Numbers) -> set[Operation]:
    """Insert messages; those whose key is there already."""
    if not adds:
        return set()
    rows = []
    first = numbers.inbox + 1
    for add in adds:
        row = add.row
        key = numbers.agent_key(connection, row.agent_id)
        numbers.inbox += 1
        add.number = numbers.inbox
        rows.append(
            (
                add.number,
                key,
                codec.encode_key(row.key),
                row.conversation_id,
                codec.MESSAGE_CODES[row.state],
                row.attempts,
                row.received_at,
                add.body,
            )
        )
    lost: set[Operation] = set()
    added = _ADD.execute(connection, rows)
    if added != len(rows):
        found = connection.exec_driver_sql("SELECT id FROM inbox WHERE id BETWEEN ? AND ?", (first, numbers.inbox))
        present = set(found.scalars())
        if len(present) != added:
            # Another process has used some of these numbers: which of the rows are ours cannot be told.
            raise ContendedError
        lost = {add for add in adds if add.number not in present}
    return lost


def _know(connection: Connection, operations: Iterable[Add | Know], numbers: Numbers) -> None:
    """Note conversations when a message comes or when asked to, and forget them; the last word counts."""
    latest: dict[tuple[int, str], float | None] = {}
    for operation in operations:
        if isinstance(operation, Add):
            row = operation.row
            where = numbers.agent_key(connection, row.agent_id), row.conversation_id
            latest[where] = max(row.received_at, latest.get(where) or 0.0)
        else:
            where = numbers.agent_key(connection, operation.agent_id), operation.conversation_id
            latest[where] = operation.last_seen
    _SEEN.execute(connection, [(*where, at) for where, at in latest.items() if at is not None])
    _UNSEEN.execute(connection, [where for where, at in latest.items() if at is None])


def _move_row(move: Move) -> tuple[Any, ...]:
    return (
        move.row.id,
        *move.expected,
        codec.MESSAGE_CODES[move.state],
        move.attempts,
        move.not_before,
        move.stored_error,
        move.settled_at,
    )


def _put(connection: Connection, puts: Sequence[Put], numbers: Numbers) -> None:
    rows = []
    for put in puts:
        reply = put.reply
        numbers.outbox += 1
        put.number = numbers.outbox
        rows.append(
            (
                put.number,
                numbers.agent_key(connection, reply.agent_id),
                reply.inbox_id,
                reply.part,
                reply.conversation_id,
                codec.REPLY_CODES[reply.state],
                reply.created_at,
                put.body,
            )
        )
    _PUT.execute(connection, rows)


def _move_reply_row(move: MoveReply) -> tuple[Any, ...]:
    return (
        move.reply.id,
        move.expected,
        codec.REPLY_CODES[move.state],
        move.attempts,
        move.not_before,
        move.stored_error,
        move.settled_at,
    )
