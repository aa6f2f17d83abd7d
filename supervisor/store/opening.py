"""What is done with a registry by its URL alone, whatever database it names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.core.clock import SystemClock
from supervisor.core.errors import RegistryError
from supervisor.settings.secrets import SecretBox
from supervisor.store.dialect import LockInfo, Rotation
from supervisor.store.dialect.face import Access
from supervisor.store.sql import copying

if TYPE_CHECKING:
    from supervisor.store.postgres import Postgres
    from supervisor.store.sqlite import Sqlite


def dialect_of(url: str) -> Sqlite | Postgres:
    """The dialect of the database that ``url`` names; SQLite refuses what is none.

    Raises:
        RegistryError: what the database takes is not installed.
    """
    # Imported here: another database's driver need not be installed.
    if _is_postgres(url):
        try:
            from supervisor.store.postgres import Postgres  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise RegistryError(
                f"A registry in PostgreSQL takes the package {error.name}; "
                "install the extra: pip install 'aiwm-supervisor[postgres]'"
            ) from None
        return Postgres()
    from supervisor.store.sqlite import Sqlite  # noqa: PLC0415

    return Sqlite()


def _is_postgres(url: str) -> bool:
    return url.partition(":")[0].partition("+")[0] in ("postgresql", "postgres")


def migrates_at_start(url: str) -> bool:
    """Whether a start brings the registry up to date; where several supervisors may run, ``db upgrade`` does, once."""
    return not _is_postgres(url)


async def upgrade(url: str, *, migration_copy: bool = True) -> str:
    """Create the registry at ``url``, or bring its schema up to date; the revision that it then has.

    Args:
        migration_copy: copy what is older first.

    Raises:
        RegistryError: it cannot be done; nothing was changed.
    """
    database = await dialect_of(url).open(
        url, clock=SystemClock(), upgrade=True, access=Access(migration_copy=migration_copy)
    )
    await database.close()
    return database.revision


async def check(url: str) -> str:
    """Look the registry at ``url`` through; one line that says that it is well.

    Raises:
        RegistryError: it is not; the text says what to do.
    """
    return await dialect_of(url).check(url)


async def backup(url: str, target: Path) -> None:
    """Copy the registry at ``url`` into a new file, as it is at one moment, also while a supervisor runs on it.

    Its schema may be of any version. The target is there, whole, or not at all.

    Raises:
        RegistryError: the target exists or cannot be written, or the registry cannot be read or is damaged.
    """
    await dialect_of(url).backup(url, target)


async def rotate(url: str, box: SecretBox, *, dry_run: bool = False) -> Rotation:
    """Encrypt everything in the registry at ``url`` under the first key of ``box``; what is so already stays.

    Raises:
        RegistryError: the registry cannot be read or written; what was done until then stays done.
    """
    return await dialect_of(url).rotate(url, box, dry_run=dry_run)


async def copy(url: str, to: str) -> tuple[str, dict[str, int]]:
    """Copy the registry at ``url`` into an empty database, and mark it: a supervisor refuses to run it from then on.

    Returns:
        How the target is named to people, and how many rows each table has.

    Raises:
        RegistryLockedError: a supervisor runs on one of them.
        RegistryError: the target is not empty or cannot be written; the registry stays as it is.
    """
    async with AsyncExitStack() as opened:
        source = await dialect_of(url).open(url, clock=SystemClock(), lock=LockInfo(alone=True))
        opened.push_async_callback(source.close)
        target = await dialect_of(to).open(to, clock=SystemClock(), upgrade=True, lock=LockInfo(alone=True))
        opened.push_async_callback(target.close)
        counted = await copying.copy(source.sessions, target.sessions, target.where, target.renumber)
        return target.where, counted


def lock_holders(url: str) -> Sequence[LockInfo]:
    """Who runs the registry at ``url``; first whoever is to be asked first.

    Raises:
        RegistryError: the URL is not a registry's.
    """
    return dialect_of(url).holders(url)


def lock_holder(url: str) -> LockInfo | None:
    """The first of :func:`lock_holders`; None when nobody runs it."""
    return next(iter(lock_holders(url)), None)


def require_registry(url: str) -> None:
    """See that there is a registry at ``url``.

    Raises:
        RegistryNotFoundError: there is none; says how to find or make one.
    """
    dialect_of(url).require_registry(url)
