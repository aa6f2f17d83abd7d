"""The statements of ``supervisor keys rotate``: what is encrypted, read and replaced."""

# ruff: noqa: S608 - the texts are put together from names of our own; every value is bound

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from supervisor.store.dialect.codec import SEALED
from supervisor.store.dialect.rows import record_from_row
from supervisor.store.sql.sessions import Connection, mappings, scalar

#: Rows in one transaction: the supervisor's own commits wait for it.
SLICE: Final = 100
#: A ciphertext anywhere in a row's settings: version and the upper bytes of a time make every one begin like this.
IN_SETTINGS: Final = re.compile(r"fernet:(gAAAA[\w=-]+)", re.ASCII)
_SEALED_TEXT: Final = SEALED.decode()
#: The tables of the journal in which something may be encrypted, and their columns that hold it.
COLUMNS: Final = {
    "inbox": ("body", "error"),
    "outbox": ("body", "error"),
    "conversation_summaries": ("body",),
}
#: How what is encrypted begins in each of these columns.
_MARKED: Final = {"body": ":mark", "error": ":text_mark"}


class SealedRow(NamedTuple):
    """A row that holds something encrypted, and the columns that do, as they are stored."""

    table: str
    id: Any
    agent_id: str
    columns: dict[str, Any]


class SealedChange(NamedTuple):
    """A column's new value, to be put where the old one still is."""

    table: str
    column: str
    id: Any
    old: str | bytes
    new: str | bytes


def agents(connection: Connection) -> list[SealedRow]:
    """Every agent whose secret is encrypted, or something in its settings."""
    found = []
    for row in mappings(connection.execute("SELECT * FROM agents ORDER BY id")):
        secret, settings = row["secret"], row["settings"]
        columns: dict[str, Any] = {}
        if isinstance(secret, str) and secret.startswith(_SEALED_TEXT):
            columns["secret"] = secret
        if isinstance(settings, str) and IN_SETTINGS.search(settings):
            columns["settings"] = settings
        if columns:
            found.append(SealedRow("agents", row["id"], record_from_row(row).id, columns))
    return found


def removed(connection: Connection) -> list[SealedRow]:
    """The rows that were removed of late and can come back, with something encrypted in them."""
    found = connection.execute("SELECT id, agent_id, undo FROM agent_events WHERE undo IS NOT NULL ORDER BY id")
    return [
        SealedRow("agent_events", number, agent_id, {"undo": undo})
        for number, agent_id, undo in found.fetchall()
        if IN_SETTINGS.search(undo)
    ]


def last(connection: Connection, table: str) -> int:
    """The highest id in a table of :data:`COLUMNS`."""
    return int(scalar(connection, f"SELECT id FROM {table} ORDER BY id DESC LIMIT 1") or 0)


def texts(connection: Connection, table: str, after: int, last_id: int) -> list[SealedRow]:
    """The next rows after ``after``, up to ``last_id``, that hold something encrypted; :data:`SLICE` at most."""
    names = COLUMNS[table]
    marked = " OR ".join(f"substr({name}, 1, 7) = {_MARKED[name]}" for name in names)
    found = connection.execute(
        f"SELECT {table}.id, agent_id, {', '.join(names)} FROM {table} JOIN agent_keys ON key = agent_key "
        f"WHERE {table}.id > :after AND {table}.id <= :last AND ({marked}) ORDER BY {table}.id LIMIT {SLICE}",
        {"after": after, "last": last_id, "mark": SEALED, "text_mark": _SEALED_TEXT},
    )
    return [
        SealedRow(
            table,
            number,
            agent_id,
            {name: value for name, value in zip(names, values, strict=True) if _is_sealed(value)},
        )
        for number, agent_id, *values in found.fetchall()
    ]


def _is_sealed(value: object) -> bool:
    if isinstance(value, bytes):
        return value.startswith(SEALED)
    return isinstance(value, str) and value.startswith(_SEALED_TEXT)


def swap(connection: Connection, changed: Sequence[Sequence[SealedChange]]) -> list[bool]:
    """Put each new value where the old one still is; of each row whether all were."""
    return [all(_swapped(connection, change) for change in changes) for changes in changed]


def _swapped(connection: Connection, change: SealedChange) -> bool:
    statement = f"UPDATE {change.table} SET {change.column} = :new WHERE id = :id AND {change.column} = :old"
    return connection.execute(statement, {"new": change.new, "id": change.id, "old": change.old}).rowcount > 0
