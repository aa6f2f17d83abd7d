"""A registry in one SQLite file, open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import AgentTable, JournalChanges, JournalQuestions, LockInfo, StorageError
from supervisor.store.dialect.face import Outcome
from supervisor.store.dialect.operations import Operation
from supervisor.store.sql import SqlAgents, SqlChanges, SqlQuestions
from supervisor.store.sqlite import batch, driver
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
        return await self._pool.read(work)

    async def alter(self, work: Callable[[Connection], T]) -> T:
        return await self.writer.alter(work)

    async def empty_log(self) -> None:
        await self.writer.call(driver.empty_log)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()
        await self.writer.close()


class SqliteDatabase:
    """The file and its connections, as :class:`~supervisor.store.dialect.face.Database` describes them.

    Args:
        numbers: of the rows, loaded.
        lock: given up with the last connection.

    Attributes:
        writer: its one connection that writes.
        sessions: all its connections.
    """

    def __init__(
        self,
        path: Path,
        sessions: SqliteSessions,
        numbers: Numbers,
        notice: ChangeNotice,
        *,
        uuid: str,
        revision: str,
        lock: RegistryLock | None,
    ) -> None:
        self.where = str(path)
        self.uuid = uuid
        self.revision = revision
        self.writer = sessions.writer
        self.sessions = sessions
        self.agents: AgentTable = SqlAgents(sessions)
        self.questions: JournalQuestions = SqlQuestions(sessions)
        self.changes: JournalChanges = SqlChanges(sessions)
        self._path = path
        self._numbers = numbers
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

    async def close(self) -> None:
        try:
            await self.sessions.close()
        finally:
            if self._lock is not None:
                self._lock.release()
