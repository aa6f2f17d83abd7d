"""Looking a registry's file through for damage, and copying one that is sound."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import TextCodec
from supervisor.store.sqlite import driver, files
from supervisor.store.sqlite.errors import damaged

_ESSENTIAL_TABLES: Final = ("agents", "meta", "agent_keys", "conversations")


def inspect(connection: sqlite3.Connection, path: Path, whole_up_to: float) -> None:
    """Refuse a file that is damaged.

    Args:
        whole_up_to: of a file with more bytes, only the tables are looked at that nothing runs without.

    Raises:
        DamagedError: it is.
    """
    whole = path.stat().st_size <= whole_up_to
    found = driver.damage(connection, () if whole else _ESSENTIAL_TABLES)
    if found is not None:
        raise damaged(path, found)


def inspect_thoroughly(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is damaged anywhere, be it in a message's text alone, which SQLite does not look at.

    Raises:
        DamagedError: it is.
    """
    found = driver.damage(connection, thorough=True)
    if found is not None:
        raise damaged(path, found)
    texts = TextCodec()
    bad = sum(texts.damaged(body) for table in ("inbox", "outbox") for body in driver.values(connection, table, "body"))
    if bad:
        raise damaged(path, f"the text of {bad} messages and replies cannot be read")


def copy(connection: sqlite3.Connection, path: Path, target: Path) -> None:
    """Copy into a file beside ``target``, and give the copy that name once it is whole and on the disk.

    Raises:
        RegistryError: the target exists or cannot be written, or the registry is damaged.
    """
    if os.path.lexists(target):
        raise files.exists(target)
    # A copy of a damaged file would take the place of a sound one.
    inspect(connection, path, float("inf"))
    write_copy(connection, target)


def write_copy(connection: sqlite3.Connection, target: Path) -> None:
    """As :func:`copy`, of what a connection has open, as it is.

    Raises:
        RegistryError: the target exists or cannot be written, or what is open cannot be read.
    """
    try:
        file, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            driver.copy(connection, Path(name))
            os.fsync(file)
            files.publish(Path(name), target)
        finally:
            os.close(file)
            Path(name).unlink(missing_ok=True)
    except FileExistsError:
        raise files.exists(target) from None
    except OSError as error:
        raise RegistryError(f"The file {target} cannot be created: {error.strerror}") from None
