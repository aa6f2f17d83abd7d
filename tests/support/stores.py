"""A database of each kind to open registries on: what the conformance suite of the store is run with."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from supervisor.core.clock import Clock, SystemClock
from supervisor.store import LockInfo, Registry
from supervisor.store.dialect import Dialect
from supervisor.store.postgres import Postgres
from supervisor.store.sqlite import Sqlite
from tests.support import postgres
from tests.support.memory_store import Memory
from tests.support.memory_tables import Tables


class Store(Protocol):
    """One database."""

    @property
    def url(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """For a while no batch can be committed, through no fault of the operations."""
        ...


@dataclass
class SqliteStore:
    """A file in ``folder``."""

    folder: Path
    dialect: Dialect = field(default_factory=lambda: Sqlite(busy_seconds=0.05))

    @property
    def path(self) -> Path:
        return self.folder / "supervisor.db"

    @property
    def url(self) -> str:
        return f"sqlite+aiosqlite:///{self.path}"

    @contextmanager
    def stalled(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@dataclass
class MemoryStore:
    """Tables that are gone with it."""

    url: str = "memory:"
    tables: Tables = field(default_factory=Tables)

    def __post_init__(self) -> None:
        self.dialect = Memory({self.url: self.tables})

    @contextmanager
    def stalled(self) -> Iterator[None]:
        self.tables.refusing = "it rests"
        yield
        self.tables.refusing = None


@dataclass
class PostgresStore:
    """A database of the server of the tests."""

    url: str
    dialect: Dialect = field(default_factory=lambda: Postgres(lock_seconds=0.1))

    @contextmanager
    def stalled(self) -> Iterator[None]:
        with postgres.holding("LOCK TABLE fences IN ACCESS EXCLUSIVE MODE", self.url):
            yield


@contextmanager
def make_store(kind: str, folder: Path) -> Iterator[Store]:
    """A new database of a kind of :data:`KINDS`, with nothing in it."""
    if kind == "postgres":
        with postgres.new_database() as url:
            yield PostgresStore(url)
    else:
        yield MemoryStore() if kind == "memory" else SqliteStore(folder)


#: Every implementation of the store's seam.
KINDS = ("sqlite", "postgres", "memory")
#: Opens one more registry on a database: ``await opened(clock=…)``.
Opener = Callable[..., Awaitable[Registry]]


async def open_on(store: Store, *, clock: Clock | None = None, lock: LockInfo | None = None, **given: Any) -> Registry:
    """A registry on a database, made where there is none.

    Args:
        given: ``texts`` and ``limits`` of the journal.
    """
    clock = clock or SystemClock()
    return Registry(await store.dialect.open(store.url, clock=clock, upgrade=True, lock=lock), clock, **given)
