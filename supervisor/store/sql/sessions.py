"""How statements reach a database: the seam between the statements and a driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
#: Values by the names that a statement gives them (``:name``), or by position.
Parameters = Mapping[str, Any] | Sequence[Any]


class Cursor(Protocol):
    """What a statement found or did."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    @property
    def description(self) -> Any:
        """Of each column that it found, its name first."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Every row that is left."""
        ...


class Connection(Protocol):
    """Executes statements, within the transaction that whoever gave it has begun."""

    def execute(self, statement: str, parameters: Parameters = (), /) -> Cursor:
        """Execute one statement; what the driver raises goes through whoever gave the connection, who words it."""
        ...


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


def scalar(connection: Connection, statement: str, parameters: Parameters = ()) -> Any:
    """The first value of the first row that a statement finds; None where it finds none."""
    found = connection.execute(statement, parameters).fetchone()
    return None if found is None else found[0]


def mappings(found: Cursor) -> list[dict[str, Any]]:
    """Every row that a statement found, by the names of its columns."""
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
