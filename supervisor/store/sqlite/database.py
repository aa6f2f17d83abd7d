"""A registry in one SQLite file, open."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from supervisor.core.clock import SystemClock
from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store.dialect import AgentTable, JournalChanges, JournalQuestions, LockInfo, StorageError
from supervisor.store.dialect.face import Done, Outcome, Space
from supervisor.store.dialect.history import HistoryTable
from supervisor.store.dialect.holder import FailedRun
from supervisor.store.dialect.operations import Operation
from supervisor.store.dialect.replicas import ReplicaTable, SoleReplica
from supervisor.store.sql import SqlAgents, SqlChanges, SqlHistory, SqlQuestions
from supervisor.store.sqlite import batch, copies, driver, files, room
from supervisor.store.sqlite import lock as locking
from supervisor.store.sqlite.changes import ChangeNotice
from supervisor.store.sqlite.errors import explain
from supervisor.store.sqlite.lock import RegistryLock
from supervisor.store.sqlite.numbers import Numbers
from supervisor.store.sqlite.open_files import THOROUGH_EVERY, Loss, OpenFiles
from supervisor.store.sqlite.pool import ReadPool
from supervisor.store.sqlite.writer import Writer
from supervisor.telemetry.logs import get_logger

T = TypeVar("T")


class SqliteSessions:
    """The connections to one file: queries run on the pool, changes on the one connection that writes."""

    def __init__(self, pool: ReadPool, writer: Writer) -> None:
        self._pool = pool
        self.writer = writer
        #: Set while other files are at the paths than are open: no connection may be opened then.
        self.only_open_ones = False

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.only_open_ones:
            return await self.writer.alter(work)
        return await self._pool.read(work)

    async def alter(self, work: Callable[[sqlite3.Connection], T]) -> T:
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
        files: those that are open.
    """

    uuid: str
    revision: str
    lives_since: float
    numbers: Numbers
    files: OpenFiles


class SqliteDatabase:
    """The file and its connections, as :class:`~supervisor.store.dialect.face.Database` describes them.

    Args:
        lock: given up with the last connection.

    Attributes:
        lost: what became of the file while it was open; None while it is where it was.
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
        #: What a copy of rows leaves to be done: their numbers are looked up at each opening.
        self.renumber: tuple[str, ...] = ()
        self.agents: AgentTable = SqlAgents(sessions)
        self.history: HistoryTable = SqlHistory(sessions)
        self.questions: JournalQuestions = SqlQuestions(sessions)
        self.changes: JournalChanges = SqlChanges(sessions)
        holder = partial(locking.holder, path) if lock is None else lambda: lock.info
        self.replicas: ReplicaTable = SoleReplica(self.agents.rows, holder, mine=lock is not None)
        self.lost: str | None = None
        # The lock goes with the process, and not before.
        self.sure = True
        # Of a file one has open, that is as good as whoever is at its path: it is kept and saved.
        self.taken_over = False
        self._loss: Loss | None = None
        self._saved: Path | None = None
        self._looked = 0
        self._path = path
        self._files = opened.files
        self._numbers = opened.numbers
        self._notice = notice
        self._lock = lock

    def begin_commit(self, operations: Sequence[Operation], done: Done) -> None:
        self.writer.begin(partial(self._commit, operations), done)

    def _commit(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Commit a batch; in the writer's thread."""
        if self._loss is not None and not self._loss.sound:
            raise StorageError(f"The registry is lost: {self._loss.reason}")
        outcomes: Sequence[Outcome]
        try:
            outcomes = self.writer.transaction(partial(batch.apply, operations=operations, numbers=self._numbers))
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - which operation is at fault is found one by one
            outcomes = self._commit_singly(operations)
        self._numbers.keep()
        return outcomes

    def _commit_singly(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        found: Sequence[bool | Exception]
        try:
            found = self.writer.transaction(partial(batch.apply_singly, operations=operations, numbers=self._numbers))
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - not one operation's fault: all of them fail
            found = [error] * len(operations)
        return [explain(self._path, one) if isinstance(one, Exception) else one for one in found]

    async def changed(self) -> bool:
        return await self._notice.changed()

    async def wait_for_change(self, seconds: float) -> None:
        await self._notice.wait_for_change(seconds)

    def announce(self, info: LockInfo) -> None:
        if self._lock is None:
            raise RegistryError("The registry was opened without a lock; there is nothing to announce")
        self._lock.announce(replace(info, inode=self._files.inode, lost=self.lost or ""))

    def take_failed_run(self) -> FailedRun | None:
        return None if self._lock is None else self._lock.take_failed_run()

    @property
    def last_words(self) -> int | None:
        return None if self._lock is None else self._lock.file

    async def look(self) -> str | None:
        if self._lock is None:
            return None
        found = await self._look(self._lock)
        if found != self._loss:
            self._loss, self.lost = found, found.reason if found else None
            self.sessions.only_open_ones = found is not None
            self.announce(self._lock.info)
        return self.lost

    async def _look(self, lock: RegistryLock) -> Loss | None:
        """What is wrong with the files now."""
        found = await asyncio.to_thread(self._files.missing)
        self._looked += 1
        thorough = self._looked % THOROUGH_EVERY == 0
        if found is None and (thorough or self._files.shorter):
            found = await self.writer.call(self._files.cut)
        if found is None and self._files.log_shorter:
            found = await asyncio.to_thread(self._files.log_cut)
        if found is None and thorough:
            found = await asyncio.to_thread(self._files.overwritten)
        try:
            if await asyncio.to_thread(lock.renew):
                get_logger("supervisor.registry").warning("registry_lock_renewed", path=str(self._path))
        except RegistryError as error:
            # Whoever has the lock may write to the same file: what is open is not ours alone any more.
            found = found or Loss(str(error), sound=not isinstance(error, RegistryLockedError))
        return found

    async def save(self, now: float) -> str:
        if self._shared:
            raise RegistryError("it is where it was, and another supervisor's")
        before = self._saved
        self._saved = await self.writer.call(partial(copies.rescue, path=self._path, now=now))
        if before is not None:
            before.unlink(missing_ok=True)
        get_logger("supervisor.registry").warning("registry_saved", path=str(self._path), copy=str(self._saved))
        return str(self._saved)

    async def space(self) -> Space | None:
        return await asyncio.to_thread(room.space, self._path)

    async def scarce_room(self) -> str | None:
        return await asyncio.to_thread(room.scarce, self._path)

    async def forget_copies(self, before: float) -> list[str]:
        return await asyncio.to_thread(copies.forget, self._path, before)

    async def kept_copies(self) -> list[str]:
        return [str(copy) for copy in await asyncio.to_thread(files.rescued, self._path)]

    async def close(self) -> None:
        try:
            if self._loss is not None and not self._shared:
                await self._leave()
            await self.sessions.close()
            if self._loss is not None:
                self._files.clear()
        finally:
            self._notice.close()
            if self._lock is not None:
                self._lock.release()

    @property
    def _shared(self) -> bool:
        """Whether the file is in its place, and somebody else's to write."""
        return self._loss is not None and not self._loss.sound and self._files.own

    async def _leave(self) -> None:
        """Save what is open, and keep its log away from what is at its path now."""
        saved = None
        try:
            saved = Path(await self.save(SystemClock().now()))
        except RegistryError as error:
            get_logger("supervisor.registry").error("registry_not_saved", path=str(self._path), reason=str(error))
        await self.writer.call(lambda _: self._files.disown(saved))
