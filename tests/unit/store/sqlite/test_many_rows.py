"""One statement over many rows: all of them, in order, with few texts for SQLite to remember."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine, event

from supervisor.store.sqlite.many_rows import ManyRows


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as made:
        made.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        yield made
    engine.dispose()


@pytest.fixture
def texts(connection: Connection) -> list[str]:
    """Each statement that was executed."""
    said: list[str] = []
    event.listen(connection, "before_cursor_execute", lambda _c, _cur, text, *_: said.append(text))
    return said


@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, 256, 257, 700])
def test_every_row_is_written_once_and_counted(connection: Connection, count: int) -> None:
    rows = [(number, f"it's {number}") for number in range(count)]
    many = ManyRows("INSERT INTO t VALUES", 2, "ON CONFLICT DO NOTHING")
    assert many.execute(connection, rows) == count
    assert connection.exec_driver_sql("SELECT * FROM t ORDER BY id").all() == rows
    assert many.execute(connection, rows) == 0, "those that were there are not counted"


def test_the_texts_are_few_whatever_the_numbers_of_rows(connection: Connection, texts: list[str]) -> None:
    many = ManyRows("INSERT INTO t VALUES", 2, "ON CONFLICT (id) DO UPDATE SET text = excluded.text")
    for count in range(1, 600, 7):
        many.execute(connection, [(number, str(count)) for number in range(count)])
    assert len(set(texts)) <= 9, "powers of two up to 256"
