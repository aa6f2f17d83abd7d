"""Bringing a file to the schema that this version needs, in one transaction, and saying where it stands."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.store import migrations
from supervisor.store.sql.sessions import scalar

#: Every revision that this version can read or bring up to date, oldest first; a test holds it to the migrations.
REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005")


class NewerSchemaError(RegistryError):
    """A newer version of the supervisor made the database, or has migrated it.

    Args:
        revision: of its schema.
        known: the newest that this version knows.
    """

    def __init__(self, revision: str, known: str) -> None:
        super().__init__(
            f"The registry has a newer schema ({revision}) than this version of the supervisor knows ({known}); "
            "run the version that made it"
        )
        self.revision = revision


@dataclass(frozen=True, slots=True)
class Migrations:
    """The way from one schema to the next.

    Args:
        scripts: the folder of Alembic's scripts.
        revisions: every revision that this version can read or bring up to date, oldest first.
    """

    scripts: Path = Path(migrations.__file__).parent
    revisions: tuple[str, ...] = REVISIONS

    @property
    def head(self) -> str:
        """The revision that this version needs."""
        return self.revisions[-1]

    def current(self, connection: sqlite3.Connection) -> str | None:
        """The revision that a database is at; None when it has no schema of ours.

        Raises:
            NewerSchemaError: a newer version of the supervisor made it.
        """
        if not _has_table(connection, "alembic_version"):
            return None
        revision = scalar(connection, "SELECT version_num FROM alembic_version")
        if revision is not None and revision not in self.revisions:
            raise NewerSchemaError(revision, self.head)
        return str(revision) if revision is not None else None

    def require(self, connection: sqlite3.Connection, *, older: bool = False) -> str:
        """Refuse a database that is not at the schema of this version; the revision that it is at.

        Args:
            older: an older one will do: later migrations only add to it.

        Raises:
            RegistryError: it has none, an older, or a newer one; the text names the command that helps.
        """
        revision = self.current(connection)
        if revision is None:
            raise RegistryError("The registry has no schema yet; create it with: supervisor db upgrade")
        if revision != self.head and not older:
            raise RegistryError(
                f"The registry's schema is at {revision} and this version needs {self.head}; "
                "bring it there, which makes a copy first, with: supervisor db upgrade"
            )
        return revision

    def require_any(self, connection: sqlite3.Connection) -> None:
        """Refuse a database that has no schema of ours, of whatever version.

        Raises:
            RegistryError: it has none.
        """
        if not _has_table(connection, "alembic_version"):
            raise RegistryError("The registry has no schema yet; create it with: supervisor db upgrade")

    def bring_up(self, connection: sqlite3.Connection) -> None:
        """Run the migrations that are missing, in one transaction of their own, which ends the caller's.

        Raises:
            sqlite3.Error: SQLite cannot.
            RegistryError: the database has a newer schema, or tables of ours that we did not make.
        """
        revision = self.current(connection)
        if revision == self.head:
            return
        if revision is None and _has_table(connection, "agents"):
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


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    return bool(scalar(connection, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))


#: The migrations of this version.
OURS: Final = Migrations()
