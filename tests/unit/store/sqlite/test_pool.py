"""Connections that read: many at once, what they see is committed, and none is left after the close."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.pool import AsyncAdaptedQueuePool

from supervisor.core.errors import RegistryError
from supervisor.store import Registry
from supervisor.store.dialect.face import StorageError
from supervisor.store.sqlite.engines import READERS, reader_engine
from supervisor.store.sqlite.pool import ReadPool


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "supervisor.db"
    await (await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True)).close()
    return path


@pytest.fixture
async def pool(path: Path) -> AsyncIterator[ReadPool]:
    made = ReadPool(path, reader_engine(path, 0.05))
    yield made
    await made.close()


def count(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM agents").scalar_one())


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

    def held(connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT wait_for_it()").scalar_one())

    engine = reader_engine(path, 0.05)

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.run_async(lambda raw: raw.create_function("wait_for_it", 0, lambda: int(go_on.wait(30))))

    assert isinstance(engine.pool, AsyncAdaptedQueuePool)
    assert engine.pool.timeout() is None, "no limit beneath ours, which would be an error and no answer"
    pool, served = ReadPool(path, engine), list[int]()

    async def read(number: int) -> None:
        def query(connection: Connection) -> int:
            served.append(number)
            return count(connection)

        await pool.read(query)

    standing = [asyncio.create_task(pool.read(held)) for _ in range(READERS)]
    while engine.pool.checkedout() < READERS:
        await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(read(number)) for number in range(300)]
    await asyncio.sleep(0)
    for one in waiting[::3]:
        one.cancel()
    go_on.set()
    assert await asyncio.gather(*standing) == [1] * READERS
    await asyncio.gather(*waiting, return_exceptions=True)
    await pool.close()
    assert served == [number for number in range(300) if number % 3]


async def test_nobody_writes_through_it(pool: ReadPool) -> None:
    with pytest.raises(RegistryError, match="read-only"):
        await pool.read(lambda connection: connection.exec_driver_sql("DELETE FROM agents"))


async def test_trouble_is_told_in_one_line(pool: ReadPool, path: Path) -> None:
    with pytest.raises(RegistryError, match="no such table: nowhere"):
        await pool.read(lambda connection: connection.exec_driver_sql("SELECT * FROM nowhere"))
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StorageError, match="is damaged"):
        await pool.read(count)


async def test_closed_it_answers_nothing(pool: ReadPool) -> None:
    await pool.read(count)
    await pool.close()
    with pytest.raises(RegistryError, match="The registry is closed"):
        await pool.read(count)
