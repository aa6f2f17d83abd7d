"""SQLite as a dialect of the store: how a registry's file is opened, checked and copied, and who holds it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import RegistryError
from supervisor.settings.secrets import SecretBox
from supervisor.store.dialect import LockInfo, Rotation
from supervisor.store.sql import lives, rotation
from supervisor.store.sql.migrate import OURS, Migrations
from supervisor.store.sqlite import copies, inspection, lock
from supervisor.store.sqlite.changes import ChangeNotice
from supervisor.store.sqlite.database import Opened, SqliteDatabase, SqliteSessions
from supervisor.store.sqlite.engines import reader_engine, writer_engine
from supervisor.store.sqlite.files import MOUNTS, check_file, database_path
from supervisor.store.sqlite.lock import RegistryLock
from supervisor.store.sqlite.numbers import Numbers
from supervisor.store.sqlite.pool import ReadPool
from supervisor.store.sqlite.writer import Writer


@dataclass(frozen=True, slots=True)
class Sqlite:
    """One file, one process that runs agents (``docs/architecture.md#one-process``), any number of others beside it.

    Args:
        busy_seconds: how long SQLite waits for another program's lock before it says busy; the journal then tries
            again by itself.
        patience_seconds: how long a command waits, in all, for a file that another program keeps locked.
        whole_up_to: files of up to so many bytes are read through when a supervisor starts (about a second per GiB from
            the page cache).
        spare_bytes: what must be free beside a copy's own size before a migration: SQLite's log grows with it.
        mounts: where the system lists what is mounted.
        migrations: the way to the schema that this version needs.
    """

    busy_seconds: float = 5.0
    patience_seconds: float = 30.0
    whole_up_to: float = 256 * 1024 * 1024
    spare_bytes: int = 16 * 1024 * 1024
    mounts: Path = MOUNTS
    migrations: Migrations = OURS

    async def open(
        self,
        url: str,
        *,
        clock: Clock,
        synchronous: str = "NORMAL",
        upgrade: bool = False,
        lock: LockInfo | None = None,
    ) -> SqliteDatabase:
        path = database_path(url)
        check_file(path, self.mounts, create=upgrade)
        file_lock = RegistryLock(path, lock) if lock is not None else None
        writer: Writer | None = None
        try:
            writer = Writer(path, writer_engine(path, synchronous, self.busy_seconds), clock, self.patience_seconds)
            if file_lock is not None:
                # Before anything is written: a damaged file is left as it is, for whoever wants to save something.
                await writer.alter(partial(inspection.inspect, path=path, whole_up_to=self.whole_up_to))
            if upgrade:
                await self._copy_what_is_older(writer, path, clock)
                await writer.alter(self.migrations.bring_up)
            opened = await writer.alter(partial(self._begin, now=clock.now(), held=file_lock is not None))
            notice = await ChangeNotice.begin(writer)
        except BaseException:
            if writer is not None:
                await writer.close()
            if file_lock is not None:
                file_lock.release()
            raise
        sessions = SqliteSessions(ReadPool(path, reader_engine(path, self.busy_seconds)), writer)
        return SqliteDatabase(path, sessions, opened, notice, file_lock)

    def holder(self, url: str) -> LockInfo | None:
        return lock.holder(database_path(url))

    async def check(self, url: str) -> str:
        """Look the registry at ``url`` through; one line that says that it is well."""
        path = database_path(url)
        database = await self.open(url, clock=SystemClock())
        try:
            await database.writer.call(partial(inspection.inspect_thoroughly, path=path))
            number = len(await database.agents.rows())
        finally:
            await database.close()
        return f"{path}: sound, schema {database.revision} (current), {number} agents, registry {database.uuid}"

    async def backup(self, url: str, target: Path) -> None:
        """Copy the registry at ``url`` into a new file, as it is at one moment."""
        path = database_path(url)
        database = await self.open(url, clock=SystemClock())
        try:
            await database.writer.call(partial(inspection.copy, path=path, target=target))
        finally:
            await database.close()

    async def rotate(self, url: str, box: SecretBox, *, dry_run: bool = False) -> Rotation:
        """Encrypt everything in the registry at ``url`` under the first key of ``box``."""
        database = await self.open(url, clock=SystemClock())
        try:
            return await rotation.rotate(database.sessions, box, dry_run=dry_run)
        finally:
            await database.close()

    async def _copy_what_is_older(self, writer: Writer, path: Path, clock: Clock) -> None:
        """Copy a registry that is about to be migrated.

        Raises:
            RegistryError: there is no room for a copy, or the registry is damaged, which no migration makes any better.
        """
        revision = await writer.alter(self.migrations.current)
        if revision not in (None, self.migrations.head):
            make = partial(copies.make, before=self.migrations.head, now=clock.now(), spare_bytes=self.spare_bytes)
            await writer.call(partial(make, path=path))

    def _begin(self, connection: Connection, now: float, held: bool) -> Opened:
        self.migrations.require(connection)
        uuid = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'uuid'").scalar()
        if uuid is None:
            raise RegistryError("The registry has lost its UUID (table meta); restore a copy of it")
        numbers = Numbers()
        numbers.load(connection)
        return Opened(str(uuid), self.migrations.head, lives.since(connection, now, begin=held), numbers)
