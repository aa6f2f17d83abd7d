"""The registry: agents as people want them, and the journal of what they were sent and answered (DESIGN §5)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord, UsageRecord
from supervisor.store import agents, migrate, spending, sqlite
from supervisor.store.batch import Numbers
from supervisor.store.codec import Cipher, TextCodec
from supervisor.store.journal import Journal
from supervisor.store.lock import LockInfo, RegistryLock
from supervisor.store.reader import Reader
from supervisor.store.writer import Writer

T = TypeVar("T")

_ESSENTIAL_TABLES = ("agents", "meta", "agent_keys", "conversations")


class Registry:
    """An open registry. Made by :meth:`open`; :meth:`close` it.

    Attributes:
        uuid: made with the database; tells whether two programs look at the same one.
        url: where it was opened.
        journal: inbox and outbox.
    """

    def __init__(
        self,
        url: str,
        path: Path,
        writer: Writer,
        reader: Reader,
        clock: Clock,
        *,
        uuid: str,
        numbers: Numbers,
        version: int,
        lock: RegistryLock | None,
        texts: TextCodec,
    ) -> None:
        self.url = url
        self.path = path
        self.uuid = uuid
        self.journal = Journal(reader, writer, numbers, path, clock, texts=texts)
        self._writer = writer
        self._reader = reader
        self._clock = clock
        self._lock = lock
        # What PRAGMA data_version said when changed() was last asked, and whether we changed agents since.
        self._version = version
        self._touched = False
        self._closed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        synchronous: str = "NORMAL",
        upgrade: bool = False,
        lock: LockInfo | None = None,
        clock: Clock | None = None,
        cipher: Cipher | None = None,
        encrypt: bool = False,
    ) -> Registry:
        """Open the registry at ``url``.

        Args:
            url: ``sqlite+aiosqlite:///path``.
            synchronous: NORMAL (power loss may take the last commits) or FULL.
            upgrade: create or bring up to date the schema, in one transaction.
            lock: take the supervisor's lock in this name, and look the file through for damage.
            cipher: opens journaled text that is encrypted; None when there are no keys.
            encrypt: encrypt the text that is journaled from now on with it (DESIGN §4).

        Raises:
            RegistryLockedError: another supervisor holds the lock.
            RegistryError: it cannot be opened; one line says why and what to do.
        """
        clock = clock or SystemClock()
        path = sqlite.database_path(url)
        texts = TextCodec(cipher, encrypt=encrypt)
        _check_file(path, create=upgrade)
        held = RegistryLock(path, _started(lock, clock)) if lock is not None else None
        writer: Writer | None = None
        try:
            writer = Writer(path, synchronous, clock)
            if lock is not None:
                # Before anything is written: a damaged file is left as it is, for whoever wants to save something.
                await writer.alter(partial(_inspect, path=path))
            if upgrade:
                await writer.alter(partial(_bring_up, path=path))
            uuid, numbers = await writer.alter(_begin)
            version = await writer.call(sqlite.data_version)
        except BaseException:
            if writer is not None:
                await writer.close()
            if held is not None:
                held.release()
            raise
        return cls(
            url,
            path,
            writer,
            Reader(path),
            clock,
            uuid=uuid,
            numbers=numbers,
            version=version,
            lock=held,
            texts=texts,
        )

    async def close(self, timeout: float | None = None) -> None:
        """Commit what the journal holds, close every connection, give the lock up. Idempotent.

        Args:
            timeout: seconds that the journal gets for it; 10 unless given.
        """
        if self._closed:
            return
        self._closed = True
        try:
            await self.journal.close(timeout)
        finally:
            try:
                await self._reader.close()
                await self._writer.close()
            finally:
                if self._lock is not None:
                    self._lock.release()

    def announce(self, info: LockInfo) -> None:
        """Change what the lock says about its holder, once the admin API's port is known.

        Raises:
            RegistryError: this registry was opened without a lock.
        """
        if self._lock is None:
            raise RegistryError("The registry was opened without a lock; there is nothing to announce")
        self._lock.announce(_started(info, self._clock))

    # ── agents ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def agents(self) -> list[AgentRecord]:
        """Every agent, in order of ids; a row that cannot be used has its ``problem`` set."""
        return await self._reader.read(agents.read_all)

    async def agent(self, agent_id: str) -> AgentRecord:
        """One agent.

        Raises:
            AgentNotFoundError: there is none of that id.
        """
        return await self._reader.read(partial(agents.read_one, agent_id=agent_id))

    async def add_agent(self, record: AgentRecord) -> None:
        """Add an agent; its times are set here.

        Raises:
            AgentExistsError: there is one of that id.
            RegistryError: a field must not be stored, such as a secret in the clear.
        """
        await self.apply(add=[record])

    async def update_agent(self, agent_id: str, **changes: Any) -> AgentRecord:
        """Change some fields of an agent, leaving the others as they are, even where they are nonsense.

        Args:
            changes: name, handler, secret, settings, labels, paused.

        Raises:
            AgentNotFoundError: there is none of that id.
            RegistryError: a field is unknown, or its value must not be stored.
        """
        return await self.alter_agent(agent_id, lambda _: changes)

    async def alter_agent(self, agent_id: str, change: Callable[[AgentRecord], Mapping[str, Any]]) -> AgentRecord:
        """Change an agent by what it is: nobody else's change comes between the reading and the writing.

        Args:
            change: what changes of the record given, as :meth:`update_agent` takes it; runs in the writer's thread, and
                again when SQLite was busy. What it raises leaves the row as it was.

        Raises:
            AgentNotFoundError, RegistryError: as :meth:`update_agent`.
        """

        def work(connection: Connection) -> AgentRecord:
            values = agents.checked_values(agent_id, change(agents.read_one(connection, agent_id)))
            if values:
                agents.write(connection, self._clock.now(), change=[(agent_id, values)])
            return agents.read_one(connection, agent_id)

        return await self._write(work)

    async def remove_agent(self, agent_id: str) -> None:
        """Remove an agent's row; what the journal holds of it stays.

        Raises:
            AgentNotFoundError: there is none of that id.
        """
        await self.apply(remove=[agent_id])

    async def apply(
        self,
        *,
        add: Sequence[AgentRecord] = (),
        change: Sequence[AgentRecord] = (),
        remove: Sequence[str] = (),
    ) -> None:
        """Add, change (every field) and remove agents in one transaction: all of it or nothing.

        Raises:
            AgentExistsError, AgentNotFoundError: the registry is not as the caller thought.
            RegistryError: a field must not be stored.
        """
        work = partial(
            agents.write,
            now=self._clock.now(),
            add=[(record.id, agents.record_values(record)) for record in add],
            change=[(record.id, agents.record_values(record)) for record in change],
            remove=list(remove),
        )
        await self._write(work)

    async def usage(self, agent_id: str | None = None, *, since_day: str | None = None) -> list[UsageRecord]:
        """What agents used of language models, by day, agent and model, removed agents included.

        Args:
            agent_id: of this one only.
            since_day: from this UTC day on, ``2026-01-31``.
        """
        return await self._reader.read(partial(spending.read, agent_id=agent_id, since_day=since_day))

    async def changed(self) -> bool:
        """Whether an agent may have changed since this was last asked: microseconds, so it may be asked often.

        True when another connection, raw SQL included, has committed anything, and once after each change made through
        this object. The journal's own commits do not count. False while SQLite cannot tell; it is asked again.
        """
        touched, self._touched = self._touched, False
        try:
            version = await self._writer.call(sqlite.data_version)
        except sqlite.StorageError:
            return touched
        moved, self._version = version != self._version, version
        return touched or moved

    async def _write(self, work: Callable[[Connection], T]) -> T:
        result = await self._writer.alter(work)
        self._touched = True
        return result


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def upgrade(url: str) -> str:
    """Create the registry at ``url``, or bring its schema up to date; the revision that it then has.

    Raises:
        RegistryError: it cannot be done; nothing was changed.
    """
    registry = await Registry.open(url, upgrade=True)
    await registry.close()
    return migrate.HEAD


async def check(url: str) -> str:
    """Look the registry at ``url`` through; one line that says that it is well.

    Raises:
        RegistryError: it is not; the text says what to do.
    """
    path = sqlite.database_path(url)
    registry = await Registry.open(url)
    try:
        await registry._writer.call(partial(_inspect_thoroughly, path=path))
        number = len(await registry.agents())
    finally:
        await registry.close()
    return f"{path}: sound, schema {migrate.HEAD} (current), {number} agents, registry {registry.uuid}"


async def backup(url: str, target: Path) -> None:
    """Copy the registry at ``url`` into a new file, as it is at one moment, also while a supervisor runs on it.

    The target is there, whole, or not at all.

    Raises:
        RegistryError: the target exists or cannot be written, or the registry cannot be read or is damaged.
    """
    path = sqlite.database_path(url)
    registry = await Registry.open(url)
    try:
        await registry._writer.call(partial(_copy, path=path, target=target))
    finally:
        await registry.close()


def _copy(connection: Connection, path: Path, target: Path) -> None:
    """Copy into a file beside ``target``, and give it that name once it is whole and on the disk."""
    if target.exists():
        raise _exists(target)
    # A copy of a damaged file would take the place of a sound one.
    _inspect(connection, path, whole=True)
    try:
        file, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            sqlite.copy(connection, Path(name))
            os.fsync(file)
            _publish(Path(name), target)
        finally:
            os.close(file)
            Path(name).unlink(missing_ok=True)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        raise RegistryError(f"The file {target} cannot be created: {error.strerror}") from None


def _publish(whole: Path, target: Path) -> None:
    try:
        # Unlike a renaming it never replaces a file.
        target.hardlink_to(whole)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links.
        if target.exists():
            raise FileExistsError from None
        whole.rename(target)


def _check_file(path: Path, *, create: bool) -> None:
    sqlite.check_place(path)
    if sqlite.orphaned_wal(path):
        raise sqlite.damaged(path, "it is missing or empty, and its log is there")
    if path.exists():
        return
    if not create:
        raise RegistryError(f"There is no registry at {path}; create it with: supervisor db upgrade")
    _new_file(path)


def _new_file(path: Path) -> None:
    """Make an empty file that only its owner can read, because it will hold people's messages."""
    try:
        sqlite.create_file(path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise RegistryError(f"The file {path} cannot be created: {error.strerror}") from None


def _exists(path: Path) -> RegistryError:
    return RegistryError(f"The file {path} exists already; name another")


def _started(info: LockInfo, clock: Clock) -> LockInfo:
    return info if info.started_at else replace(info, started_at=clock.now())


def _inspect(connection: Connection, path: Path, *, whole: bool = False) -> None:
    """Refuse a file that is damaged; of a large one, unless ``whole``, only the tables that nothing runs without."""
    whole = whole or path.stat().st_size <= sqlite.CHECKED_BYTES
    found = sqlite.damage(connection, () if whole else _ESSENTIAL_TABLES)
    if found is not None:
        raise sqlite.damaged(path, found)


def _inspect_thoroughly(connection: Connection, path: Path) -> None:
    """Refuse a file that is damaged anywhere, be it in a message's text alone, which SQLite does not look at."""
    found = sqlite.damage(connection, thorough=True)
    if found is not None:
        raise sqlite.damaged(path, found)
    texts = TextCodec()
    bad = sum(texts.damaged(body) for table in ("inbox", "outbox") for body in sqlite.values(connection, table, "body"))
    if bad:
        raise sqlite.damaged(path, f"the text of {bad} messages and replies cannot be read")


def _bring_up(connection: Connection, path: Path) -> None:
    if migrate.current(connection) not in (None, migrate.HEAD):
        # No migration makes a damaged file any better.
        _inspect(connection, path, whole=True)
    migrate.bring_up(connection)


def _begin(connection: Connection) -> tuple[str, Numbers]:
    migrate.require(connection)
    uuid = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'uuid'").scalar()
    if uuid is None:
        raise RegistryError("The registry has lost its UUID (table meta); restore a copy of it")
    numbers = Numbers()
    numbers.load(connection)
    return str(uuid), numbers
