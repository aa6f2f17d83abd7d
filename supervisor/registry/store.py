"""The registry: agents as people want them, and the journal of what they were sent and answered (DESIGN §5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from supervisor.clock import Clock, SystemClock
from supervisor.errors import RegistryError
from supervisor.records import AgentRecord
from supervisor.registry import agents, migrate, sqlite
from supervisor.registry.batch import Numbers
from supervisor.registry.journal import Journal
from supervisor.registry.lock import LockInfo, RegistryLock
from supervisor.registry.reader import Reader
from supervisor.registry.writer import Writer

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
    ) -> None:
        self.url = url
        self.path = path
        self.uuid = uuid
        self.journal = Journal(reader, writer, numbers, path, clock)
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
    ) -> Registry:
        """Open the registry at ``url``.

        Args:
            url: ``sqlite+aiosqlite:///path``.
            synchronous: NORMAL (power loss may take the last commits) or FULL.
            upgrade: create or bring up to date the schema, in one transaction.
            lock: take the supervisor's lock in this name, and look the file through for damage.

        Raises:
            RegistryLockedError: another supervisor holds the lock.
            RegistryError: it cannot be opened; one line says why and what to do.
        """
        clock = clock or SystemClock()
        path = sqlite.database_path(url)
        _check_file(path, create=upgrade)
        held = RegistryLock(path, _started(lock, clock)) if lock is not None else None
        writer: Writer | None = None
        try:
            writer = Writer(path, synchronous, clock)
            if upgrade:
                await writer.alter(migrate.bring_up)
            if lock is not None:
                await writer.call(partial(_inspect, path=path, whole=False))
            uuid, numbers = await writer.alter(_begin)
            version = await writer.call(sqlite.data_version)
        except BaseException:
            if writer is not None:
                await writer.close()
            if held is not None:
                held.release()
            raise
        return cls(url, path, writer, Reader(path), clock, uuid=uuid, numbers=numbers, version=version, lock=held)

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
        values = agents.checked_values(agent_id, changes)

        def work(connection: Connection) -> AgentRecord:
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
        await registry._writer.call(partial(_inspect, path=path, whole=True))
        number = len(await registry.agents())
    finally:
        await registry.close()
    return f"{path}: sound, schema {migrate.HEAD} (current), {number} agents, registry {registry.uuid}"


async def backup(url: str, target: Path) -> None:
    """Copy the registry at ``url`` into a new file, consistently, also while a supervisor runs on it.

    Raises:
        RegistryError: the target exists or cannot be written, or the registry cannot be read.
    """
    registry = await Registry.open(url)
    try:
        _new_file(target)
        await registry._writer.call(partial(sqlite.copy, target=target))
    finally:
        await registry.close()


def _check_file(path: Path, *, create: bool) -> None:
    sqlite.check_place(path)
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
        raise RegistryError(f"The file {path} exists already; name another") from None
    except OSError as error:
        raise RegistryError(f"The file {path} cannot be created: {error.strerror}") from None


def _started(info: LockInfo, clock: Clock) -> LockInfo:
    return info if info.started_at else replace(info, started_at=clock.now())


def _inspect(connection: Connection, path: Path, *, whole: bool) -> None:
    """Refuse a file that is damaged; of a large one, unless ``whole``, only the tables that nothing runs without."""
    whole = whole or path.stat().st_size <= sqlite.CHECKED_BYTES
    found = sqlite.damage(connection, () if whole else _ESSENTIAL_TABLES)
    if found is not None:
        raise sqlite.damaged(path, found)


def _begin(connection: Connection) -> tuple[str, Numbers]:
    migrate.require(connection)
    uuid = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'uuid'").scalar()
    if uuid is None:
        raise RegistryError("The registry has lost its UUID (table meta); restore a copy of it")
    numbers = Numbers()
    numbers.load(connection)
    return str(uuid), numbers
