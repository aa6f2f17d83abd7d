"""Connections that read: many at once, what they see is committed, and none is left after the close."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError
from supervisor.store import Registry
from supervisor.store.dialect.face import StorageError
from supervisor.store.sqlite.connections import open_reader
from supervisor.store.sqlite.pool import READERS, ReadPool


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "supervisor.db"
    await (await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True)).close()
    return path


@pytest.fixture
async def pool(path: Path) -> AsyncIterator[ReadPool]:
    made = await ReadPool.open(path, partial(open_reader, path, 0.05))
    yield made
    await made.close()


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM agents").fetchone()[0])


async def test_many_read_at_once_and_see_what_is_committed(pool: ReadPool, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO agents (id, handler, secret) VALUES ('a', 'echo', 'env:AGENT_A')")
        assert await asyncio.gather(*[pool.read(count) for _ in range(20)]) == [0] * 20
        writer.execute("COMMIT")
        assert await pool.read(count) == 1


async def test_whoever_waits_for_a_connection_waits_as_long_as_it_takes_and_in_its_turn(pool: ReadPool) -> None:
    """Each connection stands at a query; hundreds wait behind them, some give up, and the others are answered."""
    go_on, stand = threading.Event(), list[int]()
    served: dict[int, list[int]] = {}

    def held(connection: sqlite3.Connection) -> int:
        stand.append(count(connection))
        return int(go_on.wait(30))

    def query(connection: sqlite3.Connection, number: int) -> int:
        served.setdefault(threading.get_ident(), []).append(number)
        return number + count(connection)

    standing = [asyncio.create_task(pool.read(held)) for _ in range(READERS)]
    while len(stand) < READERS:
        await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(pool.read(partial(query, number=number))) for number in range(300)]
    await asyncio.sleep(0)
    for one in waiting[::3]:
        one.cancel()
    go_on.set()
    assert await asyncio.gather(*standing) == [1] * READERS
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, int)] == [n for n in range(300) if n % 3]
    await pool.close()
    assert sorted(number for some in served.values() for number in some) == list(range(300))
    assert len(served) == READERS
    assert all(some == sorted(some) for some in served.values())


async def test_nobody_writes_through_it(pool: ReadPool) -> None:
    with pytest.raises(RegistryError, match="read-only"):
        await pool.read(lambda connection: connection.execute("DELETE FROM agents"))


async def test_trouble_is_told_in_one_line(pool: ReadPool, path: Path) -> None:
    with pytest.raises(RegistryError, match="no such table: nowhere"):
        await pool.read(lambda connection: connection.execute("SELECT * FROM nowhere"))
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StorageError, match="is damaged"):
        await pool.read(count)


async def test_closed_it_answers_nothing(pool: ReadPool) -> None:
    await pool.read(count)
    await pool.close()
    with pytest.raises(RegistryError, match="The registry is closed"):
        await pool.read(count)


async def test_what_was_asked_before_the_close_is_answered(pool: ReadPool) -> None:
    asked = [asyncio.create_task(pool.read(count)) for _ in range(50)]
    await asyncio.sleep(0)
    await pool.close()
    assert await asyncio.gather(*asked) == [0] * 50


async def test_one_that_fails_costs_those_beside_it_nothing(pool: ReadPool) -> None:
    def fail(_connection: sqlite3.Connection) -> int:
        raise KeyError("nothing there")

    answers = await asyncio.gather(*[pool.read(one) for one in (count, fail, count) * 40], return_exceptions=True)
    assert [str(answer) for answer in answers] == ["0", "'nothing there'", "0"] * 40


async def test_where_it_cannot_be_opened_no_connection_is_left(path: Path) -> None:
    opened: list[sqlite3.Connection] = []

    def connect() -> sqlite3.Connection:
        if len(opened) == READERS - 1:
            raise OSError(24, "Too many open files")
        opened.append(open_reader(path, 0.05))
        return opened[-1]

    with pytest.raises(StorageError, match=r"cannot be read now: .*Too many open files"):
        await ReadPool.open(path, connect)
    for one in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            one.execute("SELECT 1")
