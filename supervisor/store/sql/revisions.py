"""Where a database's schema stands among the revisions that this version knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.store import migrations
from supervisor.store.sql.sessions import Connection, scalar

#: Every revision that this version can read or bring up to date, oldest first; a test holds it to the migrations.
REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006")


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
class Revisions:
    """The way from one schema to the next.

    Args:
        scripts: the folder of Alembic's scripts.
        revisions: every revision that this version can read or bring up to date, oldest first.
        tables: a query that finds a row where there is a table of the name ``:name``.
    """

    scripts: Path = Path(migrations.__file__).parent
    revisions: tuple[str, ...] = REVISIONS
    tables: str = ""

    @property
    def head(self) -> str:
        """The revision that this version needs."""
        return self.revisions[-1]

    def has_table(self, connection: Connection, name: str) -> bool:
        """Whether there is a table of that name."""
        return scalar(connection, self.tables, {"name": name}) is not None

    def current(self, connection: Connection) -> str | None:
        """The revision that a database is at; None when it has no schema of ours.

        Raises:
            NewerSchemaError: a newer version of the supervisor made it.
        """
        if not self.has_table(connection, "alembic_version"):
            return None
        revision = scalar(connection, "SELECT version_num FROM alembic_version")
        if revision is not None and revision not in self.revisions:
            raise NewerSchemaError(revision, self.head)
        return str(revision) if revision is not None else None

    def require(self, connection: Connection, *, older: bool = False) -> str:
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
                "bring it there with: supervisor db upgrade"
            )
        return revision

    def require_any(self, connection: Connection) -> None:
        """Refuse a database that has no schema of ours, of whatever version.

        Raises:
            RegistryError: it has none.
        """
        if not self.has_table(connection, "alembic_version"):
            raise RegistryError("The registry has no schema yet; create it with: supervisor db upgrade")
