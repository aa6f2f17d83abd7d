"""The small pool of connections that read, each query on one of them, in its thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeVar

import aiosqlite

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import StorageError
from supervisor.store.sqlite.errors import explain

T = TypeVar("T")

READERS: Final = 4


class Reader(aiosqlite.Connection):
    """A connection in a thread of its own, which runs a query as a whole: one hop, however many statements it has.

    Attributes:
        waiting: how many queries are on their way.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connect, iter_chunk_size=1)
        # One that hangs in a disk does not keep the process from ending.
        self._thread.daemon = True
        self.waiting = 0

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query behind those that came before; its end, whoever still waits for it."""
        self.waiting += 1
        try:
            found: T = await self._execute(query, self._conn)  # type: ignore[no-untyped-call]
        finally:
            self.waiting -= 1
        return found


class ReadPool:
    """Owns the reading connections.

    A query goes to the least busy one at once and waits in its thread's queue, for as long as that takes: many at once,
    as when thousands of agents start on a busy machine, are a queue and no failure, and no turn of the event loop is
    between one and the next.

    Args:
        path: the file, for the wording of errors.
        readers: open.
    """

    def __init__(self, path: Path, readers: list[Reader]) -> None:
        self._path = path
        self._readers = readers
        self._closed = False

    @classmethod
    async def open(cls, path: Path, connect: Callable[[], sqlite3.Connection]) -> Self:
        """Open the connections.

        Args:
            connect: opens one, which any thread may use.

        Raises:
            RegistryError: SQLite cannot.
        """
        pool = cls(path, [])
        try:
            for _ in range(READERS):
                reader = Reader(connect)
                await reader
                pool._readers.append(reader)
        except sqlite3.Error as error:
            await pool.close()
            raise explain(path, error) from None
        except (RuntimeError, OSError) as error:
            await pool.close()
            # No thread or descriptor is left for a connection.
            raise StorageError(f"The registry {path} cannot be read now: {error}") from None
        return pool

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query; what it sees is committed.

        Raises:
            RegistryError: the registry is closed, or SQLite cannot read it.
        """
        if self._closed:
            raise RegistryError("The registry is closed")
        try:
            return await min(self._readers, key=lambda reader: reader.waiting).run(query)
        except sqlite3.Error as error:
            raise explain(self._path, error) from None

    async def close(self) -> None:
        """Let what runs end, and close every connection."""
        self._closed = True
        while self._readers:
            await self._readers.pop().close()
