"""One statement over many rows: all of them, in order, with few texts for SQLite to remember."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from supervisor.store.sqlite.many_rows import ManyRows


class Recording(sqlite3.Connection):
    """A connection that remembers each statement."""

    texts: list[str]

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.texts.append(statement)
        return super().execute(statement, parameters)


@pytest.fixture
def connection() -> Iterator[Recording]:
    with closing(sqlite3.connect(":memory:", factory=Recording)) as made:
        made.texts = []
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        made.texts.clear()
        yield made


def flat(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Their values, one row after the other."""
    return [value for row in rows for value in row]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 16, 17, 255, 256, 257, 700])
def test_every_row_is_written_once_and_counted(connection: Recording, count: int) -> None:
    rows = [(number, f"it's {number}") for number in range(count)]
    many = ManyRows("INSERT INTO t VALUES", 2, "ON CONFLICT DO NOTHING")
    assert many.execute(connection, flat(rows)) == count
    assert connection.execute("SELECT * FROM t ORDER BY id").fetchall() == rows
    assert many.execute(connection, flat(rows)) == 0, "those that were there are not counted"


def test_the_texts_are_few_whatever_the_numbers_of_rows(connection: Recording) -> None:
    many = ManyRows("INSERT INTO t VALUES", 2, "ON CONFLICT (id) DO UPDATE SET text = excluded.text")
    for count in range(1, 600, 7):
        many.execute(connection, flat((number, str(count)) for number in range(count)))
    assert len(set(connection.texts)) <= 20, "each number up to 16, and powers of two up to 256"
    connection.texts.clear()
    many.execute(connection, flat((number, "") for number in range(13)))
    assert len(connection.texts) == 1, "few rows are one statement"


def test_one_row_may_have_a_statement_of_its_own(connection: Recording) -> None:
    changed = ManyRows(
        "UPDATE t SET text = v.column2 FROM (VALUES",
        2,
        ") AS v WHERE t.id = v.column1",
        one="UPDATE t SET text = ?2 WHERE id = ?1",
    )
    connection.executemany("INSERT INTO t VALUES (?, '')", [(number,) for number in range(3)])
    assert changed.execute(connection, flat((number, str(number)) for number in range(3))) == 3
    assert changed.execute(connection, (7, "nobody")) == 0
    assert connection.execute("SELECT text FROM t ORDER BY id").fetchall() == [("0",), ("1",), ("2",)]
    updates = [text.startswith("UPDATE t SET text = ?2") for text in connection.texts if "UPDATE" in text]
    assert updates == [False, True]
