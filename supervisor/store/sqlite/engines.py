"""The two engines that open one file, and their pragmas.

Readers are asynchronous (aiosqlite). The one writer is a synchronous engine that lives in a thread of its own
(:mod:`supervisor.store.sqlite.writer`), because a transaction has to be one hop: through aiosqlite each statement takes
three or four, and on a loop that is busy each hop waits for the interpreter lock (measured: 30 to 160 ms a transaction
against 1 to 3 ms).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool

from supervisor.core.errors import RegistryError
from supervisor.store.sqlite import room
from supervisor.store.sqlite.files import address

READERS: Final = 4
SYNCHRONOUS: Final = frozenset({"NORMAL", "FULL"})
_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024


def _lenient_text(raw: bytes) -> str:
    # Raw SQL can store text that is no UTF-8; one such row must not fail the reading of the others.
    return raw.decode("utf-8", "replace")


def _writer_pragmas(path: Path, synchronous: str, reading: bool) -> tuple[str, ...]:
    if reading:
        # A copy that is looked at stays the file that it is.
        return ("query_only=ON", "cache_size=-16384")
    log_bytes = room.log_bytes(path, _WAL_LIMIT_BYTES)
    return (
        "journal_mode=WAL",
        f"synchronous={synchronous}",
        "foreign_keys=ON",
        f"journal_size_limit={log_bytes}",
        "cache_size=-16384",
        # 4,000 pages of 4 KiB, a quarter of what the log may keep.
        f"wal_autocheckpoint={log_bytes // 16384}",
        # Erased messages stay in no free page. Measured: pruning takes a fifth longer than with FAST, which leaves
        # pages that are freed whole as they are; nothing else does.
        "secure_delete=ON",
    )


def _url(name: str, path: Path) -> URL:
    # No connection makes a file: what it finds missing was deleted beneath the others.
    return URL.create(name, database=address(path, "rw").partition("?")[0], query={"mode": "rw", "uri": "true"})


def writer_engine(path: Path, synchronous: str, busy_seconds: float, *, reading: bool = False) -> Engine:
    """The synchronous engine of the one connection that writes; every transaction begins with BEGIN IMMEDIATE.

    Args:
        synchronous: NORMAL or FULL.
        busy_seconds: how long SQLite waits for another program's lock before it says busy.
        reading: it cannot write either, and waits for nobody who does.

    Raises:
        RegistryError: ``synchronous`` is something else.
    """
    if synchronous not in SYNCHRONOUS:
        raise RegistryError(f"synchronous is {synchronous!r}; it must be NORMAL or FULL")
    engine = create_engine(
        _url("sqlite", path),
        poolclass=StaticPool,
        hide_parameters=True,
        connect_args={
            "isolation_level": None,
            "check_same_thread": False,
            "timeout": busy_seconds,
            "cached_statements": 256,
        },
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.text_factory = _lenient_text
        try:
            for pragma in _writer_pragmas(path, synchronous, reading):
                connection.execute(f"PRAGMA {pragma}").close()
        except sqlite3.Error:
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def reader_engine(path: Path, busy_seconds: float) -> AsyncEngine:
    """The asynchronous engine of the small pool that reads; its connections cannot write."""
    engine = create_async_engine(
        _url("sqlite+aiosqlite", path),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=READERS,
        max_overflow=0,
        # The pool above hands connections out, one query each: nobody waits here.
        pool_timeout=None,
        hide_parameters=True,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": busy_seconds},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.driver_connection.text_factory = _lenient_text
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    return engine
