"""What is asked of SQLite itself on an open connection, outside of transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from supervisor.store.sqlite.errors import explain_copy
from supervisor.store.sqlite.files import address


def empty_log(connection: sqlite3.Connection) -> None:
    """Bring the write-ahead log into the file and empty it: it holds what was erased until then.

    What a reader still looks at stays until the next checkpoint.
    """
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()


def reuse_log(connection: sqlite3.Connection) -> None:
    """Bring of the log into the file what nobody looks at, so that it is written from its beginning again.

    Raises:
        sqlite3.Error: the file cannot take it.
    """
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close()


def data_version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection has committed."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def page_count(connection: sqlite3.Connection) -> int:
    """How many pages the database has, as this connection sees it."""
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


def page_size(connection: sqlite3.Connection) -> int:
    """The size of a page, in bytes."""
    return int(connection.execute("PRAGMA page_size").fetchone()[0])


def damage_of(path: Path) -> str | None:
    """As :func:`damage`, of a file as a connection finds it that has seen nothing of it."""
    with closing(sqlite3.connect(address(path, "ro"), uri=True, timeout=1.0)) as connection:
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    return None if found == "ok" else found


def read_uuid(path: Path) -> str | None:
    """The UUID of the registry in a file, read by a connection that has seen nothing of it; None where it has none."""
    with closing(sqlite3.connect(address(path, "ro"), uri=True, timeout=1.0)) as connection:
        found = connection.execute("SELECT value FROM meta WHERE key = 'uuid'").fetchone()
    return str(found[0]) if found else None


def saved_uuid(path: Path) -> str | None:
    """As :func:`read_uuid`, of a copy; None too where it cannot be read."""
    try:
        return read_uuid(path)
    except sqlite3.Error:
        return None


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that a file is no registry or lacks a part, and not that it cannot be read just now."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return True
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def damage(connection: sqlite3.Connection, tables: tuple[str, ...] = (), *, thorough: bool = False) -> str | None:
    """What SQLite finds wrong with the file, or with some of its tables; None when it is sound.

    Args:
        thorough: compare each index with its table too.
    """
    pragma = "integrity_check" if thorough else "quick_check"
    for argument in tables or ("1",):
        found = str(connection.execute(f"PRAGMA {pragma}({argument})").fetchone()[0])
        if found != "ok":
            return " ".join(found.split())[:200]
    return None


def values(connection: sqlite3.Connection, table: str, column: str) -> Iterator[Any]:
    """Every value of a column, one at a time."""
    for row in connection.execute(f"SELECT {column} FROM {table}"):  # noqa: S608 - names of our own
        yield row[0]


def copy(connection: sqlite3.Connection, target: Path) -> None:
    """Write a compact copy of the database into an empty file, as it is at one moment, while others write.

    Of SQLite's two ways to copy a live database this is the one that leaves out what was erased: the backup interface
    copies free pages too (https://sqlite.org/lang_vacuum.html#vacuuminto).

    Raises:
        RegistryError: the target cannot be written.
    """
    try:
        # It writes to the copy alone, and counts as writing all the same.
        connection.execute("PRAGMA query_only=OFF").close()
        connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        explained = explain_copy(error)
        if explained is None:
            raise
        raise explained from None
