"""A batch of the journal's operations as PostgreSQL takes it, and what its answer means for each of them.

As a rule a batch is one statement (:mod:`supervisor.store.postgres.statement`). A second one, in the same transaction,
takes what is rare: a row that two operations of a batch change, messages that are settled together with another, notes
beside messages and replies. Changes of state are compare and set; the answer names those that won.
"""

# ruff: noqa: S608 - the texts are put together from names of columns; every value is bound

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import asyncpg

from supervisor.core.records import UsageRecord
from supervisor.store.dialect.operations import (
    AddMessage,
    AddReply,
    AddUsage,
    Barrier,
    HandIn,
    KeepSummary,
    MoveMessage,
    MoveReply,
    NoteConversation,
    Operation,
    RecordRegistered,
    RecordSleep,
)
from supervisor.store.postgres import statement
from supervisor.store.postgres.statement import COMMIT, Kind
from supervisor.store.sql import columns
from supervisor.store.sql.usage import SUMS

#: A row of an answer: kind, ref, id, key; a record of the driver's, or as plain values.
Told: TypeAlias = Any

_SUMS: Final = ", ".join(SUMS)
_SUM_ARRAYS: Final = ", ".join(
    f"${number}::{'float8' if name == 'cost' else 'bigint'}[]" for number, name in enumerate(SUMS, 4)
)
_ADD_USAGE: Final = (
    f"INSERT INTO usage (day, agent_key, model, {_SUMS}) "
    f"SELECT * FROM unnest($1::text[], $2::int[], $3::text[], {_SUM_ARRAYS}) AS v(day, agent, model, {_SUMS}) "
    "ORDER BY 1, 2, 3 ON CONFLICT (day, agent_key, model) DO UPDATE SET "
    + ", ".join(f"{name} = usage.{name} + excluded.{name}" for name in SUMS)
)


@dataclass(slots=True)
class Round:
    """What one statement takes: no row twice. Positions are those of the batch."""

    adds: dict[tuple[str, str], AddMessage] = field(default_factory=dict)
    moves: dict[int, tuple[int, MoveMessage]] = field(default_factory=dict)
    replies: list[tuple[int | None, AddReply]] = field(default_factory=list)
    reply_moves: dict[int, tuple[int, MoveReply]] = field(default_factory=dict)


class Batch:
    """Some operations, in the rounds that they take.

    Args:
        keys: the small integers of every agent that :attr:`agents` names; filled before :meth:`apply`.
    """

    def __init__(self, operations: Sequence[Operation], keys: Mapping[str, int]) -> None:
        self.operations = operations
        self._keys = keys
        self._notes: list[tuple[int, Operation]] = []
        self._handed_in: list[HandIn] = []
        self._rounds = [Round()]
        for position, operation in enumerate(operations):
            self._place(position, operation)

    def _place(self, position: int, operation: Operation) -> None:
        first = self._rounds[0]
        match operation:
            case AddMessage(row=row):
                operation.number = 0
                # Of two with one key the first is added, or neither.
                if first.adds.setdefault((row.agent_id, row.key), operation) is operation and type(operation) is HandIn:
                    self._handed_in.append(operation)
            case AddReply():
                first.replies.append((None, operation))
            case MoveMessage(row=row):
                into = self._round_without(row.id, "moves")
                into.moves[row.id] = (position, operation)
                into.replies += [(position, reply) for reply in operation.replies]
            case MoveReply(reply=reply):
                self._round_without(reply.id, "reply_moves").reply_moves[reply.id] = (position, operation)
            case Barrier():
                pass
            case _:
                self._notes.append((position, operation))

    def _round_without(self, number: int, what: str) -> Round:
        for one in self._rounds:
            if number not in getattr(one, what):
                return one
        self._rounds.append(Round())
        return self._rounds[-1]

    @property
    def agents(self) -> set[str]:
        """The agents whose small integers it needs."""
        found = {agent_id for one in self._rounds for agent_id, _ in one.adds}
        found |= {reply.reply.agent_id for one in self._rounds for _, reply in one.replies}
        for _, note in self._notes:
            match note:
                case NoteConversation(agent_id=agent_id) | KeepSummary(agent_id=agent_id):
                    found.add(agent_id)
                case AddUsage(records=records):
                    found |= {record.agent_id for record in records}
        return found

    @property
    def whole(self) -> bool:
        """Whether one statement takes all of it."""
        together = any(move.together for _, move in self._rounds[0].moves.values())
        return len(self._rounds) == 1 and not (self._notes or self._handed_in or together)

    async def apply(
        self, connection: asyncpg.Connection, fence: int, writer: int = 0, number: int | None = None
    ) -> list[Told]:
        """Execute what it takes, within the caller's transaction unless it is :attr:`whole`; the answer.

        Args:
            number: of the batch, where its answer is to be kept by the statement itself.
        """
        told: list[Told] = []
        for one in self._rounds:
            told += await connection.fetch(COMMIT, fence, *_arrays(one, self._keys), writer, number)
        if not told:
            return told
        together = self._together(told)
        if together.moves:
            told += await connection.fetch(COMMIT, fence, *_arrays(together, self._keys), writer, None)
        for position, note in self._notes:
            told += await self._note(connection, position, note)
        await self._converse(connection, told)
        if self._handed_in:
            await self._tell_owners(connection, told)
        return told

    def outcomes(self, told: Iterable[Told]) -> list[bool]:
        """Of each operation whether it won; their numbers and what was left out are written into them."""
        added: dict[tuple[int, bytes], int] = {}
        won: dict[int, set[int]] = {Kind.MOVED: set(), Kind.REPLY_MOVED: set(), Kind.SUMMED: set()}
        numbers: list[int] = []
        for kind, ref, number, key in told:
            if kind == Kind.ADDED:
                added[ref, key] = number
            elif kind == Kind.REPLIED:
                numbers.append(number)
            elif kind in won:
                won[kind].add(ref)
        for one in self._rounds:
            for (agent_id, name), add in one.adds.items():
                add.number = added.get((self._keys[agent_id], columns.encode_key(name)), 0)
        replied = iter(sorted(numbers))
        for one in self._rounds:
            for cause, reply in one.replies:
                reply.number = next(replied) if cause is None or cause in won[Kind.MOVED] else 0
        return [self._won(position, operation, won) for position, operation in enumerate(self.operations)]

    def _won(self, position: int, operation: Operation, won: Mapping[int, set[int]]) -> bool:
        match operation:
            case AddMessage(number=number):
                return number > 0
            case MoveMessage(together=together):
                for offset, other in enumerate(together):
                    other.lost = self._beside(position, offset) not in won[Kind.MOVED]
                return position in won[Kind.MOVED]
            case MoveReply():
                return position in won[Kind.REPLY_MOVED]
            case KeepSummary():
                return position in won[Kind.SUMMED]
        return True

    def _beside(self, position: int, offset: int) -> int:
        """The position of a message that is settled together with another: behind all those of the batch."""
        before = sum(len(one.together) for one in self.operations[:position] if isinstance(one, MoveMessage))
        return len(self.operations) + before + offset

    def _together(self, told: Iterable[Told]) -> Round:
        """The messages that are settled together with those that won."""
        won = {ref for kind, ref, _, _ in told if kind == Kind.MOVED}
        beside = Round()
        for position, operation in enumerate(self.operations):
            if isinstance(operation, MoveMessage) and position in won:
                for offset, other in enumerate(operation.together):
                    beside.moves[other.row.id] = (self._beside(position, offset), other)
        return beside

    async def _note(self, connection: asyncpg.Connection, position: int, note: Operation) -> list[Told]:
        match note:
            case AddUsage(records=records):
                await connection.execute(_ADD_USAGE, *_usage(records, self._keys))
            case RecordRegistered(times=times):
                await connection.execute(statement.REGISTERED, list(times), list(times.values()))
            case RecordSleep(agent_id=agent_id, sleep=sleep):
                slept = (sleep.since, sleep.until, sleep.reason) if sleep else (None, None, None)
                await connection.execute(statement.SLEEP, agent_id, *slept)
            case KeepSummary(agent_id=agent_id, conversation_id=place, summary=summary, asked_id=asked_id):
                kept = summary.up_to_id, summary.since, summary.body, asked_id
                if await connection.fetchval(statement.SUMMARY, self._keys[agent_id], place, *kept) is not None:
                    return [(Kind.SUMMED, position, 0, b"")]
        return []

    async def _tell_owners(self, connection: asyncpg.Connection, told: Iterable[Told]) -> None:
        added = {(ref, key): number for kind, ref, number, key in told if kind == Kind.ADDED}
        news = {
            number: one.row.agent_id
            for one in self._handed_in
            if (number := added.get((self._keys[one.row.agent_id], columns.encode_key(one.row.key)))) is not None
        }
        if news:
            await connection.execute(statement.HANDED_IN, list(news))
            await connection.execute(statement.NEWS, list(news.values()))
            await connection.execute(statement.NOTIFY)

    async def _converse(self, connection: asyncpg.Connection, told: Iterable[Told]) -> None:
        """Note and forget conversations as asked; of what concerns one of them, messages too, the last word counts."""
        asked = {(n.agent_id, n.conversation_id) for _, n in self._notes if isinstance(n, NoteConversation)}
        if not asked:
            return
        added = {(ref, key) for kind, ref, _, key in told if kind == Kind.ADDED}
        latest: dict[tuple[int, str], float | None] = {}
        for operation in self.operations:
            if isinstance(operation, NoteConversation):
                latest[self._keys[operation.agent_id], operation.conversation_id] = operation.last_seen
            elif isinstance(operation, AddMessage) and (operation.row.agent_id, operation.row.conversation_id) in asked:
                row = operation.row
                where = self._keys[row.agent_id], row.conversation_id
                if (where[0], columns.encode_key(row.key)) in added:
                    latest[where] = max(row.received_at, latest.get(where) or 0.0)
        if left := sorted(where for where, at in latest.items() if at is None or at < 0):
            await connection.execute(statement.LEFT, *_transposed(left, 2))
        if seen := sorted((*where, at) for where, at in latest.items() if at is not None):
            await connection.execute(statement.SEEN, *_transposed(seen, 3))


def _arrays(one: Round, keys: Mapping[str, int]) -> list[list[Any]]:
    """What the statement takes of a round, column by column."""
    adds = [
        (
            keys[add.row.agent_id],
            columns.encode_key(add.row.key),
            add.row.conversation_id,
            add.row.received_at,
            add.body,
            columns.MESSAGE_CODES[add.row.state],
            add.row.attempts,
        )
        for add in one.adds.values()
    ]
    replies = [
        (
            cause,
            keys[add.reply.agent_id],
            add.reply.inbox_id,
            add.reply.part,
            add.reply.conversation_id,
            add.reply.created_at,
            add.body,
        )
        for cause, add in one.replies
    ]
    moves = [_move(position, move) for position, move in one.moves.values()]
    reply_moves = [_move_reply(position, move) for position, move in one.reply_moves.values()]
    return [
        *_transposed(adds, 7),
        *_transposed(moves, 10),
        *_transposed(replies, 7),
        *_transposed(reply_moves, 8),
    ]


def _move(position: int, move: MoveMessage) -> tuple[Any, ...]:
    state, attempts, replay = move.expected
    return (
        position,
        move.row.id,
        columns.MESSAGE_CODES[state],
        attempts,
        replay,
        columns.MESSAGE_CODES[move.state],
        move.attempts,
        move.not_before,
        move.settled_at,
        move.stored_error,
    )


def _move_reply(position: int, move: MoveReply) -> tuple[Any, ...]:
    return (
        position,
        move.reply.id,
        columns.REPLY_CODES[move.expected],
        columns.REPLY_CODES[move.state],
        move.attempts,
        move.not_before,
        move.settled_at,
        move.stored_error,
    )


def _usage(records: Iterable[UsageRecord], keys: Mapping[str, int]) -> list[list[Any]]:
    """What was used, by day, agent and model: one statement changes no row twice."""
    sums: dict[tuple[str, int, str], UsageRecord] = {}
    for record in records:
        where = record.day, keys[record.agent_id], record.model
        sums[where] = sums[where].plus(record) if where in sums else record
    rows = [(*where, *(getattr(record, name) for name in SUMS)) for where, record in sums.items()]
    return _transposed(rows, 3 + len(SUMS))


def _transposed(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[column] for row in rows] for column in range(width)]
