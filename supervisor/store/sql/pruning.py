"""Deleting what is old slice by slice, so that the journal's own commits get their turn."""

# ruff: noqa: S608 - the texts are put together from constants of this package; every value is bound

from __future__ import annotations

from typing import Final

from supervisor.core.states import MessageState, ReplyState
from supervisor.store.sql import columns
from supervisor.store.sql.columns import OPEN_REPLIES
from supervisor.store.sql.sessions import Connection, scalar

#: Rows of one slice.
SLICE: Final = 1_000

_AGES: Final = {"inbox": "received_at", "outbox": "created_at"}
_PRUNE: Final = {
    # A message stays as long as a reply to it is on its way.
    "inbox": (
        f"DELETE FROM inbox WHERE id BETWEEN :first AND :last AND state >= {columns.MESSAGE_CODES[MessageState.DEAD]} "
        f"AND settled_at < :before AND id NOT IN "
        f"(SELECT inbox_id FROM outbox WHERE {OPEN_REPLIES} AND inbox_id IS NOT NULL)"
    ),
    "outbox": (
        f"DELETE FROM outbox WHERE id BETWEEN :first AND :last AND state >= {columns.REPLY_CODES[ReplyState.ACKED]} "
        "AND settled_at < :before"
    ),
}
_PRUNE_CONVERSATIONS: Final = (
    "DELETE FROM conversations WHERE (agent_key, conversation_id) IN "
    "(SELECT agent_key, conversation_id FROM conversations WHERE last_seen < :before AND last_seen > -:before "
    f"LIMIT {SLICE})"
)

#: A message is settled after it came: what sums it up goes before it does.
PRUNE_SUMMARIES: Final = (
    "DELETE FROM conversation_summaries WHERE id IN "
    f"(SELECT id FROM conversation_summaries WHERE since < :before LIMIT {SLICE})"
)


def prune_slice(connection: Connection, table: str, after_id: int, last_id: int, before: float) -> tuple[int, int]:
    """Delete what was settled before ``before`` (seconds since the epoch) among the next rows of a table.

    Returns:
        How many rows were deleted, and the number of the last row looked at: where the next slice begins.
    """
    ids = f"SELECT id FROM {table} WHERE id > :after_id AND id <= :last_id ORDER BY id LIMIT {SLICE}"
    found = [row[0] for row in connection.execute(ids, {"after_id": after_id, "last_id": last_id}).fetchall()]
    if not found:
        return 0, last_id
    span = {"first": found[0], "last": found[-1], "before": before}
    return connection.execute(_PRUNE[table], span).rowcount, found[-1]


def prune_conversations(connection: Connection, before: float) -> int:
    """Forget a slice of the conversations last seen before ``before``; how many."""
    return connection.execute(_PRUNE_CONVERSATIONS, {"before": before}).rowcount


def prune_summaries(connection: Connection, before: float) -> int:
    """Delete a slice of the summaries that stand for a message of before ``before``; how many."""
    return connection.execute(PRUNE_SUMMARIES, {"before": before}).rowcount


def last_before(connection: Connection, table: str, before: float) -> int:
    """The number of the last row that came before ``before``.

    Rows are numbered in the order in which they come, so the row is found by bisection, without an index of times.
    """
    probe = f"SELECT id, {_AGES[table]} FROM {table} WHERE id >= :id ORDER BY id LIMIT 1"
    low, high = 0, scalar(connection, f"SELECT id FROM {table} ORDER BY id DESC LIMIT 1") or 0
    while low < high:
        middle = (low + high + 1) // 2
        number, at = connection.execute(probe, {"id": middle}).fetchone()
        if at < before:
            low = max(middle, number)
        else:
            high = middle - 1
    return int(low)
