"""What is written to the journal outside of batches: by people, when agents go, and to get rid of what is old."""

# ruff: noqa: S608 - the texts are put together from constants of this package; every value is bound

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, Final

from supervisor.core.records import CRASHED, JournaledMessage, Reply
from supervisor.core.states import MessageState, ReplyState
from supervisor.store.sql import columns, lives, pruning, usage
from supervisor.store.sql.columns import OPEN_MESSAGES, OPEN_REPLIES
from supervisor.store.sql.filters import KEY
from supervisor.store.sql.sessions import Connection, Sessions

#: Why the replies of a removed agent are given up.
AGENT_REMOVED: Final = "the agent was removed"

_AVAILABLE: Final = columns.MESSAGE_CODES[MessageState.AVAILABLE]
_RUNNING: Final = columns.MESSAGE_CODES[MessageState.RUNNING]
_DEAD: Final = columns.MESSAGE_CODES[MessageState.DEAD]
_CANCELLED: Final = columns.MESSAGE_CODES[MessageState.CANCELLED]
_PENDING_REPLY: Final = columns.REPLY_CODES[ReplyState.PENDING]
_DEAD_REPLY: Final = columns.REPLY_CODES[ReplyState.DEAD]

RESCUE_ALL: Final = (
    f"UPDATE inbox SET state = {_AVAILABLE}, error = '{CRASHED}' WHERE {OPEN_MESSAGES} AND state = {_RUNNING}"
)
RESCUE: Final = (
    f"UPDATE inbox SET state = {_AVAILABLE} WHERE agent_key = {KEY} AND {OPEN_MESSAGES} AND state = {_RUNNING}"
)
CANCEL: Final = (
    f"UPDATE inbox SET state = {_CANCELLED}, settled_at = :now WHERE agent_key = {KEY} "
    f"AND {OPEN_MESSAGES} AND state <= {_RUNNING}"
)
CANCEL_REPLIES: Final = (
    f"UPDATE outbox SET state = {_DEAD_REPLY}, settled_at = :now, error = :error WHERE agent_key = {KEY} "
    f"AND {OPEN_REPLIES}"
)
# What waits for agents that were removed while no supervisor ran, or while the journal could not be written.
_REMOVED: Final = "agent_key IN (SELECT key FROM agent_keys WHERE agent_id NOT IN (SELECT id FROM agents))"
CANCEL_REMOVED: Final = (
    f"UPDATE inbox SET state = {_CANCELLED}, settled_at = :now WHERE {_REMOVED} "
    f"AND {OPEN_MESSAGES} AND state <= {_RUNNING}"
)
CANCEL_REMOVED_REPLIES: Final = (
    f"UPDATE outbox SET state = {_DEAD_REPLY}, settled_at = :now, error = :error WHERE {_REMOVED} AND {OPEN_REPLIES}"
)
_REPLAY: Final = (
    f"UPDATE inbox SET state = {_AVAILABLE}, attempts = 0, replay = replay + 1, not_before = 0, "
    f"settled_at = NULL WHERE id = :id AND {OPEN_MESSAGES} AND state = {_DEAD} AND replay = :replay"
)
# What was settled and is on its way again was replayed: ``settled_at`` stays.
_REPLAY_REPLY: Final = (
    f"UPDATE outbox SET state = {_PENDING_REPLY}, attempts = 0, not_before = 0 "
    f"WHERE id = :id AND inbox_id = :inbox_id AND state = {_DEAD_REPLY}"
)
_DISCARD: Final = (
    f"UPDATE inbox SET state = {_CANCELLED}, settled_at = :now "
    f"WHERE id = :id AND {OPEN_MESSAGES} AND state = {_DEAD} AND replay = :replay"
)

#: Messages erased in one transaction; each is a value that the statement names.
_ERASED_AT_ONCE: Final = 500


class SqlChanges:
    """The changes that :class:`~supervisor.store.dialect.face.JournalChanges` describes."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def replay(self, rows: Sequence[JournaledMessage]) -> list[bool]:
        return await self._each(_REPLAY, [{"id": row.id, "replay": row.replay} for row in rows])

    async def replay_replies(self, replies: Sequence[Reply]) -> list[bool]:
        return await self._each(_REPLAY_REPLY, [{"id": reply.id, "inbox_id": reply.inbox_id} for reply in replies])

    async def discard(self, row: JournaledMessage, now: float) -> bool:
        return (await self._each(_DISCARD, [{"id": row.id, "replay": row.replay, "now": now}]))[0]

    async def rescue(self, agent_id: str | None) -> int:
        if agent_id is None:
            return await self._sessions.alter(lambda connection: connection.execute(RESCUE_ALL).rowcount)
        return await self._sessions.alter(
            lambda connection: connection.execute(RESCUE, {"agent_id": agent_id}).rowcount
        )

    async def cancel(self, agent_id: str | None, now: float) -> int:
        return await self._sessions.alter(partial(cancel, agent_id=agent_id, now=now))

    async def purge(self, agent_id: str, conversation_id: str | None, now: float) -> int:
        work = partial(_purge, agent_id=agent_id, conversation_id=conversation_id, now=now)
        erased = await self._sessions.alter(work)
        await self._sessions.empty_log()
        return erased

    async def erase(self, ids: Sequence[int], now: float) -> int:
        erased = 0
        for start in range(0, len(ids), _ERASED_AT_ONCE):
            some = ids[start : start + _ERASED_AT_ONCE]
            erased += await self._sessions.alter(partial(_erase, ids=some, now=now))
        await self._sessions.empty_log()
        return erased

    async def prune(self, before: float) -> AsyncGenerator[int, None]:
        while await self._sessions.alter(partial(pruning.prune_summaries, before=before)) == pruning.SLICE:
            yield 0
        for table in ("inbox", "outbox"):
            last = await self._sessions.read(partial(pruning.last_before, table=table, before=before))
            position = 0
            while position < last:
                work = partial(pruning.prune_slice, table=table, after_id=position, last_id=last, before=before)
                deleted, position = await self._sessions.alter(work)
                yield deleted
        while await self._sessions.alter(partial(pruning.prune_conversations, before=before)) == pruning.SLICE:
            yield 0

    async def prune_usage(self, before_day: str) -> int:
        return await self._sessions.alter(partial(usage.prune, before_day=before_day))

    async def _each(self, statement: str, rows: Sequence[dict[str, Any]]) -> list[bool]:
        """Execute a statement for each of some rows, in one transaction; whether each was as its caller knew it."""
        return await self._sessions.alter(
            lambda connection: [connection.execute(statement, row).rowcount == 1 for row in rows]
        )


def cancel(connection: Connection, agent_id: str | None, now: float) -> int:
    """Cancel what waits for an agent, or for all that are not registered; how many messages."""
    lives.forget(connection, agent_id)
    if agent_id is None:
        connection.execute(CANCEL_REMOVED_REPLIES, {"now": now, "error": AGENT_REMOVED})
        return connection.execute(CANCEL_REMOVED, {"now": now}).rowcount
    connection.execute(CANCEL_REPLIES, {"agent_id": agent_id, "now": now, "error": AGENT_REMOVED})
    return connection.execute(CANCEL, {"agent_id": agent_id, "now": now}).rowcount


def _purge(connection: Connection, agent_id: str, conversation_id: str | None, now: float) -> int:
    where = f"WHERE agent_key = {KEY}" + (" AND conversation_id = :conversation_id" if conversation_id else "")
    named = {"agent_id": agent_id, "conversation_id": conversation_id} if conversation_id else {"agent_id": agent_id}
    erased = [connection.execute(f"DELETE FROM {table} {where}", named).rowcount for table in ("outbox", "inbox")]
    connection.execute(f"DELETE FROM conversation_summaries {where}", named)
    # The conversations begin anew, so that what is erased is not asked for again.
    connection.execute(f"UPDATE conversations SET last_seen = :now {where} AND last_seen > 0", {**named, "now": now})
    return sum(erased)


def _erase(connection: Connection, ids: Sequence[int], now: float) -> int:
    named: dict[str, Any] = {f"id_{number}": row for number, row in enumerate(ids)}
    rows = f"FROM inbox WHERE id IN ({', '.join(f':{name}' for name in named)})"
    where = f"WHERE (agent_key, conversation_id) IN (SELECT agent_key, conversation_id {rows})"
    connection.execute(f"DELETE FROM conversation_summaries {where}", named)
    connection.execute(f"UPDATE conversations SET last_seen = :now {where} AND last_seen > 0", {**named, "now": now})
    # Not by number alone: it can be given again once its message is pruned.
    replies = connection.execute(
        "DELETE FROM outbox WHERE (inbox_id, agent_key, conversation_id) IN "
        f"(SELECT id, agent_key, conversation_id {rows})",
        named,
    ).rowcount
    return replies + connection.execute(f"DELETE {rows}", named).rowcount
