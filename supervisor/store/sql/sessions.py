"""How statements reach a database: the seam between the statements and a driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Sessions(Protocol):
    """Runs work on a connection, which the work must not keep."""

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run a query; what it sees is committed.

        Raises:
            RegistryError: the database cannot be read; one line says why.
        """
        ...

    async def alter(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction, again while the database is busy; whatever it raises rolls all of it back.

        Raises:
            RegistryError: what the database says against it, in one line.
        """
        ...

    async def empty_log(self) -> None:
        """Have the database's own log forget what was erased or replaced, as far as it can."""
        ...
