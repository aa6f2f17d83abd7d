"""The journal's own connection: commits one batch at a time, each once, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import StorageError
from supervisor.store.dialect.face import Outcome
from supervisor.store.dialect.operations import Operation
from supervisor.store.postgres import handing_in, statement
from supervisor.store.postgres.batch import Batch, Told
from supervisor.store.postgres.connecting import Connector, close
from supervisor.store.postgres.errors import BROKEN, FencedError, explain, is_lasting, opened_to_read
from supervisor.telemetry.logs import get_logger

#: The answers of so many batches are forgotten at once.
_FORGET_EVERY: Final = 500
_COLUMNS: Final = 4


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch that was sent, and of which nothing is known yet."""

    operations: Sequence[Operation]
    refused: Mapping[int, RegistryError]
    batch: Batch


class Writer:
    """Owns the connection that commits batches; opens it anew where it broke.

    A batch keeps its number until its answer is known. Where the answer was lost the next connection looks it up, and
    a batch that is sent again while the first sending is still under way meets it there. Where it does not find the
    last batch that was committed, it is at another database: a standby, or a copy, that lacks the last moments.

    Args:
        fence: whose row of ``fences`` every write locks; 0: that of whoever does not run agents.
        number: of this writer, never given again; 0: taken when it first writes.
        seconds: how long a batch may take before its connection is given up.

    Attributes:
        lost: that the database is not the one that was written to; None while it is.
    """

    def __init__(self, connector: Connector, *, fence: int = 0, number: int = 0, seconds: float = 30.0) -> None:
        self._connector = connector
        self._where = connector.address.where
        self._fence = fence
        self._number = number
        self._seconds = seconds
        self._connection: asyncpg.Connection | None = None
        self._keys: dict[str, int] = {}
        self._next = 1
        # The last batch that is known to be committed.
        self._committed = 0
        self._is_known = False
        self.lost: str | None = None
        self._sent: _Sent | None = None
        self._closed = False
        self._log = get_logger("supervisor.journal")

    async def commit(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Commit a batch, as :meth:`supervisor.store.dialect.face.Database.begin_commit` says."""
        if self._closed:
            raise RegistryError("The registry is closed")
        if self._connector.reading:
            raise opened_to_read(self._where)
        try:
            async with asyncio.timeout(self._seconds):
                try:
                    return await self._commit(operations)
                except FencedError as error:
                    return await self._hand_in(operations, error)
        except TimeoutError as error:
            # Whether it was done shows when the next connection asks.
            self._drop()
            raise explain(self._where, error) from None

    async def close(self) -> None:
        """Close the connection; once."""
        self._closed = True
        if (connection := self._connection) is None:
            return
        self._connection = None
        if not connection.is_closed() and self._sent is None:
            with contextlib.suppress(*BROKEN):
                await connection.execute(statement.FORGET, self._number, self._next)
        await close(connection)

    async def _commit(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        sent = self._sent
        if sent is not None and sent.operations is operations:
            return await self._attempt(sent, again=True)
        if sent is not None:
            # Nobody asks for that one any more; its number may be taken.
            self._sent, self._next = None, self._next + 1
        try:
            return await self._attempt(_Sent(operations, {}, Batch(operations, self._keys)))
        except StorageError:
            raise
        except RegistryError:
            refused = await self._refused(operations)
        good = [one for position, one in enumerate(operations) if position not in refused]
        return await self._attempt(_Sent(operations, refused, Batch(good, self._keys)))

    async def _attempt(self, sent: _Sent, *, again: bool = False) -> Sequence[Outcome]:
        """Send a batch, or find what became of it.

        Raises:
            StorageError: it is not committed, or nobody knows.
            RegistryError: the database refuses some operation of it.
        """
        self._sent = sent
        try:
            connection = await self._opened()
            if self.lost is not None:
                raise FencedError(self._where)
            told = await self._found(connection) if again else []
            if not told:
                told = await self._send(connection, sent.batch)
        except BROKEN as error:
            if is_lasting(error):
                self._sent = None
            elif self._connection is not None and self._connection.is_closed():
                self._connection = None
            raise explain(self._where, error) from None
        except (ValueError, OverflowError, TypeError) as error:
            self._sent = None
            raise explain(self._where, error) from None
        if not told:
            raise FencedError(self._where)
        self._sent, self._committed = None, self._next
        self._next += 1
        won = iter(sent.batch.outcomes(told))
        return [sent.refused[n] if n in sent.refused else next(won) for n in range(len(sent.operations))]

    async def _hand_in(self, operations: Sequence[Operation], why: FencedError) -> Sequence[Outcome]:
        """Give what was heard to whoever has the agents now; nothing else of it is written."""
        adds = handing_in.heard(operations)
        if adds:
            try:
                connection = await self._opened()
                await self._know(connection, Batch(adds, self._keys))
                number = await handing_in.hand_in(connection, adds, self._keys)
            except BROKEN as error:
                self._drop()
                raise explain(self._where, error) from None
            self._log.warning("messages_handed_in", heard=len(adds), new=number)
        return handing_in.outcomes(operations, RegistryError(str(why)))

    async def _send(self, connection: asyncpg.Connection, batch: Batch) -> list[Told]:
        if self._next % _FORGET_EVERY == 0:
            # Before anything of the batch is sent: what fails here has committed nothing.
            await connection.execute(statement.FORGET, self._number, self._committed)
        await self._know(connection, batch)
        try:
            if batch.whole:
                return await batch.apply(connection, self._fence, self._number, self._next)
            async with connection.transaction():
                told = await batch.apply(connection, self._fence)
                if told:
                    noted = [[row[column] for row in told] for column in range(_COLUMNS)]
                    await connection.execute(statement.NOTE, self._number, self._next, *noted)
                return told
        except asyncpg.UniqueViolationError as error:
            if error.table_name != "journal_commits":
                raise
            # Sent before, by a connection that broke, and committed in the meantime.
            return await self._found(connection)

    async def _found(self, connection: asyncpg.Connection) -> list[Told]:
        """What was kept of the batch whose turn it is; nothing where it was not committed."""
        return [*await connection.fetch(statement.FOUND, self._number, self._next)]

    async def _refused(self, operations: Sequence[Operation]) -> dict[int, RegistryError]:
        """Which operations the database refuses, and why; each is tried alone, and all is undone."""
        refused: dict[int, RegistryError] = {}
        connection = await self._opened()
        trial = connection.transaction()
        await trial.start()
        try:
            for position, operation in enumerate(operations):
                batch = Batch([operation], self._keys)
                try:
                    async with connection.transaction():
                        await self._know(connection, batch)
                        await batch.apply(connection, self._fence)
                except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, OverflowError, TypeError) as error:
                    if not is_lasting(error):
                        raise explain(self._where, error) from None
                    refused[position] = explain(self._where, error)
        finally:
            if not connection.is_closed():
                await trial.rollback()
            # Keys that were made within it are gone with it.
            self._keys.clear()
        return refused

    async def _know(self, connection: asyncpg.Connection, batch: Batch) -> None:
        """Have the small integers of the agents that a batch names."""
        missing = sorted(batch.agents - self._keys.keys())
        if missing:
            await connection.execute(statement.NEW_KEYS, missing)
            for agent_id, key in await connection.fetch(statement.KEYS, missing):
                self._keys[agent_id] = key

    async def _opened(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection, self._is_known = await self._connector.open(), False
        if not self._is_known:
            await self._recognise(self._connection)
            self._is_known = True
        return self._connection

    async def _recognise(self, connection: asyncpg.Connection) -> None:
        if not self._number:
            self._number = await connection.fetchval("SELECT nextval('replica_id')")
        elif self._committed and not await connection.fetchval(statement.KEPT, self._number, self._committed):
            self.lost = str(FencedError(self._where))

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
