"""What is read of the journal."""

# ruff: noqa: S608 - the texts are put together from constants of this package; every value is bound

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from supervisor.core.records import AgentLife, UsageRecord
from supervisor.core.states import MessageState, ReplyState
from supervisor.store.dialect.stored import MessageFilter, Spoken, StoredMessage, StoredReply, StoredSummary
from supervisor.store.sql import columns, filters, lives, usage
from supervisor.store.sql.columns import OPEN_MESSAGES, OPEN_REPLIES
from supervisor.store.sql.filters import DEAD_REPLY, KEY
from supervisor.store.sql.sessions import Connection, Sessions

T = TypeVar("T")
#: Values that one statement names at most.
SLICE: Final = 1_000
#: The names that stand for a list of values in a statement.
LISTS: Final = frozenset({"ids", "keys"})

_AVAILABLE: Final = columns.MESSAGE_CODES[MessageState.AVAILABLE]
_RETRYABLE: Final = columns.MESSAGE_CODES[MessageState.RETRYABLE]
_ACKED: Final = columns.REPLY_CODES[ReplyState.ACKED]
_MESSAGES: Final = f"SELECT {columns.MESSAGE_COLUMNS} FROM inbox JOIN agent_keys ON agent_keys.key = inbox.agent_key"
_REPLIES: Final = f"SELECT {columns.REPLY_COLUMNS} FROM outbox JOIN agent_keys ON agent_keys.key = outbox.agent_key"

LOAD: Final = f"{_MESSAGES} WHERE inbox.id IN :ids"
UNSETTLED: Final = (
    f"{_MESSAGES} WHERE inbox.agent_key = {KEY} AND inbox.{OPEN_MESSAGES} "
    f"AND inbox.state <= {_RETRYABLE} AND inbox.id > :after_id ORDER BY inbox.id LIMIT :limit"
)
# Agent by agent: the rows that are available are then one span of the partial index, whatever else is open or dead.
REPLAYED: Final = (
    f"SELECT {columns.MESSAGE_COLUMNS} FROM agent_keys CROSS JOIN inbox WHERE inbox.agent_key = agent_keys.key "
    f"AND inbox.{OPEN_MESSAGES} AND inbox.state = {_AVAILABLE} AND inbox.replay > 0 ORDER BY inbox.id"
)
COUNTS: Final = (
    "SELECT agent_keys.agent_id, counted.state, counted.number FROM (SELECT agent_key, state, count(*) AS number "
    f"FROM inbox WHERE {OPEN_MESSAGES} GROUP BY agent_key, state) AS counted "
    "JOIN agent_keys ON agent_keys.key = counted.agent_key"
)
KNOWN_KEYS: Final = f"SELECT message_key FROM inbox WHERE agent_key = {KEY} AND message_key IN :keys"
CONVERSATIONS: Final = (
    f"SELECT conversation_id, last_seen FROM conversations WHERE agent_key = {KEY} AND last_seen >= :since "
    "ORDER BY last_seen DESC, conversation_id LIMIT :limit"
)
LEFT_CONVERSATIONS: Final = (
    f"SELECT conversation_id, -last_seen FROM conversations WHERE agent_key = {KEY} AND last_seen < 0 "
    "ORDER BY last_seen, conversation_id LIMIT :limit"
)
ASKED: Final = (
    f"SELECT id, id, received_at, body FROM inbox WHERE agent_key = {KEY} AND conversation_id = :conversation_id "
    "AND id <= :up_to_id ORDER BY id DESC LIMIT :limit"
)
ANSWERED: Final = (
    f"SELECT id, inbox_id, created_at, body FROM outbox WHERE agent_key = {KEY} "
    f"AND conversation_id = :conversation_id AND state <= {_ACKED} "
    "AND (inbox_id IS NULL OR inbox_id <= :up_to_id) ORDER BY id DESC LIMIT :limit"
)
SUMMARY: Final = (
    f"SELECT body, up_to_id, since FROM conversation_summaries WHERE agent_key = {KEY} "
    "AND conversation_id = :conversation_id"
)
UNSENT: Final = f"{_REPLIES} WHERE outbox.agent_key = {KEY} AND outbox.{OPEN_REPLIES} ORDER BY outbox.id"
# Agent by agent, as above.
UNSENT_OF_ALL: Final = (
    f"SELECT {columns.REPLY_COLUMNS} FROM agent_keys CROSS JOIN outbox WHERE outbox.agent_key = agent_keys.key "
    f"AND outbox.{OPEN_REPLIES} ORDER BY outbox.id"
)
REPLIES_OF: Final = (
    f"{_REPLIES} JOIN inbox ON inbox.id = :id AND outbox.agent_key = inbox.agent_key "
    "AND outbox.conversation_id = inbox.conversation_id WHERE outbox.inbox_id = :id ORDER BY outbox.id"
)
# Agent by agent, as above. What is settled and on its way again was replayed: every move of it writes ``settled_at``.
REPLAYED_REPLIES: Final = (
    f"SELECT {columns.REPLY_COLUMNS} FROM agent_keys CROSS JOIN outbox WHERE outbox.agent_key = agent_keys.key "
    f"AND outbox.{OPEN_REPLIES} AND outbox.settled_at IS NOT NULL ORDER BY outbox.id"
)
DEAD_REPLIES: Final = (
    f"{_REPLIES} JOIN inbox ON outbox.inbox_id = inbox.id AND outbox.agent_key = inbox.agent_key "
    f"AND outbox.conversation_id = inbox.conversation_id WHERE inbox.id IN :ids AND {DEAD_REPLY} ORDER BY outbox.id"
)
OWN_REPLIES: Final = (
    f"{_REPLIES} WHERE outbox.agent_key = {KEY} AND outbox.conversation_id = :conversation_id "
    f"AND outbox.id < :before_id AND (outbox.settled_at >= :since OR outbox.{OPEN_REPLIES}) "
    "ORDER BY outbox.id DESC LIMIT :limit"
)


class SqlQuestions:
    """The questions that :class:`~supervisor.store.dialect.face.JournalQuestions` describes."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def load(self, ids: Sequence[int]) -> list[StoredMessage]:
        return [row for some in _slices(ids) for row in await self._messages(LOAD, ids=some)]

    async def unsettled(self, agent_id: str, after_id: int, limit: int) -> list[StoredMessage]:
        return await self._messages(UNSETTLED, agent_id=agent_id, after_id=after_id, limit=limit)

    async def replayed(self) -> list[StoredMessage]:
        return await self._messages(REPLAYED)

    async def messages(self, wanted: MessageFilter, limit: int) -> list[StoredMessage]:
        where = " AND ".join(["1 = 1", *filters.conditions(wanted)])
        statement = f"{_MESSAGES} WHERE {where} ORDER BY inbox.id DESC LIMIT :limit"
        return await self._messages(statement, limit=limit, **filters.parameters(wanted))

    async def counts(self) -> dict[str, dict[MessageState, int]]:
        return columns.counts(await self._rows(COUNTS))

    async def known_keys(self, agent_id: str, keys: Sequence[str]) -> set[str]:
        encoded = [columns.encode_key(key) for key in keys]
        found = [row for some in _slices(encoded) for row in await self._rows(KNOWN_KEYS, agent_id=agent_id, keys=some)]
        return {columns.decode_key(row[0]) for row in found}

    async def conversations(self, agent_id: str, since: float, limit: int) -> list[tuple[str, float]]:
        rows = await self._rows(CONVERSATIONS, agent_id=agent_id, since=since, limit=limit)
        return [(conversation_id, last_seen) for conversation_id, last_seen in rows]

    async def left_conversations(self, agent_id: str, limit: int) -> list[tuple[str, float]]:
        rows = await self._rows(LEFT_CONVERSATIONS, agent_id=agent_id, limit=limit)
        return [(conversation_id, left_at) for conversation_id, left_at in reversed(rows)]

    async def conversation(
        self, agent_id: str, conversation_id: str, limit: int, up_to_id: int
    ) -> tuple[list[Spoken], list[Spoken]]:
        where = {"agent_id": agent_id, "conversation_id": conversation_id, "limit": limit, "up_to_id": up_to_id}

        def query(connection: Connection) -> tuple[list[Spoken], list[Spoken]]:
            asked, answered = (
                connection.execute(ASKED, where).fetchall(),
                connection.execute(ANSWERED, where).fetchall(),
            )
            return [Spoken(*row) for row in asked], [Spoken(*row) for row in answered]

        return await self._sessions.read(query)

    async def summary(self, agent_id: str, conversation_id: str) -> StoredSummary | None:
        rows = await self._rows(SUMMARY, agent_id=agent_id, conversation_id=conversation_id)
        return StoredSummary(*rows[0]) if rows else None

    async def replies_of(self, inbox_id: int) -> list[StoredReply]:
        return await self._replies(REPLIES_OF, id=inbox_id)

    async def unsent(self, agent_id: str | None) -> list[StoredReply]:
        if agent_id is None:
            return await self._replies(UNSENT_OF_ALL)
        return await self._replies(UNSENT, agent_id=agent_id)

    async def own_replies(
        self, agent_id: str, conversation_id: str, *, since: float, before_id: int, limit: int
    ) -> list[StoredReply]:
        where = {"agent_id": agent_id, "conversation_id": conversation_id}
        return (await self._replies(OWN_REPLIES, **where, since=since, before_id=before_id, limit=limit))[::-1]

    async def dead_replies(self, inbox_ids: Sequence[int]) -> list[StoredReply]:
        found = [row for some in _slices(inbox_ids) for row in await self._replies(DEAD_REPLIES, ids=some)]
        return sorted(found, key=lambda reply: reply.id)

    async def replayed_replies(self) -> list[StoredReply]:
        return await self._replies(REPLAYED_REPLIES)

    async def usage(self, agent_id: str | None, since_day: str | None) -> list[UsageRecord]:
        return await self._sessions.read(partial(usage.read, agent_id=agent_id, since_day=since_day))

    async def lives(self, agent_id: str | None) -> list[AgentLife]:
        return await self._sessions.read(partial(lives.read, agent_id=agent_id))

    async def _rows(self, statement: str, **parameters: Any) -> Sequence[Any]:
        for name in parameters.keys() & LISTS:
            statement, parameters = within(statement, name, parameters)
        return await self._sessions.read(lambda connection: connection.execute(statement, parameters).fetchall())

    async def _messages(self, statement: str, **parameters: Any) -> list[StoredMessage]:
        return [columns.message(row) for row in await self._rows(statement, **parameters)]

    async def _replies(self, statement: str, **parameters: Any) -> list[StoredReply]:
        return [columns.reply(row) for row in await self._rows(statement, **parameters)]


def within(statement: str, name: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A statement with a parameter for each value of the list ``name``, and its parameters."""
    values = {f"{name}_{number}": value for number, value in enumerate(parameters[name])}
    others = {other: value for other, value in parameters.items() if other != name}
    return statement.replace(f":{name}", f"({', '.join(f':{one}' for one in values)})"), others | values


def _slices(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), SLICE):
        yield values[start : start + SLICE]
