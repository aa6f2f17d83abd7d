"""SQLite as a dialect of the store: how a registry's file is opened, checked and copied, and who holds it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.settings.secrets import SecretBox
from supervisor.store.dialect import LockInfo, Rotation
from supervisor.store.dialect.face import ANY_ACCESS, READING, Access
from supervisor.store.sql import copying, lives, rotation
from supervisor.store.sql.sessions import scalar
from supervisor.store.sqlite import copies, driver, inspection, lock
from supervisor.store.sqlite.changes import ChangeNotice
from supervisor.store.sqlite.connections import open_reader, open_writer
from supervisor.store.sqlite.database import Opened, SqliteDatabase, SqliteSessions
from supervisor.store.sqlite.files import MOUNTS, check_file, check_place, database_path, not_found, rescued
from supervisor.store.sqlite.lock import RegistryLock
from supervisor.store.sqlite.migrate import OURS, Migrations, NewerSchemaError
from supervisor.store.sqlite.numbers import Numbers
from supervisor.store.sqlite.open_files import OpenFiles
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
        access: Access = ANY_ACCESS,
        lock: LockInfo | None = None,
    ) -> SqliteDatabase:
        path = database_path(url)
        check_place(path, self.mounts)
        async with AsyncExitStack() as undo:
            file_lock = self._hold(path, lock, undo)
            check_file(path, create=upgrade and access.create)
            writer = self._writer(path, clock, synchronous, reading=access.reading)
            undo.push_async_callback(writer.close)
            if file_lock is not None:
                # Before anything is written: a damaged file is left as it is, for whoever wants to save something.
                await writer.alter(partial(inspection.inspect, path=path, whole_up_to=self.whole_up_to))
            if upgrade:
                await self._bring_up(writer, path, clock.now(), access, held=file_lock is not None)
            begin = partial(self._begin, path=path, now=clock.now(), held=file_lock is not None, older=access.reading)
            opened = await writer.alter(begin)
            notice = await ChangeNotice.begin(writer, path)
            pool = await ReadPool.open(path, partial(open_reader, path, self.busy_seconds))
            undo.pop_all()
        sessions = SqliteSessions(pool, writer)
        database = SqliteDatabase(path, sessions, opened, notice, file_lock)
        if lock is not None:
            database.announce(lock)
        return database

    def _writer(self, path: Path, clock: Clock, synchronous: str, *, reading: bool) -> Writer:
        connect = partial(open_writer, path, synchronous, self.busy_seconds, reading=reading)
        return Writer(path, connect, clock, self.patience_seconds, reading=reading)

    def _hold(self, path: Path, info: LockInfo | None, undo: AsyncExitStack) -> RegistryLock | None:
        """Take the lock in the name of ``info``; without one, see that whoever has it has the same file open."""
        if info is None:
            lock.refuse_beside(path)
            return None
        held = RegistryLock(path, info)
        undo.callback(held.release)
        return held

    def holders(self, url: str) -> Sequence[LockInfo]:
        found = lock.holder(database_path(url))
        return [] if found is None else [found]

    def require_registry(self, url: str) -> None:
        """See that there is a registry at ``url``; raises RegistryNotFoundError."""
        path = database_path(url)
        if not path.exists():
            raise not_found(path)

    async def check(self, url: str) -> str:
        """Look the registry at ``url`` through; one line that says that it is well."""
        path = database_path(url)
        database = await self.open(url, clock=SystemClock(), access=READING)
        try:
            await database.writer.call(partial(inspection.inspect_thoroughly, path=path))
            number = len(await database.agents.rows())
        finally:
            await database.close()
        schema, head = database.revision, self.migrations.head
        stands = "current" if schema == head else f"this version needs {head}: supervisor db upgrade"
        return f"{path}: sound, schema {schema} ({stands}), {number} agents, registry {database.uuid}"

    async def backup(self, url: str, target: Path) -> None:
        """Copy the registry at ``url``, whatever its schema, into a new file, as it is at one moment."""
        path = database_path(url)
        check_place(path, self.mounts)
        lock.refuse_beside(path)
        check_file(path, create=False)
        writer = self._writer(path, SystemClock(), "NORMAL", reading=True)
        try:
            await writer.alter(self.migrations.require_any)
            await writer.call(partial(inspection.copy, path=path, target=target))
        finally:
            await writer.close()

    async def rotate(self, url: str, box: SecretBox, *, dry_run: bool = False) -> Rotation:
        """Encrypt everything in the registry at ``url`` under the first key of ``box``."""
        database = await self.open(url, clock=SystemClock())
        try:
            return await rotation.rotate(database.sessions, box, dry_run=dry_run)
        finally:
            await database.close()

    async def _bring_up(self, writer: Writer, path: Path, now: float, access: Access, *, held: bool) -> None:
        """Bring a registry to the schema of this version, once it is copied.

        Raises:
            RegistryError: a supervisor runs on it, there is no room for a copy, the registry is damaged, which no
                migration makes any better, or it has no schema and none may be made.
        """
        revision = await writer.alter(partial(self._current, path=path))
        if revision == self.migrations.head:
            return
        if revision is None:
            await writer.alter(self.migrations.bring_up if access.create else self.migrations.require)
            return
        migrating = None if held else self._hold_to_migrate(path, revision)
        try:
            if access.migration_copy:
                make = partial(copies.make, before=self.migrations.head, now=now, spare_bytes=self.spare_bytes)
                await writer.call(partial(make, path=path))
            await writer.alter(self.migrations.bring_up)
        finally:
            if migrating is not None:
                migrating.release()

    def _hold_to_migrate(self, path: Path, revision: str) -> RegistryLock:
        """Whoever runs on a registry knows its schema and no other: nobody may run while it changes."""
        try:
            return RegistryLock(path, LockInfo())
        except RegistryLockedError:
            running = lock.holder(path)
            raise RegistryLockedError(
                f"The registry {path} has schema {revision} and this version needs {self.migrations.head}, but a "
                f"supervisor runs on it ({running or 'it has not said who it is'}); nothing was changed: stop it, "
                "then start this version, which brings the registry up to date"
            ) from None

    def _current(self, connection: sqlite3.Connection, path: Path) -> str | None:
        """The revision that a file is at.

        Raises:
            NewerSchemaError: it is newer; the text tells the way back.
        """
        try:
            return self.migrations.current(connection)
        except NewerSchemaError as error:
            copy = copies.newest(path, before=error.revision)
            way = f"put {copy}, the copy made before that, in its place" if copy else "restore a copy from before that"
            raise RegistryError(f"{error}, or {way} (see docs/operate.md#upgrade)") from None

    def _refuse_another(self, path: Path, uuid: str) -> None:
        """Refuse to run another registry than the one that was lost at its path and waits to be put back."""
        saved = rescued(path)
        if saved and driver.saved_uuid(saved[-1]) not in (None, uuid):
            raise RegistryError(
                f"The registry {path} is not the one that was lost there: {saved[-1]} holds what was saved of that; "
                "put it in its place, without the files -wal and -shm, or move it away to go on with this one"
            )

    def _begin(self, connection: sqlite3.Connection, path: Path, now: float, held: bool, older: bool) -> Opened:
        self._current(connection, path)
        revision = self.migrations.require(connection, older=older)
        uuid = scalar(connection, "SELECT value FROM meta WHERE key = 'uuid'")
        if uuid is None:
            raise RegistryError("The registry has lost its UUID (table meta); restore a copy of it")
        if held:
            self._refuse_another(path, str(uuid))
            copying.refuse_marked(connection, str(path))
        numbers = Numbers()
        numbers.load(connection)
        files = OpenFiles(path, connection, str(uuid))
        return Opened(str(uuid), revision, lives.since(connection, now, begin=held), numbers, files)
