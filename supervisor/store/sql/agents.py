"""The statements of the table ``agents``."""

# ruff: noqa: S608 - the texts are put together from names of columns; every value is bound

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from supervisor.core.errors import AgentExistsError, AgentNotFoundError
from supervisor.store.dialect.face import AgentChanges, AgentRow, AgentValues
from supervisor.store.dialect.history import Origin
from supervisor.store.dialect.rows import CHANGEABLE
from supervisor.store.sql import history
from supervisor.store.sql.agent_rows import find_row, find_rows
from supervisor.store.sql.sessions import Connection, Sessions


class SqlAgents:
    """The table ``agents``, as :class:`~supervisor.store.dialect.face.AgentTable` describes it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def rows(self, agent_id: str | None = None) -> Sequence[AgentRow]:
        return await self._sessions.read(partial(find_rows, agent_id=agent_id))

    async def write(self, changes: AgentChanges, origin: Origin) -> None:
        def work(connection: Connection) -> None:
            for agent_id in changes.remove:
                _remove(connection, agent_id, origin)
            for agent_id, values in changes.change:
                _change(connection, agent_id, values, origin)
            for agent_id, values in changes.add:
                _add(connection, agent_id, values, origin)

        await self._sessions.alter(work)

    async def alter(
        self, agent_ids: Sequence[str], change: Callable[[AgentRow], AgentValues], origin: Origin
    ) -> list[AgentRow]:
        def work(connection: Connection) -> list[AgentRow]:
            return [_alter(connection, agent_id, change, origin) for agent_id in agent_ids]

        return await self._sessions.alter(work)

    async def restore(self, agent_id: str, since: float, origin: Origin) -> None:
        def work(connection: Connection) -> None:
            removed = history.undo_of(connection, agent_id, since)
            if find_row(connection, agent_id) is not None:
                raise AgentExistsError(agent_id)
            if removed is None:
                raise AgentNotFoundError(agent_id)
            values = {name: value for name, value in removed.items() if name in CHANGEABLE}
            _add(connection, agent_id, values, origin, created_at=removed["created_at"])
            history.forget_undo(connection, agent_id)

        await self._sessions.alter(work)


def _text(at: float) -> str:
    """A time as the table has it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def _row(connection: Connection, agent_id: str) -> AgentRow:
    row = find_row(connection, agent_id)
    if row is None:
        raise AgentNotFoundError(agent_id)
    return row


def _remove(connection: Connection, agent_id: str, origin: Origin) -> None:
    before = _row(connection, agent_id)
    if not connection.execute("DELETE FROM agents WHERE id = :agent_id", {"agent_id": agent_id}).rowcount:
        raise AgentNotFoundError(agent_id)
    history.changed(connection, origin, agent_id, before, None)


def _alter(
    connection: Connection, agent_id: str, change: Callable[[AgentRow], AgentValues], origin: Origin
) -> AgentRow:
    row = _row(connection, agent_id)
    values = change(row)
    return _change(connection, agent_id, values, origin) if values else row


def _change(connection: Connection, agent_id: str, values: Mapping[str, Any], origin: Origin) -> AgentRow:
    before = _row(connection, agent_id)
    written = {**values, "updated_at": _text(origin.at)}
    sets = ", ".join(f"{column} = :{column}" for column in written)
    connection.execute(f"UPDATE agents SET {sets} WHERE id = :agent_id", {**written, "agent_id": agent_id})
    after = _row(connection, agent_id)
    if any(before[column] != after[column] for column in values):
        history.changed(connection, origin, agent_id, before, after)
    return after


def _add(
    connection: Connection,
    agent_id: str,
    values: Mapping[str, Any],
    origin: Origin,
    created_at: str | None = None,
) -> None:
    at = _text(origin.at)
    row = {"id": agent_id, **values, "created_at": created_at or at, "updated_at": at}
    added = connection.execute(
        f"INSERT INTO agents ({', '.join(row)}) VALUES ({', '.join(f':{column}' for column in row)}) "
        "ON CONFLICT (id) DO NOTHING",
        row,
    )
    if not added.rowcount:
        raise AgentExistsError(agent_id)
    history.changed(connection, origin, agent_id, None, _row(connection, agent_id))
