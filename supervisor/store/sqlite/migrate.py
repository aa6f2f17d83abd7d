"""Bringing a file to the schema that this version needs, in one transaction."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.store.sql.revisions import REVISIONS, NewerSchemaError, Revisions

__all__ = ["OURS", "REVISIONS", "Migrations", "NewerSchemaError"]


@dataclass(frozen=True, slots=True)
class Migrations(Revisions):
    """The way from one schema of a file to the next."""

    tables: str = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name"

    def bring_up(self, connection: sqlite3.Connection) -> None:
        """Run the migrations that are missing, in one transaction of their own, which ends the caller's.

        Raises:
            sqlite3.Error: SQLite cannot.
            RegistryError: the database has a newer schema, or tables of ours that we did not make.
        """
        revision = self.current(connection)
        if revision == self.head:
            return
        if revision is None and self.has_table(connection, "agents"):
            raise RegistryError(
                "The database holds a table agents that is not the supervisor's; set SUPERVISOR_REGISTRY_URL to a file"
            )
        _run(connection, self.scripts)


def _run(connection: sqlite3.Connection, scripts: Path) -> None:
    # Imported here: most starts and commands migrate nothing, and take less time than these take to load.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine, event  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.pool import StaticPool  # noqa: PLC0415

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool, hide_parameters=True)
    # SQLAlchemy's first look at a connection has ended the transaction that there was.
    event.listen(engine, "begin", lambda _: connection.execute("BEGIN IMMEDIATE"))
    try:
        with engine.begin() as migrating:
            config = Config(attributes={"connection": migrating})
            config.set_main_option("script_location", str(scripts).replace("%", "%%"))
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise error.orig or error from None


#: The migrations of this version.
OURS: Final = Migrations()
