"""What is read from the journal, and the maintenance that touches many rows; no state of its own."""

# ruff: noqa: S608 - the texts are put together from constants of this package; every value is bound

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, TextClause, text

from supervisor.records import JournaledMessage, Reply
from supervisor.registry import codec
from supervisor.registry.schema import OPEN_MESSAGES, OPEN_REPLIES
from supervisor.states import MessageState, ReplyState

_M: Final = codec.MESSAGE_CODES
_R: Final = codec.REPLY_CODES
_MESSAGES: Final = f"SELECT {codec.MESSAGE_COLUMNS} FROM inbox JOIN agent_keys ON agent_keys.key = inbox.agent_key"
_REPLIES: Final = f"SELECT {codec.REPLY_COLUMNS} FROM outbox JOIN agent_keys ON agent_keys.key = outbox.agent_key"
# A scalar first: the planner then starts from the agent's own part of an index.
_KEY: Final = "(SELECT key FROM agent_keys WHERE agent_id = :agent_id)"
#: Rows of one slice of maintenance, so that the journal's own commits get their turn.
SLICE: Final = 1_000

_UNSETTLED = text(
    f"{_MESSAGES} WHERE inbox.agent_key = {_KEY} AND inbox.{OPEN_MESSAGES} "
    f"AND inbox.state <= {_M[MessageState.RETRYABLE]} AND inbox.id > :after_id ORDER BY inbox.id LIMIT :limit"
)
_LOAD = text(f"{_MESSAGES} WHERE inbox.id = :id")
_UNSENT = text(f"{_REPLIES} WHERE outbox.agent_key = {_KEY} AND outbox.{OPEN_REPLIES} ORDER BY outbox.id")
_REPLIES_OF = text(
    f"{_REPLIES} JOIN inbox ON inbox.id = :id AND outbox.agent_key = inbox.agent_key "
    "AND outbox.conversation_id = inbox.conversation_id WHERE outbox.inbox_id = :id ORDER BY outbox.id"
)
_COUNTS = text(
    "SELECT agent_keys.agent_id, counted.state, counted.number FROM (SELECT agent_key, state, count(*) AS number "
    f"FROM inbox WHERE {OPEN_MESSAGES} GROUP BY agent_key, state) AS counted "
    "JOIN agent_keys ON agent_keys.key = counted.agent_key"
)
_SEEN_KEYS = text(f"SELECT message_key FROM inbox WHERE agent_key = {_KEY} ORDER BY id DESC LIMIT :limit")
_CONVERSATIONS = text(
    f"SELECT conversation_id FROM conversations WHERE agent_key = {_KEY} AND last_seen >= :since "
    "ORDER BY last_seen DESC, conversation_id LIMIT :limit"
)
_SAID = text(
    f"SELECT id, body, received_at FROM inbox WHERE agent_key = {_KEY} AND conversation_id = :conversation_id "
    "ORDER BY id DESC LIMIT :limit"
)
_ANSWERED = text(
    f"SELECT id, body, created_at FROM outbox WHERE agent_key = {_KEY} AND conversation_id = :conversation_id "
    f"AND state <= {_R[ReplyState.ACKED]} ORDER BY id DESC LIMIT :limit"
)


def _rows(connection: Connection, statement: TextClause, **parameters: Any) -> list[Any]:
    return list(connection.execute(statement, parameters).all())


def unsettled(connection: Connection, agent_id: str, after_id: int, limit: int) -> list[JournaledMessage]:
    """Messages of an agent that wait, in order."""
    rows = _rows(connection, _UNSETTLED, agent_id=agent_id, after_id=after_id, limit=limit)
    return [codec.message_from_row(row) for row in rows]


def load(connection: Connection, inbox_id: int) -> JournaledMessage | None:
    """One message."""
    rows = _rows(connection, _LOAD, id=inbox_id)
    return codec.message_from_row(rows[0]) if rows else None


def unsent(connection: Connection, agent_id: str) -> list[Reply]:
    """Replies of an agent that are on their way, in order."""
    return [codec.reply_from_row(row) for row in _rows(connection, _UNSENT, agent_id=agent_id)]


def replies_of(connection: Connection, inbox_id: int) -> list[Reply]:
    """Every reply to one message, in order."""
    return [codec.reply_from_row(row) for row in _rows(connection, _REPLIES_OF, id=inbox_id)]


def counts(connection: Connection) -> dict[str, dict[MessageState, int]]:
    """How many messages wait, run and are dead, for each agent that has any."""
    found: dict[str, dict[MessageState, int]] = {}
    for agent_id, state, number in _rows(connection, _COUNTS):
        found.setdefault(agent_id, {})[codec.MESSAGE_STATES[state]] = number
    return found


def seen_keys(connection: Connection, agent_id: str, limit: int) -> list[str]:
    """The newest message keys of an agent, oldest first."""
    rows = _rows(connection, _SEEN_KEYS, agent_id=agent_id, limit=limit)
    return [codec.decode_key(row[0]) for row in reversed(rows)]


def conversations(connection: Connection, agent_id: str, since: float, limit: int) -> list[str]:
    """An agent's conversations, the most recently active first."""
    return [row[0] for row in _rows(connection, _CONVERSATIONS, agent_id=agent_id, since=since, limit=limit)]


def history(connection: Connection, agent_id: str, conversation_id: str, limit: int) -> list[tuple[str, str, float]]:
    """What was said in a conversation, as ``(role, content, seconds since the epoch)``, oldest first."""
    where = {"agent_id": agent_id, "conversation_id": conversation_id, "limit": limit}
    # At one instant a message comes before a reply, and rows of one kind keep their order.
    said = [(at, 0, number, body) for number, body, at in _rows(connection, _SAID, **where)]
    said += [(at, 1, number, body) for number, body, at in _rows(connection, _ANSWERED, **where)]
    said.sort(key=lambda row: row[:3])
    return [(*codec.content_of(body), at) for at, _, _, body in said[-limit:]] if limit > 0 else []


def messages(
    connection: Connection,
    agent_id: str | None,
    states: Iterable[MessageState] | None,
    older_than: float | None,
    limit: int,
) -> list[JournaledMessage]:
    """Messages for people to look at, the newest first."""
    conditions = ["1 = 1"]
    parameters: dict[str, Any] = {"limit": limit}
    if agent_id is not None:
        conditions.append(f"inbox.agent_key = {_KEY}")
        parameters["agent_id"] = agent_id
    if states is not None:
        codes = sorted(_M[state] for state in states)
        conditions.append(f"inbox.state IN ({', '.join(map(str, codes))})")
        if codes and codes[-1] <= _M[MessageState.DEAD]:
            conditions.append(f"inbox.{OPEN_MESSAGES}")
    if older_than is not None:
        conditions.append("inbox.received_at < :older_than")
        parameters["older_than"] = older_than
    statement = text(f"{_MESSAGES} WHERE {' AND '.join(conditions)} ORDER BY inbox.id DESC LIMIT :limit")
    return [codec.message_from_row(row) for row in _rows(connection, statement, **parameters)]


# ── maintenance, within the caller's transaction ─────────────────────────────────────────────────────────────────────

_RESCUE = text(
    f"UPDATE inbox SET state = {_M[MessageState.AVAILABLE]} "
    f"WHERE {OPEN_MESSAGES} AND state = {_M[MessageState.RUNNING]}"
)
_CANCEL = text(
    f"UPDATE inbox SET state = {_M[MessageState.CANCELLED]}, settled_at = :now WHERE agent_key = {_KEY} "
    f"AND {OPEN_MESSAGES} AND state <= {_M[MessageState.RUNNING]}"
)
_CANCEL_REPLIES = text(
    f"UPDATE outbox SET state = {_R[ReplyState.DEAD]}, settled_at = :now, error = :error WHERE agent_key = {_KEY} "
    f"AND {OPEN_REPLIES}"
)
_REPLAY = text(
    f"UPDATE inbox SET state = {_M[MessageState.AVAILABLE]}, attempts = 0, replay = replay + 1, not_before = 0, "
    f"settled_at = NULL WHERE id = :id AND {OPEN_MESSAGES} AND state = {_M[MessageState.DEAD]} AND replay = :replay"
)


def rescue(connection: Connection) -> int:
    """Messages that were running when the process died become available."""
    return connection.execute(_RESCUE).rowcount


def cancel_agent(connection: Connection, agent_id: str, now: float) -> int:
    """Cancel an agent's unsettled messages and give up its replies; the number of messages."""
    connection.execute(_CANCEL_REPLIES, {"agent_id": agent_id, "now": now, "error": "the agent was removed"})
    return connection.execute(_CANCEL, {"agent_id": agent_id, "now": now}).rowcount


def replay(connection: Connection, row: JournaledMessage) -> bool:
    """A dead letter becomes available once more."""
    return connection.execute(_REPLAY, {"id": row.id, "replay": row.replay}).rowcount == 1


def purge(connection: Connection, agent_id: str, conversation_id: str | None) -> int:
    """Erase what was said with an agent, or in one of its conversations; the number of messages and replies."""
    where = f"WHERE agent_key = {_KEY}" + (" AND conversation_id = :conversation_id" if conversation_id else "")
    parameters = (
        {"agent_id": agent_id, "conversation_id": conversation_id} if conversation_id else {"agent_id": agent_id}
    )
    erased = [
        connection.execute(text(f"DELETE FROM {table} {where}"), parameters).rowcount
        for table in ("outbox", "inbox", "conversations")
    ]
    return erased[0] + erased[1]


# ── pruning ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_AGES: Final = {"inbox": "received_at", "outbox": "created_at"}
_PRUNE: Final = {
    # A message stays as long as a reply to it is on its way.
    "inbox": text(
        f"DELETE FROM inbox WHERE id BETWEEN :first AND :last AND state >= {_M[MessageState.DEAD]} "
        f"AND settled_at < :before AND id NOT IN "
        f"(SELECT inbox_id FROM outbox WHERE {OPEN_REPLIES} AND inbox_id IS NOT NULL)"
    ),
    "outbox": text(
        f"DELETE FROM outbox WHERE id BETWEEN :first AND :last AND state >= {_R[ReplyState.ACKED]} "
        "AND settled_at < :before"
    ),
}


def prune_slice(connection: Connection, table: str, after_id: int, last_id: int, before: float) -> tuple[int, int]:
    """Delete what was settled before ``before`` (seconds since the epoch) among the next rows of a table.

    Returns:
        How many rows were deleted, and the number of the last row looked at: where the next slice begins.
    """
    ids = text(f"SELECT id FROM {table} WHERE id > :after_id AND id <= :last_id ORDER BY id LIMIT {SLICE}")
    found = connection.execute(ids, {"after_id": after_id, "last_id": last_id}).scalars().all()
    if not found:
        return 0, last_id
    span = {"first": found[0], "last": found[-1], "before": before}
    return connection.execute(_PRUNE[table], span).rowcount, found[-1]


_PRUNE_CONVERSATIONS = text(
    "DELETE FROM conversations WHERE (agent_key, conversation_id) IN "
    f"(SELECT agent_key, conversation_id FROM conversations WHERE last_seen < :before LIMIT {SLICE})"
)


def prune_conversations(connection: Connection, before: float) -> int:
    """Forget a slice of the conversations last seen before ``before``; how many."""
    return connection.execute(_PRUNE_CONVERSATIONS, {"before": before}).rowcount


def last_before(connection: Connection, table: str, before: float) -> int:
    """The number of the last row that came before ``before``.

    Rows are numbered in the order in which they come, so it is found by bisection, without an index of times.
    """
    probe = text(f"SELECT id, {_AGES[table]} FROM {table} WHERE id >= :id ORDER BY id LIMIT 1")
    low, high = 0, connection.execute(text(f"SELECT max(id) FROM {table}")).scalar() or 0
    while low < high:
        middle = (low + high + 1) // 2
        number, at = connection.execute(probe, {"id": middle}).one()
        if at < before:
            low = max(middle, number)
        else:
            high = middle - 1
    return int(low)
