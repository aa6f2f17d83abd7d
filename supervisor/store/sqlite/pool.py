"""The small pool of connections that read, each query on one of them, in its thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeVar

import aiosqlite

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import StorageError
from supervisor.store.sqlite.errors import explain

T = TypeVar("T")

READERS: Final = 4
#: Queries of one moment that go to a thread together: one that takes long holds up the answers of no more than these.
AT_ONCE: Final = 16


class _Question(NamedTuple):
    """A query, and who waits for its answer."""

    query: Callable[[sqlite3.Connection], Any]
    answered: asyncio.Future[Any]

    def tell(self, answer: Any, error: BaseException | None) -> None:
        """It was answered, or failed."""
        if self.answered.done():
            return
        if error is None:
            self.answered.set_result(answer)
        else:
            self.answered.set_exception(error)


class Reader(aiosqlite.Connection):
    """A connection in a thread of its own, which runs a query as a whole, and those of one moment in one hop.

    A thousand agents that start ask six thousand questions: the way to the thread and back costs more than an answer.

    Attributes:
        waiting: how many queries are on their way.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connect, iter_chunk_size=1)
        # One that hangs in a disk does not keep the process from ending.
        self._thread.daemon = True
        self.waiting = 0
        self._asked: list[_Question] = []

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query behind those that came before; its end, whoever still waits for it."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._hand_over)
        question = _Question(query, loop.create_future())
        self._asked.append(question)
        self.waiting += 1
        try:
            found: T = await question.answered
        finally:
            self.waiting -= 1
        return found

    async def close(self) -> None:
        """Answer what was asked, and close the connection."""
        self._hand_over()
        await super().close()

    def _hand_over(self) -> None:
        asked, self._asked = self._asked, []
        for start in range(0, len(asked), AT_ONCE):
            questions = asked[start : start + AT_ONCE]
            answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            answered.add_done_callback(partial(_tell, questions))
            if self._connection is None:
                answered.set_exception(RegistryError("The registry is closed"))
            else:
                self._tx.put_nowait((answered, partial(_run, self._connection, questions)))


def _tell(questions: list[_Question], answered: asyncio.Future[list[tuple[Any, BaseException | None]]]) -> None:
    failure = asyncio.CancelledError() if answered.cancelled() else answered.exception()
    found = [(None, failure)] * len(questions) if failure is not None else answered.result()
    for question, (answer, error) in zip(questions, found, strict=True):
        question.tell(answer, error)


def _run(connection: sqlite3.Connection, questions: list[_Question]) -> list[tuple[Any, BaseException | None]]:
    """The answer to each, or the error that it ended with."""
    found: list[tuple[Any, BaseException | None]] = []
    for question in questions:
        try:
            found.append((question.query(connection), None))
        except BaseException as error:  # noqa: BLE001  whoever asked raises it
            found.append((None, error))
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
