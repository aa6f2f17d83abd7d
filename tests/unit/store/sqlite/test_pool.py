"""Connections that read: many at once, what they see is committed, and none is left after the close."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from supervisor.core.errors import RegistryError
from supervisor.store import Registry
from supervisor.store.dialect.face import StorageError
from supervisor.store.sqlite.engines import reader_engine
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
