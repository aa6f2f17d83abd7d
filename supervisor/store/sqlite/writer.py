"""The one connection that writes, in a thread of its own: each transaction is one hop and never meets another."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.tasks import is_cancelled
from supervisor.store.dialect import DamagedError, StorageError
from supervisor.store.sqlite import driver
from supervisor.store.sqlite.errors import explain, is_full

T = TypeVar("T")

_PAUSE_SECONDS: Final = 0.05


class Writer:
    """Owns the writing connection. What it runs is given a connection and must not keep it.

    Cancelling a caller never interrupts a transaction: the thread finishes it.

    Args:
        path: the file, for the wording of errors.
        connect: opens the one connection, which any thread may use.
        patience_seconds: how long a command waits, in all, for a file that another program keeps locked.
        reading: it only reads, and locks nobody out.
    """

    def __init__(
        self,
        path: Path,
        connect: Callable[[], sqlite3.Connection],
        clock: Clock,
        patience_seconds: float,
        *,
        reading: bool = False,
    ) -> None:
        self._path = path
        self._connect = connect
        self._begin = "BEGIN" if reading else "BEGIN IMMEDIATE"
        self._clock = clock
        self._patience = patience_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        # Set by the first call, in the thread; read and closed there only.
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one ``BEGIN IMMEDIATE … COMMIT``; whatever it raises rolls all of it back.

        Raises:
            StorageError: SQLite could not, through no fault of ``work``.
        """
        return await self._hop(self._transact, work)

    async def alter(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As :meth:`transact`, for commands: tries again for a while where SQLite cannot, and words every failure.

        Raises:
            RegistryError: what the database says against it, in one line.
        """
        deadline = self._clock.monotonic() + self._patience
        while True:
            try:
                return await self.transact(work)
            except sqlite3.Error as error:
                raise explain(self._path, error) from None
            except DamagedError:
                raise
            except StorageError:
                if self._clock.monotonic() >= deadline:
                    raise
                await self._clock.sleep(_PAUSE_SECONDS)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` between transactions, for pragmas."""
        return await self._hop(self._call, work)

    async def close(self) -> None:
        """Close the connection and end the thread; once."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def _hop(
        self, how: Callable[[Callable[[sqlite3.Connection], T]], T], work: Callable[[sqlite3.Connection], T]
    ) -> T:
        if self._closed:
            raise RegistryError("The registry is closed")
        job = asyncio.get_running_loop().run_in_executor(self._thread, how, work)
        while True:
            try:
                return await asyncio.shield(job)
            except asyncio.CancelledError:
                if job.cancelled() or is_cancelled():
                    job.cancel()
                    raise
                # Foreign code did it (docs/faults.md#r25): what is being written will be, and who wants it is told.

    def connection(self) -> sqlite3.Connection:
        """The connection, opened when it is first needed; in the writer's thread only."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self.connection()
            try:
                connection.execute(self._begin)
                made = work(connection)
                connection.commit()
                return made
            finally:
                # A COMMIT that fails can leave its transaction open too.
                connection.rollback()
        except sqlite3.Error as error:
            if is_full(error):
                self._reuse_log()
            explained = explain(self._path, error)
            if isinstance(explained, StorageError):
                raise explained from None
            raise

    def _reuse_log(self) -> None:
        """On a full disk the log may hold the room that the next attempt needs."""
        with contextlib.suppress(sqlite3.Error):
            driver.reuse_log(self.connection())

    def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self.connection())
        except sqlite3.Error as error:
            raise explain(self._path, error) from None

    def _close(self) -> None:
        try:
            if self._connection is not None:
                self._connection.close()
        except sqlite3.Error as error:
            raise explain(self._path, error) from None
        finally:
            self._connection = None
