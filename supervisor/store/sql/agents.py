"""The statements of the table ``agents``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from supervisor.core.errors import AgentExistsError, AgentNotFoundError
from supervisor.store.dialect.face import AgentChanges, AgentRow, AgentValues
from supervisor.store.dialect.rows import MAX_ID_CHARS, MAX_TEXT_BYTES, Unread
from supervisor.store.sql.schema import agents
from supervisor.store.sql.sessions import Sessions

#: The columns whose text may be of any length, and those of which more than a little tells nothing; the query leaves
#: what is too long in the database.
_TEXTS: Final = tuple(agents.c[name] for name in ("name", "handler", "secret", "settings", "labels"))
_SHORT_CHARS: Final = 2 * MAX_ID_CHARS
_SHORT: Final = tuple(column for column in agents.c if column not in set(_TEXTS))
_QUERY: Final = select(
    *(
        case((func.length(column) > _SHORT_CHARS, func.substr(column, 1, _SHORT_CHARS)), else_=column).label(
            column.name
        )
        for column in _SHORT
    ),
    *(case((func.length(column) <= MAX_TEXT_BYTES, column)).label(column.name) for column in _TEXTS),
    *(func.length(column).label(f"{column.name}_size") for column in _TEXTS),
).order_by(agents.c.id)


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
    query = _QUERY if agent_id is None else _QUERY.where(agents.c.id == agent_id)
    return [_bounded(dict(row)) for row in connection.execute(query).mappings()]


def _bounded(row: dict[str, Any]) -> AgentRow:
    """A row without its sizes; what is too long is named in its place."""
    for column in _TEXTS:
        size = row.pop(f"{column.name}_size")
        if size is not None and size > MAX_TEXT_BYTES:
            row[column.name] = Unread(size)
    return row


def _row(connection: Connection, agent_id: str) -> AgentRow:
    found = _rows(connection, agent_id)
    if not found:
        raise AgentNotFoundError(agent_id)
    return found[0]


def _remove(connection: Connection, agent_id: str) -> None:
    if not connection.execute(delete(agents).where(agents.c.id == agent_id)).rowcount:
        raise AgentNotFoundError(agent_id)


def _change(connection: Connection, agent_id: str, at: str, values: Mapping[str, Any]) -> None:
    found = connection.execute(update(agents).where(agents.c.id == agent_id).values(**values, updated_at=at))
    if not found.rowcount:
        raise AgentNotFoundError(agent_id)


def _add(connection: Connection, agent_id: str, at: str, values: Mapping[str, Any]) -> None:
    try:
        connection.execute(insert(agents).values(id=agent_id, **values, created_at=at, updated_at=at))
    except IntegrityError:
        raise AgentExistsError(agent_id) from None
