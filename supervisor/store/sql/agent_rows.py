"""How rows of the table ``agents`` are read, which anybody may have written."""

# ruff: noqa: S608 - the texts are put together from names of columns; every value is bound

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from supervisor.store.dialect.face import AgentRow
from supervisor.store.dialect.rows import MAX_ID_CHARS, MAX_TEXT_BYTES, Unread
from supervisor.store.sql.sessions import Connection, mappings

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


def find_rows(connection: Connection, agent_id: str | None) -> Sequence[AgentRow]:
    """Every row, in order of ids, or the one of that id where there is one."""
    where = "" if agent_id is None else "WHERE agents.id = :agent_id"
    return find_rows_where(connection, where, {"agent_id": agent_id})


def find_rows_where(connection: Connection, where: str, values: Mapping[str, Any]) -> Sequence[AgentRow]:
    """Every row that meets a condition, in order of ids.

    Args:
        values: of the names in the condition.
    """
    found = connection.execute(f"{_QUERY} {where} ORDER BY agents.id", values)
    return [_bounded(row) for row in mappings(found)]


def _bounded(row: dict[str, Any]) -> AgentRow:
    """A row without its sizes; what is too long is named in its place."""
    for column in _TEXTS:
        size = row.pop(f"{column}_size")
        if size is not None and size > MAX_TEXT_BYTES:
            row[column] = Unread(size)
    return row


def find_row(connection: Connection, agent_id: str) -> AgentRow | None:
    """The row of an agent; None where there is none."""
    found = find_rows(connection, agent_id)
    return found[0] if found else None
