"""The statements of the table ``agents``."""

# ruff: noqa: S608 - the texts are put together from names of columns; every value is bound

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from supervisor.core.errors import AgentExistsError, AgentNotFoundError
from supervisor.store.dialect.face import AgentChanges, AgentRow, AgentValues
from supervisor.store.dialect.rows import MAX_ID_CHARS, MAX_TEXT_BYTES, Unread
from supervisor.store.sql.sessions import Connection, Sessions, mappings

#: The columns whose text may be of any length, and those of which more than a little tells nothing; the query leaves
#: what is too long in the database.
_TEXTS: Final = ("name", "handler", "secret", "settings", "labels")
_SHORT: Final = ("id", "created_at", "updated_at")
_SHORT_CHARS: Final = 2 * MAX_ID_CHARS
# Only where columns take values of any type can a flag be long; elsewhere its text is read as the number that it is.
_FLAG: Final = f"CASE WHEN length(CAST(paused AS TEXT)) > {_SHORT_CHARS} THEN NULL ELSE paused END AS paused"
_COLUMNS: Final = (
    _FLAG,
    *(
        f"CASE WHEN length({column}) > {_SHORT_CHARS} THEN substr({column}, 1, {_SHORT_CHARS}) ELSE {column} END "
        f"AS {column}"
        for column in _SHORT
    ),
    *(f"CASE WHEN length({column}) <= {MAX_TEXT_BYTES} THEN {column} END AS {column}" for column in _TEXTS),
    *(f"length({column}) AS {column}_size" for column in _TEXTS),
)
_QUERY: Final = f"SELECT {', '.join(_COLUMNS)} FROM agents"


class SqlAgents:
    """The table ``agents``, as :class:`~supervisor.store.dialect.face.AgentTable` describes it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def rows(self, agent_id: str | None = None) -> Sequence[AgentRow]:
        return await self._sessions.read(partial(_rows, agent_id=agent_id))

    async def write(self, at: str, changes: AgentChanges) -> None:
        def work(connection: Connection) -> None:
            for agent_id in changes.remove:
                _remove(connection, agent_id)
            for agent_id, values in changes.change:
                _change(connection, agent_id, at, values)
            for agent_id, values in changes.add:
                _add(connection, agent_id, at, values)

        await self._sessions.alter(work)

    async def alter(self, agent_id: str, at: str, change: Callable[[AgentRow], AgentValues]) -> AgentRow:
        def work(connection: Connection) -> AgentRow:
            values = change(_row(connection, agent_id))
            if values:
                _change(connection, agent_id, at, values)
            return _row(connection, agent_id)

        return await self._sessions.alter(work)


def _rows(connection: Connection, agent_id: str | None) -> Sequence[AgentRow]:
    where = "" if agent_id is None else "WHERE agents.id = :agent_id"
    found = connection.execute(f"{_QUERY} {where} ORDER BY agents.id", {"agent_id": agent_id})
    return [_bounded(row) for row in mappings(found)]


def _bounded(row: dict[str, Any]) -> AgentRow:
    """A row without its sizes; what is too long is named in its place."""
    for column in _TEXTS:
        size = row.pop(f"{column}_size")
        if size is not None and size > MAX_TEXT_BYTES:
            row[column] = Unread(size)
    return row


def _row(connection: Connection, agent_id: str) -> AgentRow:
    found = _rows(connection, agent_id)
    if not found:
        raise AgentNotFoundError(agent_id)
    return found[0]


def _remove(connection: Connection, agent_id: str) -> None:
    if not connection.execute("DELETE FROM agents WHERE id = :agent_id", {"agent_id": agent_id}).rowcount:
        raise AgentNotFoundError(agent_id)


def _change(connection: Connection, agent_id: str, at: str, values: Mapping[str, Any]) -> None:
    changed = {**values, "updated_at": at}
    sets = ", ".join(f"{column} = :{column}" for column in changed)
    found = connection.execute(f"UPDATE agents SET {sets} WHERE id = :agent_id", {**changed, "agent_id": agent_id})
    if not found.rowcount:
        raise AgentNotFoundError(agent_id)


def _add(connection: Connection, agent_id: str, at: str, values: Mapping[str, Any]) -> None:
    row = {"id": agent_id, **values, "created_at": at, "updated_at": at}
    added = connection.execute(
        f"INSERT INTO agents ({', '.join(row)}) VALUES ({', '.join(f':{column}' for column in row)}) "
        "ON CONFLICT (id) DO NOTHING",
        row,
    )
    if not added.rowcount:
        raise AgentExistsError(agent_id)
