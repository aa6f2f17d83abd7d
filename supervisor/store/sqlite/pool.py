"""The small pool of connections that read, each query on one of them, in a thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import StorageError
from supervisor.store.sqlite.errors import explain

T = TypeVar("T")

READERS: Final = 4


class ReadPool:
    """Owns the reading connections; they are opened when they are first needed.

    Queries wait for a connection in the order in which they came, for as long as that takes: many at once, as when
    thousands of agents start on a busy machine, are a queue and no failure.

    Args:
        path: the file, for the wording of errors.
        connect: opens a connection that any thread may use.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="registry reader")
        #: As many as there are threads, at most: one that none of them uses is taken before another is opened.
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query; what it sees is committed. Whoever is cancelled before its turn asks nothing.

        Raises:
            RegistryError: the registry is closed, or SQLite cannot read it.
        """
        if self._closed:
            raise RegistryError("The registry is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, query)
        except sqlite3.Error as error:
            raise explain(self._path, error) from None
        except (RuntimeError, OSError) as error:
            # No thread or descriptor is left for a connection: whoever asks may try again.
            raise StorageError(f"The registry {self._path} cannot be read now: {error}") from None

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise RegistryError("The registry is closed")
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            return query(connection)
        finally:
            self._idle.append(connection)

    async def close(self) -> None:
        """Let what runs end, and close every connection."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        while self._idle:
            self._idle.pop().close()
