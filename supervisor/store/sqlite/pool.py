"""The small pool of connections that read, each query on one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import StorageError
from supervisor.store.sqlite.engines import READERS
from supervisor.store.sqlite.errors import explain

T = TypeVar("T")


class ReadPool:
    """Owns the reading connections; they are opened when they are first needed.

    Queries wait for a connection in the order in which they came, for as long as that takes: many at once, as when
    thousands of agents start on a busy machine, are a queue and no failure.

    Args:
        path: the file, for the wording of errors.
    """

    def __init__(self, path: Path, engine: AsyncEngine) -> None:
        self._path = path
        self._engine = engine
        self._places = asyncio.Semaphore(READERS)
        self._closed = False

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query; what it sees is committed.

        Raises:
            RegistryError: the registry is closed, or SQLite cannot read it.
        """
        async with self._places:
            if self._closed:
                raise RegistryError("The registry is closed")
            try:
                async with self._engine.connect() as connection:
                    return await connection.run_sync(query)
            except DBAPIError as error:
                raise explain(self._path, error) from None
            except (SQLAlchemyError, RuntimeError, OSError) as error:
                # No thread or descriptor is left for a connection: whoever asks may try again.
                raise StorageError(f"The registry {self._path} cannot be read now: {error}") from None

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        await self._engine.dispose()
