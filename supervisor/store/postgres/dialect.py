"""PostgreSQL as a dialect of the store: how a registry is opened and looked through, and who holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy.exc import DBAPIError

from supervisor.core.clock import Clock, SystemClock
from supervisor.core.errors import RegistryError, RegistryLockedError, RegistryNotFoundError
from supervisor.settings.secrets import SecretBox
from supervisor.store.dialect import LockInfo, Rotation
from supervisor.store.dialect.face import ANY_ACCESS, READING, Access
from supervisor.store.dialect.rows import record_from_row
from supervisor.store.postgres import connecting, holding, soundness
from supervisor.store.postgres.address import address_of
from supervisor.store.postgres.changes import ChangeNotice
from supervisor.store.postgres.connecting import Connector
from supervisor.store.postgres.database import Opened, PostgresDatabase
from supervisor.store.postgres.errors import BROKEN, explain
from supervisor.store.postgres.holding import Hold
from supervisor.store.postgres.joining import read_info
from supervisor.store.postgres.migrate import OURS, Migrations
from supervisor.store.postgres.placing import Placement
from supervisor.store.postgres.sessions import PostgresSessions, driver_error
from supervisor.store.postgres.writer import Writer
from supervisor.store.sql import copying, lives, rotation
from supervisor.store.sql.sessions import Connection, scalar

#: Whoever encrypts a registry anew holds this lock.
_ROTATING: Final = 0x61_69_77_72
#: Who runs a registry: first those that moved of late and stay, the newest of them before the others.
_HOLDERS = (
    "SELECT json_agg(json_build_array(id, said, coalesce((SELECT value FROM meta WHERE key = 'uuid'), '')) "
    "ORDER BY beat_at > clock_timestamp() - interval '15 seconds' DESC, draining, id DESC)::text FROM replicas"
)


@dataclass(frozen=True, slots=True)
class Postgres:
    """One database, one process that runs agents, any number of others beside it.

    Args:
        patience_seconds: how long a command goes on trying while the server cannot.
        lock_seconds: how long a statement waits for another transaction's lock before it counts as busy.
        migrations: the way to the schema that this version needs.
    """

    patience_seconds: float = 30.0
    lock_seconds: float = 5.0
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
    ) -> PostgresDatabase:
        if synchronous not in ("NORMAL", "FULL"):
            raise RegistryError(f"synchronous is {synchronous!r}; it must be NORMAL or FULL")
        connector = self._connector(url, synchronous, access)
        async with AsyncExitStack() as undo:
            await self._greet(connector)
            sessions = PostgresSessions(connector, clock, self.patience_seconds)
            undo.push_async_callback(sessions.close)
            revision = await sessions.read(self.migrations.current)
            if revision is None and not (upgrade and access.create):
                raise _not_found(sessions.where)
            if upgrade and revision != self.migrations.head:
                await self._bring_up(sessions)
            elif lock is not None:
                # Before anything is written that another version's tables may not take.
                await sessions.read(self.migrations.require)
            hold = None
            if lock is not None:
                # Whoever takes over waits for what holds the fence, and has not long to wait.
                longest = lock.lease_seconds / 3
                connector.idle_seconds, connector.lock_seconds = longest, min(self.lock_seconds, longest)
                hold = await Hold.take(connector, clock, lock)
                undo.push_async_callback(hold.release)
                sessions.replica = hold.number
            number = hold.number if hold is not None else 0
            writer = Writer(connector, fence=number, number=number)
            begin = partial(self._begin, sessions.where, clock.now(), hold is not None, access.reading)
            opened = await (sessions.alter(begin) if hold is not None else sessions.read(begin))
            notice = ChangeNotice(sessions, number)
            await notice.begin()
            undo.pop_all()
        placement = None if lock is None or lock.alone else Placement(sessions, clock, lock.lease_seconds)
        return PostgresDatabase(sessions, writer, opened, notice, hold, placement)

    def holders(self, url: str) -> Sequence[LockInfo]:
        said = holding.from_outside(self._ask(url, _HOLDERS))
        found = msgspec.json.decode(said, type=list[tuple[int, str, str]]) if said else []
        return [replace(read_info(one), number=number, registry_uuid=uuid) for number, one, uuid in found]

    def require_registry(self, url: str) -> None:
        """See that there is a registry at ``url``; raises RegistryNotFoundError."""
        where = address_of(url).where
        try:
            found = holding.from_outside(self._ask(url, "SELECT value FROM meta WHERE key = 'uuid'"))
        except RegistryError as error:
            if "no such database" not in str(error):
                raise
            found = None
        if found is None:
            raise _not_found(where)

    async def check(self, url: str) -> str:
        """Look the registry at ``url`` through; one line that says that it is well."""
        database = await self.open(url, clock=SystemClock(), access=READING)
        try:
            agents = [record_from_row(row) for row in await database.agents.rows()]
            found = await database.sessions.read(partial(soundness.inspect, where=database.where))
        finally:
            await database.close()
        schema, head = database.revision, self.migrations.head
        stands = "current" if schema == head else f"this version needs {head}: supervisor db upgrade"
        line = f"{database.where}: PostgreSQL {found.release}, sound, schema {schema} ({stands})"
        notes = [f"{line}, {len(agents)} agents, registry {database.uuid}", *found.notes]
        if unfit := sum(agent.problem is not None for agent in agents):
            notes.append(f"{unfit} of the agents cannot run as they are: supervisor doctor")
        return "; ".join(notes)

    async def backup(self, url: str, target: Path) -> None:
        """Refuse: PostgreSQL's own tools copy a database."""
        where = address_of(url).where
        raise RegistryError(
            f"The registry {where} is in PostgreSQL, whose own tools copy it: "
            f"pg_dump --format=custom --file={target} DATABASE, and pg_restore to bring it back"
        )

    async def rotate(self, url: str, box: SecretBox, *, dry_run: bool = False) -> Rotation:
        """Encrypt everything in the registry at ``url`` under the first key of ``box``; one command at a time does."""
        database = await self.open(url, clock=SystemClock())
        try:
            async with self._sole_rotation(url):
                return await rotation.rotate(database.sessions, box, dry_run=dry_run)
        finally:
            await database.close()

    @asynccontextmanager
    async def _sole_rotation(self, url: str) -> AsyncIterator[None]:
        """Keep others from it: of two with other first keys each would undo what the other says is done.

        Raises:
            RegistryLockedError: another one is at it.
        """
        connector = self._connector(url)
        connection = await connector.open()
        try:
            # A lock of the transaction holds through a pooler too; the server is not to end what waits in it.
            async with connection.transaction():
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _ROTATING):
                    raise RegistryLockedError(
                        f"Somebody encrypts the registry {connector.address.where} anew just now; "
                        "wait for that, then see what is left: supervisor keys rotate --dry-run"
                    )
                yield
        except BROKEN as error:
            raise explain(connector.address.where, error) from None
        finally:
            await connecting.close(connection)

    def _connector(self, url: str, synchronous: str = "NORMAL", access: Access = READING) -> Connector:
        address = address_of(url)
        return Connector(address, synchronous, reading=access.reading, lock_seconds=self.lock_seconds)

    async def _greet(self, connector: Connector) -> None:
        """Connect once: what is wrong with the URL, the rights or the server is said before anything begins."""
        connection = await connector.open()
        try:
            connecting.check_version(connection, connector.address.where)
        finally:
            await connecting.close(connection)

    async def _ask(self, url: str, query: str) -> str | None:
        """One value, by a connection that is there for that alone; None where the registry has no such table."""
        connector = self._connector(url)
        connection = await connector.open()
        try:
            found = await connection.fetchval(query)
        except BROKEN as error:
            if getattr(error, "sqlstate", "") == "42P01":
                return None
            raise explain(connector.address.where, error) from None
        finally:
            await connecting.close(connection)
        return None if found is None else str(found)

    async def _bring_up(self, sessions: PostgresSessions) -> None:
        """Bring a registry to the schema of this version, in one transaction; a newer one is refused."""
        try:
            await sessions.run_sync(self.migrations.bring_up)
        except DBAPIError as error:
            raise explain(sessions.where, driver_error(error)) from None

    def _begin(self, where: str, now: float, held: bool, older: bool, connection: Connection) -> Opened:
        revision = self.migrations.require(connection, older=older)
        uuid = scalar(connection, "SELECT value FROM meta WHERE key = 'uuid'")
        if uuid is None:
            raise RegistryError("The registry has lost its UUID (table meta); restore a copy of it")
        if held:
            copying.refuse_marked(connection, where)
        return Opened(str(uuid), revision, lives.since(connection, now, begin=held))


def _not_found(where: str) -> RegistryNotFoundError:
    return RegistryNotFoundError(
        f"There is no registry at {where}; create it with: supervisor db upgrade, "
        "or set SUPERVISOR_REGISTRY_URL to where it is"
    )
