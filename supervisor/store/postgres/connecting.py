"""Connections to a server of PostgreSQL, opened alike for whatever they are for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from supervisor.core.errors import RegistryError
from supervisor.store.postgres.address import Address
from supervisor.store.postgres.errors import BROKEN, explain

#: The oldest release that numbers transactions as the schema needs it.
OLDEST: Final = 13
#: SQLSTATE with which a pooler refuses what a connection asks of the server at its start.
_UNSUPPORTED: Final = ("08P01", "0A000")
_FULL_NEEDS: Final = ("on", "remote_apply", "remote_write", "local")


class _PooledError(Exception):
    """A pooler stands between."""


@dataclass(slots=True)
class Connector:
    """Opens connections to the database at one address.

    Args:
        synchronous: FULL has every commit on the disk before it is told; else the server's own setting holds.
        reading: a standby will do.
        connect_seconds: how long one connection may take to open.
        lock_seconds: how long a statement may wait for a lock before the server ends it.
        idle_seconds: how long a transaction may wait for its next statement before the server ends it.

    Attributes:
        pooled: whether a pooler stands between, which gives statements to any connection of its own; None until the
            first connection has found out.
    """

    address: Address
    synchronous: str = "NORMAL"
    reading: bool = False
    connect_seconds: float = 10.0
    lock_seconds: float = 5.0
    idle_seconds: float = 5.0
    pooled: bool | None = field(init=False)

    def __post_init__(self) -> None:
        self.pooled = self.address.pooled

    async def open(self) -> asyncpg.Connection:
        """One more connection; whoever gets it closes it.

        Raises:
            RegistryError: it cannot be opened; a StorageError where another attempt may succeed.
        """
        try:
            connection = await self._open()
        except (*BROKEN, ValueError) as error:
            # Never the driver's own words about the URL: the password is in it.
            raise explain(self.address.where, error) from None
        return connection

    async def _open(self) -> asyncpg.Connection:
        if self.pooled is None:
            try:
                connection = await self._connect(self._is_direct)
            except asyncpg.PostgresError as error:
                if error.sqlstate not in _UNSUPPORTED:
                    raise
            except _PooledError:
                pass
            else:
                self.pooled = False
                return connection
            self.pooled = True
        return await self._connect(self._keeps_promise)

    async def _is_direct(self, connection: asyncpg.Connection) -> None:
        # A pooler names a connection by a number of its own.
        if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
            raise _PooledError

    async def _keeps_promise(self, connection: asyncpg.Connection) -> None:
        if not self.pooled or self.synchronous != "FULL":
            return
        if await connection.fetchval("SHOW synchronous_commit") not in _FULL_NEEDS:
            raise RegistryError(
                f"SUPERVISOR_SYNCHRONOUS=FULL cannot be kept through the pooler of {self.address.where}: the server "
                "has synchronous_commit=off; change it there, or connect to the server itself"
            )

    async def _connect(self, check: Callable[[asyncpg.Connection], Awaitable[None]]) -> asyncpg.Connection:
        """A connection that passes a check; one that does not is closed."""
        wanted = self.address.session or ("any" if self.reading else "read-write")
        connection: asyncpg.Connection = await asyncpg.connect(
            self.address.dsn,
            timeout=self.connect_seconds,
            target_session_attrs=SessionAttribute(wanted),
            # A pooler takes neither settings nor statements that are prepared for a connection. While none is known of,
            # nothing is prepared: it would stay behind in a connection of the pooler's, under a name that others use.
            server_settings=None if self.pooled else self._settings(),
            statement_cache_size=100 if self.pooled is False else 0,
        )
        try:
            await check(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _settings(self) -> dict[str, str]:
        settings = {
            "application_name": "aiwm-supervisor",
            "timezone": "UTC",
            "lock_timeout": f"{self.lock_seconds:g}s",
            "idle_in_transaction_session_timeout": f"{self.idle_seconds:g}s",
        }
        return settings | ({"synchronous_commit": "on"} if self.synchronous == "FULL" else {})


async def close(connection: asyncpg.Connection, seconds: float = 2.0) -> None:
    """Close a connection, whatever state it is in, within some seconds."""
    with contextlib.suppress(Exception):
        await connection.close(timeout=seconds)
    if not connection.is_closed():
        connection.terminate()
    await asyncio.sleep(0)


def check_version(connection: asyncpg.Connection, where: str) -> None:
    """Refuse a server that is too old.

    Raises:
        RegistryError: it is.
    """
    if connection.get_server_version().major < OLDEST:
        release = connection.get_settings().server_version.partition(" ")[0]
        raise RegistryError(f"The registry {where} is on PostgreSQL {release}; the supervisor needs {OLDEST} or newer")
