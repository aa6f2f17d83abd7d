"""A registry in one SQLite file, open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from supervisor.core.errors import RegistryError
from supervisor.core.tasks import to_the_end
from supervisor.store.dialect import AgentTable, JournalChanges, JournalQuestions, LockInfo, StorageError
from supervisor.store.dialect.face import Outcome
from supervisor.store.dialect.operations import Operation
from supervisor.store.sql import SqlAgents, SqlChanges, SqlQuestions
from supervisor.store.sqlite import batch, copies, driver
from supervisor.store.sqlite.changes import ChangeNotice
from supervisor.store.sqlite.errors import explain
from supervisor.store.sqlite.lock import RegistryLock
from supervisor.store.sqlite.numbers import Numbers
from supervisor.store.sqlite.pool import ReadPool
from supervisor.store.sqlite.writer import Writer

T = TypeVar("T")


class SqliteSessions:
    """The connections to one file: queries run on the pool, changes on the one connection that writes."""

    def __init__(self, pool: ReadPool, writer: Writer) -> None:
        self._pool = pool
        self.writer = writer

    async def read(self, work: Callable[[Connection], T]) -> T:
        # A query that is cancelled half-way leaves its connection open until the garbage collector finds it.
        return await to_the_end(self._pool.read(work))

    async def alter(self, work: Callable[[Connection], T]) -> T:
        return await self.writer.alter(work)

    async def empty_log(self) -> None:
        await self.writer.call(driver.empty_log)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()
        await self.writer.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file said of itself when it was opened.

    Args:
        uuid, revision, lives_since: as :class:`~supervisor.store.dialect.face.Database` has them.
        numbers: of its rows, loaded.
    """

    uuid: str
    revision: str
    lives_since: float
    numbers: Numbers


class SqliteDatabase:
    """The file and its connections, as :class:`~supervisor.store.dialect.face.Database` describes them.

    Args:
        lock: given up with the last connection.

    Attributes:
        writer: its one connection that writes.
        sessions: all its connections.
    """

    def __init__(
        self,
        path: Path,
        sessions: SqliteSessions,
        opened: Opened,
        notice: ChangeNotice,
        lock: RegistryLock | None,
    ) -> None:
        self.where = str(path)
        self.uuid = opened.uuid
        self.revision = opened.revision
        self.lives_since = opened.lives_since
        self.writer = sessions.writer
        self.sessions = sessions
        self.agents: AgentTable = SqlAgents(sessions)
        self.questions: JournalQuestions = SqlQuestions(sessions)
        self.changes: JournalChanges = SqlChanges(sessions)
        self._path = path
        self._numbers = opened.numbers
        self._notice = notice
        self._lock = lock

    async def commit(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self.writer.transact(partial(batch.apply, operations=operations, numbers=self._numbers))
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - which operation is at fault is found one by one
            outcomes = await self._commit_singly(operations)
        self._numbers.keep()
        return outcomes

    async def _commit_singly(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        found: Sequence[bool | Exception]
        try:
            found = await self.writer.transact(
                partial(batch.apply_singly, operations=operations, numbers=self._numbers)
            )
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - not one operation's fault: all of them fail
            found = [error] * len(operations)
        return [explain(self._path, one) if isinstance(one, Exception) else one for one in found]

    async def changed(self) -> bool:
        return await self._notice.changed()

    def announce(self, info: LockInfo) -> None:
        if self._lock is None:
            raise RegistryError("The registry was opened without a lock; there is nothing to announce")
        self._lock.announce(info)

    async def forget_copies(self, before: float) -> list[str]:
        return await asyncio.to_thread(copies.forget, self._path, before)

    async def close(self) -> None:
        try:
            await self.sessions.close()
        finally:
            if self._lock is not None:
                self._lock.release()
