"""What statements find, as its callers take it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from supervisor.store.sql.sessions import Connection, mappings, scalar


@pytest.fixture
def connection() -> Iterator[Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript("CREATE TABLE t (id INTEGER, text TEXT); INSERT INTO t VALUES (1, 'a'), (2, NULL)")
        yield made


def test_a_scalar_is_the_first_value_or_none(connection: Connection) -> None:
    assert scalar(connection, "SELECT id, text FROM t ORDER BY id DESC") == 2
    assert scalar(connection, "SELECT text FROM t WHERE id = :id", {"id": 1}) == "a"
    assert scalar(connection, "SELECT text FROM t WHERE id = ?", (2,)) is None
    assert scalar(connection, "SELECT text FROM t WHERE id = 3") is None


def test_rows_are_named_by_the_columns_that_were_asked_for(connection: Connection) -> None:
    found = mappings(connection.execute("SELECT id, text AS said FROM t ORDER BY id"))
    assert found == [{"id": 1, "said": "a"}, {"id": 2, "said": None}]
    assert mappings(connection.execute("SELECT id FROM t WHERE id > 9")) == []
