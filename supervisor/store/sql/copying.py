"""Copying a whole registry into another database: the statements of ``supervisor db copy``.

Rows are read and written slice by slice, in order of their keys. What is being copied into, and what was copied away,
is marked in the table ``meta``: no supervisor runs on half a registry, nor on one that goes on elsewhere.
"""

# ruff: noqa: S608 - the texts are put together from names of our own; every value is bound

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from supervisor.core.errors import RegistryError
from supervisor.store.sql.sessions import Connection, Sessions, scalar

#: Rows in one transaction.
SLICE: Final = 500
#: The rows of ``meta`` that go along, and the marks.
_ALONG: Final = ("uuid", "lives_since")
_COPYING: Final = "copying"
_MOVED: Final = "moved_to"


class Copied(NamedTuple):
    """A table that is copied: by which of its columns it is read, and all of them."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]


#: What messages and replies have alike.
_MOVING: Final = ("state", "attempts", "not_before", "settled_at", "error", "body")
_USAGE: Final = ("requests", "input_tokens", "output_tokens", "cached_tokens", "cost", "unpriced_requests")
#: Every table but ``meta``, in an order in which no row comes before what it refers to; a test holds it to the schema.
TABLES: Final[Mapping[str, Copied]] = {
    "agents": Copied(
        ("id",),
        ("id", "name", "handler", "secret", "settings", "labels", "paused", "created_at", "updated_at"),
    ),
    "agent_keys": Copied(("key",), ("key", "agent_id")),
    "inbox": Copied(("id",), ("id", "agent_key", "message_key", "conversation_id", "received_at", "replay", *_MOVING)),
    "outbox": Copied(("id",), ("id", "agent_key", "inbox_id", "part", "conversation_id", "created_at", *_MOVING)),
    "conversations": Copied(("agent_key", "conversation_id"), ("agent_key", "conversation_id", "last_seen")),
    "conversation_summaries": Copied(("id",), ("id", "agent_key", "conversation_id", "up_to_id", "since", "body")),
    "usage": Copied(
        ("day", "agent_key", "model"),
        ("day", "agent_key", "model", *_USAGE, "reasoning_tokens", "estimated_requests"),
    ),
    "agent_events": Copied(("id",), ("id", "at", "agent_id", "subject", "action", "actor", "address", "after", "undo")),
    "agent_lives": Copied(
        ("agent_id",), ("agent_id", "registered_at", "asleep_since", "asleep_until", "asleep_reason")
    ),
}


def refuse_marked(connection: Connection, where: str) -> None:
    """Refuse to run what is half a registry, or goes on elsewhere.

    Raises:
        RegistryError: it is so; the text says what to do.
    """
    if scalar(connection, "SELECT value FROM meta WHERE key = :key", {"key": _COPYING}) is not None:
        raise RegistryError(
            f"The registry {where} is a copy that was never finished; empty the database and copy once more"
        )
    moved_to = scalar(connection, "SELECT value FROM meta WHERE key = :key", {"key": _MOVED})
    if moved_to is not None:
        raise RegistryError(
            f"The registry {where} was copied to {moved_to} and goes on there; set SUPERVISOR_REGISTRY_URL to that, "
            f"or, to go on here with what was there then: DELETE FROM meta WHERE key = '{_MOVED}'"
        )


async def copy(source: Sessions, target: Sessions, where: str, renumber: Sequence[str]) -> dict[str, int]:
    """Copy everything; how many rows each table has.

    Args:
        where: how the target is named to people.
        renumber: statements by which the target's numbers go on behind those of the rows.

    Raises:
        RegistryError: the target is not empty, or refuses a row; the source is as it was.
    """
    await target.alter(partial(_begin, where=where))
    counted = {table: await _copy_table(source, target, table, copied) for table, copied in TABLES.items()}
    for table, number in counted.items():
        if number != await target.read(partial(_count, table=table)):
            raise RegistryError(f"Of the table {table} not every row has arrived; empty the target and copy once more")
    along = await source.read(_read_meta)
    await target.alter(partial(_finish, along=along, renumber=renumber))
    await source.alter(partial(_mark, key=_MOVED, value=where))
    return counted


async def _copy_table(source: Sessions, target: Sessions, table: str, copied: Copied) -> int:
    number, after = 0, None
    while rows := await source.read(partial(_slice, table=table, copied=copied, after=after)):
        await target.alter(partial(_insert, table=table, columns=copied.columns, rows=rows))
        after, number = rows[-1], number + len(rows)
    return number


def _slice(connection: Connection, table: str, copied: Copied, after: Sequence[Any] | None) -> list[Sequence[Any]]:
    """The next rows behind one."""
    keys = ", ".join(copied.keys)
    named = dict(zip(copied.columns, after, strict=True)) if after is not None else {}
    behind = f"WHERE ({keys}) > ({', '.join(f':{key}' for key in copied.keys)})" if named else ""
    return connection.execute(
        f"SELECT {', '.join(copied.columns)} FROM {table} {behind} ORDER BY {keys} LIMIT {SLICE}",
        {key: named[key] for key in copied.keys} if named else {},
    ).fetchall()


def _insert(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(f':{name}' for name in columns)})"
    for row in rows:
        connection.execute(statement, dict(zip(columns, map(_storable, row), strict=True)))


def _storable(value: Any) -> Any:
    """A value as every database takes it: text of an older journal may hold what only some can."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _count(connection: Connection, table: str) -> int:
    return int(scalar(connection, f"SELECT count(*) FROM {table}"))


def _begin(connection: Connection, where: str) -> None:
    held = [table for table in TABLES if scalar(connection, f"SELECT 1 FROM {table} LIMIT 1") is not None]
    if held:
        raise RegistryError(f"The registry {where} is not empty ({', '.join(held)}); nothing was copied")
    _mark(connection, _COPYING, "yes")


def _read_meta(connection: Connection) -> dict[str, str]:
    found = connection.execute("SELECT key, value FROM meta").fetchall()
    return {key: value for key, value in found if key in _ALONG}


def _finish(connection: Connection, along: Mapping[str, str], renumber: Sequence[str]) -> None:
    for statement in renumber:
        connection.execute(statement)
    for key, value in along.items():
        _mark(connection, key, value)
    connection.execute("DELETE FROM meta WHERE key = :key", {"key": _COPYING})


def _mark(connection: Connection, key: str, value: str) -> None:
    connection.execute("DELETE FROM meta WHERE key = :key", {"key": key})
    connection.execute("INSERT INTO meta (key, value) VALUES (:key, :value)", {"key": key, "value": value})
