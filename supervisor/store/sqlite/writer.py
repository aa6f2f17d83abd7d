"""The one connection that writes, in a thread of its own: each transaction is one hop and never meets another."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.core.owners import own_context
from supervisor.core.tasks import awaited, is_cancelled
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
        # What the thread is to do, in order; None ends it.
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        # Set by the first call, in the thread; read and closed there only.
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def begin(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], object]) -> None:
        """Have ``work`` done in the thread, behind what was given to it before, and ``done`` told on the loop.

        Args:
            work: may call :meth:`transaction`.
            done: called once, with what ``work`` returned and None, or with None and what it raised.

        Raises:
            RegistryError: it is closed.
        """
        if self._closed:
            raise RegistryError("The registry is closed")
        self._give(work, done)

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one ``BEGIN IMMEDIATE … COMMIT``; whatever it raises rolls all of it back.

        Raises:
            StorageError: SQLite could not, through no fault of ``work``.
        """
        return await self._hop(partial(self.transaction, work))

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
        return await self._hop(partial(self._call, work))

    async def close(self) -> None:
        """Close the connection and end the thread; once."""
        closed, told = awaited()
        self._closed = True
        self._give(self._close, told)
        self._jobs.put(None)
        await closed

    async def _hop(self, work: Callable[[], T]) -> T:
        job, told = awaited()
        self.begin(lambda: None if job.cancelled() else work(), told)
        while True:
            try:
                made: T = await asyncio.shield(job)
                return made
            except asyncio.CancelledError:
                if is_cancelled():
                    job.cancel()
                    raise
                # Foreign code did it (docs/faults.md#r25): what is being written will be, and who wants it is told.

    def _give(self, work: Callable[[], T], done: Callable[[T | None, BaseException | None], object]) -> None:
        if self._thread is None:
            # One that hangs in a disk does not keep the process from ending.
            self._thread = threading.Thread(target=self._serve, name="registry", daemon=True)
            self._thread.start()
        self._jobs.put(partial(_do, asyncio.get_running_loop(), work, done))

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def connection(self) -> sqlite3.Connection:
        """The connection, opened when it is first needed; in the writer's thread only."""
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As :meth:`transact`; in the writer's thread only."""
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


def _do(
    loop: asyncio.AbstractEventLoop,
    work: Callable[[], T],
    done: Callable[[T | None, BaseException | None], object],
) -> None:
    made, error = _outcome(work)
    try:
        loop.call_soon_threadsafe(done, made, error, context=own_context())
    except RuntimeError:
        # A loop that is closed has nobody left who waits.
        return


def _outcome(work: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits is told
        return None, error
