"""SQLite's errors, as SQLite raises them: which may pass, which need a copy, and that none quotes what people wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError
from supervisor.store.dialect.face import DamagedError, StorageError
from supervisor.store.sqlite.errors import explain, explain_copy, is_transient


def raised(path: Path, work: Callable[[sqlite3.Connection], object]) -> sqlite3.Error:
    """What SQLite raises at some work on a file with one table."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT)")
        with pytest.raises(sqlite3.Error) as caught:
            work(connection)
    return caught.value


def fill(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count=2")
    connection.execute("INSERT INTO t (text) VALUES (?)", ("x" * 100_000,))


def write_read_only(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only=ON")
    connection.execute("INSERT INTO t DEFAULT VALUES")


def test_a_full_disk_passes(tmp_path: Path) -> None:
    told = explain(tmp_path / "a.db", raised(tmp_path / "a.db", fill))
    assert isinstance(told, StorageError)
    assert str(told).endswith("cannot be used now: the disk is full; free some space on it")


def test_a_read_only_file_passes(tmp_path: Path) -> None:
    told = explain(tmp_path / "a.db", raised(tmp_path / "a.db", write_read_only))
    assert isinstance(told, StorageError)
    assert "it has become read-only" in str(told)


def test_a_lock_passes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        other.execute("BEGIN IMMEDIATE")
        told = explain(path, raised(path, lambda connection: connection.execute("DELETE FROM t")))
    assert isinstance(told, StorageError)
    assert "another program keeps it locked" in str(told)


def test_what_is_no_database_is_damaged_and_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database, whatever its name" * 100)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError) as caught:
        connection.execute("SELECT * FROM sqlite_master")
    told = explain(path, caught.value)
    assert isinstance(told, DamagedError)
    assert "'supervisor db backup'" in str(told)
    assert "a.db-wal" in str(told)
    assert explain_copy(caught.value) is None


def test_what_an_operation_itself_is_to_blame_for_does_not_pass_and_quotes_no_words(tmp_path: Path) -> None:
    def twice(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE UNIQUE INDEX once ON t (text)")
        for _ in range(2):
            connection.execute("INSERT INTO t (text) VALUES (?)", ("my secret words",))

    error = raised(tmp_path / "a.db", twice)
    told = explain(tmp_path / "a.db", error)
    assert type(told) is RegistryError
    assert str(told) == f"The registry {tmp_path / 'a.db'} refused an operation: UNIQUE constraint failed: t.text"
    assert not is_transient(error)


@pytest.mark.parametrize(("code", "transient"), [("SQLITE_IOERR_WRITE", True), ("SQLITE_BUSY_SNAPSHOT", True)])
def test_extended_codes_are_those_they_extend(code: str, transient: bool) -> None:
    original = sqlite3.OperationalError("no")
    original.sqlite_errorcode = getattr(sqlite3, code)
    assert is_transient(original) is transient


def test_why_a_copy_cannot_be_written_names_the_copy(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as whole:
        whole.execute("CREATE TABLE t (text TEXT)")
        whole.execute("INSERT INTO t VALUES (?)", ("x" * 100_000,))
        whole.commit()
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            copy.execute("PRAGMA max_page_count=2")
            with pytest.raises(sqlite3.Error) as caught:
                whole.backup(copy)
    told = explain_copy(caught.value)
    assert told is not None
    assert str(told) == "The registry cannot be copied: the disk of the copy is full"
    assert str(explain_copy(sqlite3.OperationalError("odd"))) == "The registry cannot be copied: odd"
