"""The connections that read and alter, a transaction for each piece of work; the journal's own is not among them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import CursorResult, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from supervisor.core.clock import Clock
from supervisor.core.errors import RegistryError
from supervisor.store.dialect import StorageError
from supervisor.store.postgres.connecting import Connector
from supervisor.store.postgres.errors import FencedError, explain, opened_to_read
from supervisor.store.sql.sessions import Connection, Parameters

T = TypeVar("T")

#: Connections of the pool; a server has a hundred, as a rule, for all its clients.
_SIZE: Final = 4
#: How long closing waits for what is being changed.
_LAST_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.1
#: How long a question is put again while the server cannot answer: somebody looks at the page that waits for it.
_READ_SECONDS: Final = 5.0
_FENCE: Final = text("SELECT 1 FROM fences WHERE replica = :replica FOR SHARE")


class Statements:
    """Plain SQL with named parameters on a connection of SQLAlchemy, as the statements of every database ask for it."""

    def __init__(self, connection: SqlConnection) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Parameters = (), /) -> Found:
        """Execute one statement."""
        return Found(self._connection.execute(text(statement), parameters or None))


class Found:
    """What a statement found or did, as the standard's cursors have it."""

    def __init__(self, result: CursorResult[Any]) -> None:
        self._result = result

    @property
    def rowcount(self) -> int:
        return self._result.rowcount

    @property
    def description(self) -> list[tuple[str]]:
        return [(name,) for name in self._result.keys()]  # noqa: SIM118 - not a mapping

    def fetchone(self) -> Any:
        return self._result.fetchone()

    def fetchall(self) -> list[Any]:
        return list(self._result.fetchall())


def engine_of(connector: Connector, size: int = _SIZE) -> AsyncEngine:
    """A pool of connections that a connector opens as they are needed."""
    # A statement without a name is the transaction's: nothing of it stays in a connection of a pooler's.
    unnamed = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    return create_async_engine(
        "postgresql+asyncpg://",
        pool_size=size,
        max_overflow=0,
        pool_timeout=30.0,
        hide_parameters=True,
        connect_args={"async_creator_fn": connector.open, **(unnamed if connector.pooled else {})},
    )


class PostgresSessions:
    """Runs the work that the statements of :mod:`supervisor.store.sql` are.

    Args:
        replica: whose fence every change asks for; 0: of nobody who runs agents.
        patience_seconds: how long a command goes on trying where the server cannot.
    """

    def __init__(self, connector: Connector, clock: Clock, patience_seconds: float, replica: int = 0) -> None:
        self.where = connector.address.where
        self._engine = engine_of(connector)
        self._reader = self._engine.execution_options(postgresql_readonly=True)
        self._reading = connector.reading
        self._clock = clock
        self._patience = patience_seconds
        self._closed = False
        # What goes on although nobody waits for it any more.
        self._doing: set[asyncio.Future[Any]] = set()
        self.replica = replica

    async def read(self, work: Callable[[Connection], T]) -> T:
        async def query() -> T:
            async with self._reader.connect() as connection:
                return await connection.run_sync(lambda sync: work(Statements(sync)))

        return await self._patiently(query, min(self._patience, _READ_SECONDS))

    async def alter(self, work: Callable[[Connection], T]) -> T:
        if self._reading:
            raise opened_to_read(self.where)

        async def change() -> T:
            async with self._engine.connect() as connection:
                await self._require_fence(connection)
                made = await connection.run_sync(lambda sync: work(Statements(sync)))
                # Not to be tried again from here on: it may have been done although nobody said so.
                await self._finally(connection)
                return made

        # What is being done is done whole, whoever stops waiting for it.
        doing = asyncio.ensure_future(self._patiently(change, self._patience))
        self._doing.add(doing)
        doing.add_done_callback(self._done)
        return await asyncio.shield(doing)

    def _done(self, doing: asyncio.Future[Any]) -> None:
        self._doing.discard(doing)
        if not doing.cancelled():
            # Whoever waited was told; nobody need be there any more.
            doing.exception()

    async def run_sync(self, work: Callable[[SqlConnection], T]) -> T:
        """Run ``work`` on a connection of SQLAlchemy in one transaction, as migrations are."""
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def empty_log(self) -> None:
        """Nothing: what was erased leaves PostgreSQL's files as its own housekeeping gets to it (docs/operate.md)."""

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._doing:
            await asyncio.wait(self._doing, timeout=_LAST_SECONDS)
        await self._engine.dispose()

    async def _require_fence(self, connection: AsyncConnection) -> None:
        if (await connection.execute(_FENCE, {"replica": self.replica})).fetchone() is None:
            raise FencedError(self.where)

    async def _finally(self, connection: AsyncConnection) -> None:
        try:
            await connection.commit()
        except DBAPIError as error:
            said = explain(self.where, driver_error(error))
            if isinstance(said, StorageError):
                raise RegistryError(f"{said}, while this was being committed; look whether it was done") from None
            raise said from None

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], seconds: float) -> T:
        if self._closed:
            raise RegistryError("The registry is closed")
        deadline = self._clock.monotonic() + seconds
        while True:
            try:
                return await attempt()
            except FencedError:
                raise
            except (DBAPIError, OSError, StorageError, NoConnectionError) as error:
                said = explain(self.where, driver_error(error))
                if not isinstance(said, StorageError) or self._clock.monotonic() >= deadline:
                    raise said from None
            await self._clock.sleep(_PAUSE_SECONDS)


def driver_error(error: BaseException) -> BaseException:
    """The driver's own error within one of SQLAlchemy."""
    if isinstance(error, NoConnectionError):
        return StorageError("The registry cannot be used now: every connection to it is in use")
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error
