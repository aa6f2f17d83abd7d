"""What is read from the journal, and the maintenance that touches many rows; no state of its own."""

# ruff: noqa: S608 - the texts are put together from constants of this package; every value is bound

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, TextClause, bindparam, text

from supervisor.core.records import CRASHED, JournaledMessage, Reply
from supervisor.core.states import MessageState, ReplyState
from supervisor.store import codec
from supervisor.store.codec import TextCodec
from supervisor.store.schema import OPEN_MESSAGES, OPEN_REPLIES

_M: Final = codec.MESSAGE_CODES
_R: Final = codec.REPLY_CODES
_MESSAGES: Final = f"SELECT {codec.MESSAGE_COLUMNS} FROM inbox JOIN agent_keys ON agent_keys.key = inbox.agent_key"
_REPLIES: Final = f"SELECT {codec.REPLY_COLUMNS} FROM outbox JOIN agent_keys ON agent_keys.key = outbox.agent_key"
# A scalar first: the planner then starts from the agent's own part of an index.
_KEY: Final = "(SELECT key FROM agent_keys WHERE agent_id = :agent_id)"
#: Rows of one slice of maintenance, so that the journal's own commits get their turn.
SLICE: Final = 1_000
#: Why the replies of a removed agent are given up.
AGENT_REMOVED: Final = "the agent was removed"

_UNSETTLED = text(
    f"{_MESSAGES} WHERE inbox.agent_key = {_KEY} AND inbox.{OPEN_MESSAGES} "
    f"AND inbox.state <= {_M[MessageState.RETRYABLE]} AND inbox.id > :after_id ORDER BY inbox.id LIMIT :limit"
)
# Agent by agent: the rows that are available are then one span of the partial index, whatever else is open or dead.
_REPLAYED = text(
    f"SELECT {codec.MESSAGE_COLUMNS} FROM agent_keys CROSS JOIN inbox WHERE inbox.agent_key = agent_keys.key "
    f"AND inbox.{OPEN_MESSAGES} AND inbox.state = {_M[MessageState.AVAILABLE]} AND inbox.replay > 0 ORDER BY inbox.id"
)
_LOAD = text(f"{_MESSAGES} WHERE inbox.id = :id")
_LOAD_SOME = text(f"{_MESSAGES} WHERE inbox.id IN :ids").bindparams(bindparam("ids", expanding=True))
_UNSENT = text(f"{_REPLIES} WHERE outbox.agent_key = {_KEY} AND outbox.{OPEN_REPLIES} ORDER BY outbox.id")
_REPLIES_OF = text(
    f"{_REPLIES} JOIN inbox ON inbox.id = :id AND outbox.agent_key = inbox.agent_key "
    "AND outbox.conversation_id = inbox.conversation_id WHERE outbox.inbox_id = :id ORDER BY outbox.id"
)
# Agent by agent, as above. What is settled and on its way again was replayed: every move of it writes ``settled_at``.
_REPLAYED_REPLIES = text(
    f"SELECT {codec.REPLY_COLUMNS} FROM agent_keys CROSS JOIN outbox WHERE outbox.agent_key = agent_keys.key "
    f"AND outbox.{OPEN_REPLIES} AND outbox.settled_at IS NOT NULL ORDER BY outbox.id"
)
# Parts of one answer ascend: a later one that does not is of a replay of the message, which has another answer.
_DEAD_REPLY: Final = (
    f"outbox.state = {_R[ReplyState.DEAD]} AND outbox.inbox_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM outbox AS "
    "later WHERE later.agent_key = outbox.agent_key AND later.conversation_id = outbox.conversation_id "
    "AND later.id > outbox.id AND later.inbox_id = outbox.inbox_id AND later.part <= outbox.part)"
)
_DEAD_REPLIES = text(
    f"{_REPLIES} JOIN inbox ON outbox.inbox_id = inbox.id AND outbox.agent_key = inbox.agent_key "
    f"AND outbox.conversation_id = inbox.conversation_id WHERE inbox.id IN :ids AND {_DEAD_REPLY} ORDER BY outbox.id"
).bindparams(bindparam("ids", expanding=True))
_COUNTS = text(
    "SELECT agent_keys.agent_id, counted.state, counted.number FROM (SELECT agent_key, state, count(*) AS number "
    f"FROM inbox WHERE {OPEN_MESSAGES} GROUP BY agent_key, state) AS counted "
    "JOIN agent_keys ON agent_keys.key = counted.agent_key"
)
_SEEN_KEYS = text(f"SELECT message_key FROM inbox WHERE agent_key = {_KEY} ORDER BY id DESC LIMIT :limit")
_KNOWN_KEYS = text(f"SELECT message_key FROM inbox WHERE agent_key = {_KEY} AND message_key IN :keys").bindparams(
    bindparam("keys", expanding=True)
)
_CONVERSATIONS = text(
    f"SELECT conversation_id, last_seen FROM conversations WHERE agent_key = {_KEY} AND last_seen >= :since "
    "ORDER BY last_seen DESC, conversation_id LIMIT :limit"
)
_SAID = text(
    f"SELECT id, body, received_at FROM inbox WHERE agent_key = {_KEY} AND conversation_id = :conversation_id "
    "ORDER BY id DESC LIMIT :limit"
)
_ANSWERED = text(
    f"SELECT id, body, created_at, inbox_id FROM outbox WHERE agent_key = {_KEY} "
    f"AND conversation_id = :conversation_id AND state <= {_R[ReplyState.ACKED]} ORDER BY id DESC LIMIT :limit"
)
_OWN_REPLIES = text(
    f"{_REPLIES} WHERE outbox.agent_key = {_KEY} AND outbox.conversation_id = :conversation_id "
    "AND outbox.id < :before_id AND (outbox.settled_at >= :since OR outbox." + OPEN_REPLIES + ") "
    "ORDER BY outbox.id DESC LIMIT :limit"
)


def _rows(connection: Connection, statement: TextClause, **parameters: Any) -> list[Any]:
    return list(connection.execute(statement, parameters).all())


def unsettled(
    connection: Connection, texts: TextCodec, agent_id: str, after_id: int, limit: int
) -> list[JournaledMessage]:
    """Messages of an agent that wait, in order."""
    rows = _rows(connection, _UNSETTLED, agent_id=agent_id, after_id=after_id, limit=limit)
    return [texts.message(row) for row in rows]


def replayed(connection: Connection, texts: TextCodec) -> list[JournaledMessage]:
    """Messages of any agent that a person replayed and that wait, in order."""
    return [texts.message(row) for row in _rows(connection, _REPLAYED)]


def load(connection: Connection, texts: TextCodec, inbox_id: int) -> JournaledMessage | None:
    """One message."""
    rows = _rows(connection, _LOAD, id=inbox_id)
    return texts.message(rows[0]) if rows else None


def load_some(connection: Connection, texts: TextCodec, inbox_ids: Sequence[int]) -> list[JournaledMessage]:
    """Some messages, in any order."""
    found: list[JournaledMessage] = []
    for start in range(0, len(inbox_ids), SLICE):
        found += [texts.message(row) for row in _rows(connection, _LOAD_SOME, ids=inbox_ids[start : start + SLICE])]
    return found


def unsent(connection: Connection, texts: TextCodec, agent_id: str) -> list[Reply]:
    """Replies of an agent that are on their way, in order."""
    return [texts.reply(row) for row in _rows(connection, _UNSENT, agent_id=agent_id)]


def replies_of(connection: Connection, texts: TextCodec, inbox_id: int) -> list[Reply]:
    """Every reply to one message, in order."""
    return [texts.reply(row) for row in _rows(connection, _REPLIES_OF, id=inbox_id)]


def dead_replies(connection: Connection, texts: TextCodec, inbox_ids: Sequence[int]) -> list[Reply]:
    """The dead replies to some messages, in order; see :meth:`JournalReader.dead_replies`."""
    found: list[Reply] = []
    for start in range(0, len(inbox_ids), SLICE):
        ids = inbox_ids[start : start + SLICE]
        found += [texts.reply(row) for row in _rows(connection, _DEAD_REPLIES, ids=ids)]
    return sorted(found, key=lambda reply: reply.id)


def replayed_replies(connection: Connection, texts: TextCodec) -> list[Reply]:
    """Replies of any agent that a person replayed and that wait, in order."""
    return [texts.reply(row) for row in _rows(connection, _REPLAYED_REPLIES)]


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


def known_keys(connection: Connection, agent_id: str, keys: Sequence[str]) -> set[str]:
    """Which of some message keys of an agent are in its inbox."""
    found: set[str] = set()
    for start in range(0, len(keys), SLICE):
        encoded = [codec.encode_key(key) for key in keys[start : start + SLICE]]
        found.update(
            codec.decode_key(row[0]) for row in _rows(connection, _KNOWN_KEYS, agent_id=agent_id, keys=encoded)
        )
    return found


def own_replies(connection: Connection, texts: TextCodec, **where: Any) -> list[Reply]:
    """The newest replies of a conversation, oldest first; ``where`` as in :meth:`JournalReader.own_replies`."""
    rows = _rows(connection, _OWN_REPLIES, **where)
    return [texts.reply(row) for row in reversed(rows)]


def conversations(connection: Connection, agent_id: str, since: float, limit: int) -> list[tuple[str, float]]:
    """An agent's conversations with when they were last seen, the most recently active first."""
    return [tuple(row) for row in _rows(connection, _CONVERSATIONS, agent_id=agent_id, since=since, limit=limit)]


#: Rows that are read for each message of a history.
_ROWS_FOR_ONE: Final = 4


def history(
    connection: Connection,
    texts: TextCodec,
    agent_id: str,
    conversation_id: str,
    limit: int,
    *,
    without_commands: bool = False,
) -> list[tuple[str, str, float]]:
    """What was said in a conversation, as ``(role, content, seconds since the epoch)``, oldest first."""
    # Much of what an agent sends may be signs of its work, which do not count; a body tells only once it is read.
    where = {"agent_id": agent_id, "conversation_id": conversation_id, "limit": limit * _ROWS_FOR_ONE}
    # At one instant a message comes before a reply, and rows of one kind keep their order.
    asked = _rows(connection, _SAID, **where)
    obeyed = {number for number, body, _ in asked if texts.is_command(body)} if without_commands else frozenset()
    said = [(at, 0, number, body) for number, body, at in asked if number not in obeyed]
    answered = _rows(connection, _ANSWERED, **where)
    said += [(at, 1, number, body) for number, body, at, inbox_id in answered if inbox_id not in obeyed]
    said.sort(key=lambda row: row[:3])
    told = [(*essence, at) for at, _, _, body in said if (essence := texts.said(body)) is not None]
    return told[-limit:] if limit > 0 else []


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages are asked for; see ``Journal.messages``."""

    agent_id: str | None = None
    conversation_id: str | None = None
    states: Iterable[MessageState] | None = None
    older_than: float | None = None
    newer_than: float | None = None
    undelivered: bool = False
    dead_letters: bool = False
    before_id: int | None = None

    def conditions(self) -> Iterator[str]:
        """What a row of the inbox has to meet, as SQL; the values are named as the fields are."""
        if self.agent_id is not None:
            yield f"inbox.agent_key = {_KEY}"
        if self.conversation_id is not None:
            yield "inbox.conversation_id = :conversation_id"
        if self.states is not None:
            codes = sorted(_M[state] for state in self.states)
            yield f"inbox.state IN ({', '.join(map(str, codes))})"
            if codes and codes[-1] <= _M[MessageState.DEAD]:
                yield f"inbox.{OPEN_MESSAGES}"
        if self.older_than is not None:
            yield "inbox.received_at < :older_than"
        if self.newer_than is not None:
            yield "inbox.received_at >= :newer_than"
        if self.undelivered:
            # Not by number alone: a number can be given again once its message is pruned.
            yield f"(inbox.id, inbox.agent_key, inbox.conversation_id) IN ({self._undelivered()})"
        if self.dead_letters:
            yield f"(inbox.id, inbox.agent_key, inbox.conversation_id) IN ({self._dead_letters()})"
            # What was discarded needs nobody, whatever became of its apology.
            yield f"inbox.state IN ({_M[MessageState.DONE]}, {_M[MessageState.DEAD]})"
        if self.before_id is not None:
            yield "inbox.id < :before_id"

    def _undelivered(self) -> str:
        own = f" AND agent_key = {_KEY}" if self.agent_id is not None else ""
        return (
            "SELECT inbox_id, agent_key, conversation_id FROM outbox "
            f"WHERE state >= {_R[ReplyState.UNKNOWN]} AND inbox_id IS NOT NULL{own}"
        )

    def _dead_letters(self) -> str:
        own = f" AND agent_key = {_KEY}" if self.agent_id is not None else ""
        return (
            f"SELECT id, agent_key, conversation_id FROM inbox WHERE {OPEN_MESSAGES} "
            f"AND state = {_M[MessageState.DEAD]}{own} "
            f"UNION ALL SELECT inbox_id, agent_key, conversation_id FROM outbox WHERE {_DEAD_REPLY}{own}"
        )

    def parameters(self) -> dict[str, Any]:
        """The values that the conditions name."""
        named = ("agent_id", "conversation_id", "older_than", "newer_than", "before_id")
        return {name: value for name in named if (value := getattr(self, name)) is not None}


def messages(connection: Connection, texts: TextCodec, wanted: MessageFilter, limit: int) -> list[JournaledMessage]:
    """Messages for people to look at, the newest first."""
    where = " AND ".join(["1 = 1", *wanted.conditions()])
    statement = text(f"{_MESSAGES} WHERE {where} ORDER BY inbox.id DESC LIMIT :limit")
    return [texts.message(row) for row in _rows(connection, statement, limit=limit, **wanted.parameters())]


# ── maintenance, within the caller's transaction ─────────────────────────────────────────────────────────────────────

_RESCUE = text(
    f"UPDATE inbox SET state = {_M[MessageState.AVAILABLE]}, error = '{CRASHED}' "
    f"WHERE {OPEN_MESSAGES} AND state = {_M[MessageState.RUNNING]}"
)
_RESCUE_AGENT = text(
    f"UPDATE inbox SET state = {_M[MessageState.AVAILABLE]} WHERE agent_key = {_KEY} "
    f"AND {OPEN_MESSAGES} AND state = {_M[MessageState.RUNNING]}"
)
_CANCEL = text(
    f"UPDATE inbox SET state = {_M[MessageState.CANCELLED]}, settled_at = :now WHERE agent_key = {_KEY} "
    f"AND {OPEN_MESSAGES} AND state <= {_M[MessageState.RUNNING]}"
)
_CANCEL_REPLIES = text(
    f"UPDATE outbox SET state = {_R[ReplyState.DEAD]}, settled_at = :now, error = :error WHERE agent_key = {_KEY} "
    f"AND {OPEN_REPLIES}"
)
# What waits for agents that were removed while no supervisor ran, or while the journal could not be written.
_REMOVED: Final = "agent_key IN (SELECT key FROM agent_keys WHERE agent_id NOT IN (SELECT id FROM agents))"
_CANCEL_REMOVED = text(
    f"UPDATE inbox SET state = {_M[MessageState.CANCELLED]}, settled_at = :now WHERE {_REMOVED} "
    f"AND {OPEN_MESSAGES} AND state <= {_M[MessageState.RUNNING]}"
)
_CANCEL_REMOVED_REPLIES = text(
    f"UPDATE outbox SET state = {_R[ReplyState.DEAD]}, settled_at = :now, error = :error WHERE {_REMOVED} "
    f"AND {OPEN_REPLIES}"
)
_REPLAY = text(
    f"UPDATE inbox SET state = {_M[MessageState.AVAILABLE]}, attempts = 0, replay = replay + 1, not_before = 0, "
    f"settled_at = NULL WHERE id = :id AND {OPEN_MESSAGES} AND state = {_M[MessageState.DEAD]} AND replay = :replay"
)
_REPLAY_REPLY = text(
    f"UPDATE outbox SET state = {_R[ReplyState.PENDING]}, attempts = 0, not_before = 0 "
    f"WHERE id = :id AND inbox_id = :inbox_id AND state = {_R[ReplyState.DEAD]}"
)
_DISCARD = text(
    f"UPDATE inbox SET state = {_M[MessageState.CANCELLED]}, settled_at = :now "
    f"WHERE id = :id AND {OPEN_MESSAGES} AND state = {_M[MessageState.DEAD]} AND replay = :replay"
)


def rescue(connection: Connection, agent_id: str | None) -> int:
    """Messages that were running, of one agent or of all, become available."""
    if agent_id is None:
        return connection.execute(_RESCUE).rowcount
    return connection.execute(_RESCUE_AGENT, {"agent_id": agent_id}).rowcount


def cancel_agent(connection: Connection, agent_id: str, now: float) -> int:
    """Cancel an agent's unsettled messages and give up its replies; the number of messages."""
    connection.execute(_CANCEL_REPLIES, {"agent_id": agent_id, "now": now, "error": AGENT_REMOVED})
    return connection.execute(_CANCEL, {"agent_id": agent_id, "now": now}).rowcount


def cancel_removed(connection: Connection, now: float) -> int:
    """As :func:`cancel_agent`, for every agent that is not registered."""
    connection.execute(_CANCEL_REMOVED_REPLIES, {"now": now, "error": AGENT_REMOVED})
    return connection.execute(_CANCEL_REMOVED, {"now": now}).rowcount


def replay(connection: Connection, row: JournaledMessage) -> bool:
    """A dead letter becomes available once more."""
    return connection.execute(_REPLAY, {"id": row.id, "replay": row.replay}).rowcount == 1


def replay_reply(connection: Connection, reply: Reply) -> bool:
    """A dead reply becomes pending once more; that it was settled before tells it from all others."""
    return connection.execute(_REPLAY_REPLY, {"id": reply.id, "inbox_id": reply.inbox_id}).rowcount == 1


def discard(connection: Connection, row: JournaledMessage, now: float) -> bool:
    """A dead letter is cancelled."""
    return connection.execute(_DISCARD, {"id": row.id, "replay": row.replay, "now": now}).rowcount == 1


def purge(connection: Connection, agent_id: str, conversation_id: str | None, now: float) -> int:
    """Erase what was said with an agent, or in one of its conversations; the number of messages and replies.

    The conversations begin anew at ``now`` (seconds since the epoch), so that what is erased is not asked for again.
    """
    where = f"WHERE agent_key = {_KEY}" + (" AND conversation_id = :conversation_id" if conversation_id else "")
    parameters = (
        {"agent_id": agent_id, "conversation_id": conversation_id} if conversation_id else {"agent_id": agent_id}
    )
    erased = [
        connection.execute(text(f"DELETE FROM {table} {where}"), parameters).rowcount for table in ("outbox", "inbox")
    ]
    connection.execute(text(f"UPDATE conversations SET last_seen = :now {where}"), {**parameters, "now": now})
    return sum(erased)


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
