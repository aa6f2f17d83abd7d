"""Bringing a database to the schema that this version needs, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import text

from supervisor.core.errors import RegistryError
from supervisor.store.postgres.sessions import Statements
from supervisor.store.sql.revisions import Revisions

#: The lock that one migration at a time has, for as long as its transaction.
_MIGRATING: Final = 0x61_69_77_6E


@dataclass(frozen=True, slots=True)
class Migrations(Revisions):
    """The way from one schema to the next; the tables are those of the first schema in the search path."""

    tables: str = (
        "SELECT 1 FROM pg_catalog.pg_class WHERE relname = :name AND relkind IN ('r', 'p', 'v') "
        "AND relnamespace = to_regnamespace(quote_ident(current_schema()))"
    )

    def bring_up(self, connection: SqlConnection) -> str:
        """Run the migrations that are missing, within the caller's transaction; the revision that there is then.

        Raises:
            RegistryError: the database has a newer schema, or tables of ours that we did not make.
        """
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
        revision = self.current(Statements(connection))
        if revision == self.head:
            return revision
        if revision is None and self.has_table(Statements(connection), "agents"):
            raise RegistryError(
                "The database holds a table agents that is not the supervisor's; "
                "set SUPERVISOR_REGISTRY_URL to a database of its own"
            )
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(self.scripts).replace("%", "%%"))
        command.upgrade(config, "head")
        return self.head


#: The migrations of this version.
OURS: Final = Migrations()
