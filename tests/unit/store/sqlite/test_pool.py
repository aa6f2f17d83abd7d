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
    made = ReadPool(path, partial(open_reader, path, 0.05))
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


async def test_whoever_waits_for_a_connection_waits_as_long_as_it_takes_and_in_its_turn(path: Path) -> None:
    """Four queries stand; hundreds wait behind them, some give up, and the others are answered in order."""
    go_on = threading.Event()
    stand, opened, served = list[int](), list[sqlite3.Connection](), list[int]()

    def held(connection: sqlite3.Connection) -> int:
        stand.append(count(connection))
        return int(go_on.wait(30))

    def connect() -> sqlite3.Connection:
        opened.append(open_reader(path, 0.05))
        return opened[-1]

    pool = ReadPool(path, connect)

    async def read(number: int) -> None:
        def query(connection: sqlite3.Connection) -> int:
            served.append(number)
            return count(connection)

        await pool.read(query)

    standing = [asyncio.create_task(pool.read(held)) for _ in range(READERS)]
    while len(stand) < READERS:
        await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(read(number)) for number in range(300)]
    await asyncio.sleep(0)
    for one in waiting[::3]:
        one.cancel()
    await asyncio.gather(*waiting[::3], return_exceptions=True)
    go_on.set()
    assert await asyncio.gather(*standing) == [1] * READERS
    await asyncio.gather(*waiting, return_exceptions=True)
    await pool.close()
    # Four threads take their queries in order, and note them beside each other.
    assert sorted(served) == [number for number in range(300) if number % 3]
    assert all(abs(place - 2 * number / 3) < 2 * READERS for place, number in enumerate(served))
    assert len(opened) == READERS


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
