"""The copy of a registry's file that is made before a migration changes it.

It lies beside the file, named after the schema that came next and the time, such as
``supervisor.db.before-0003-20270131T120000Z``.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.store.sqlite import files, inspection
from supervisor.telemetry.logs import get_logger

_TIME: Final = "%Y%m%dT%H%M%SZ"


def make(connection: sqlite3.Connection, path: Path, before: str, now: float, spare_bytes: int) -> Path:
    """Copy the registry into a new file that only its owner can read; the copy.

    Args:
        before: the revision that it is about to be brought to.
        now: seconds since the epoch.
        spare_bytes: what must be free on the disk beside the file's own size.

    Raises:
        RegistryError: there is no room, the folder cannot be written, or the registry is damaged.
    """
    target = path.with_name(f"{path.name}.before-{before}-{datetime.fromtimestamp(now, UTC):{_TIME}}")
    if os.path.lexists(target):
        files.require_own(target)
        # An upgrade that failed after its copy was made is tried again within the second.
        return target
    needed, free = path.stat().st_size + spare_bytes, shutil.disk_usage(path.parent).free
    if free < needed:
        raise RegistryError(
            f"The registry {path} has to be brought to schema {before} and there is no room for the copy that is made "
            f"first: {free:,} bytes are free in {path.parent} and {needed:,} are needed; free some space, or do "
            "without the copy: SUPERVISOR_MIGRATION_COPY=false"
        )
    inspection.copy(connection, path, target)
    get_logger("supervisor.registry").info("registry_copied", copy=str(target), before=before)
    return target


def rescue(connection: sqlite3.Connection, path: Path, now: float) -> Path:
    """Copy what a connection has open, wherever its file has gone, beside its path or else where temporary files are.

    Args:
        now: seconds since the epoch.

    Raises:
        RegistryError: it cannot be copied.
    """
    beside = path.parent if os.access(path.parent, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    while os.path.lexists(target := beside / f"{path.name}{files.RESCUED}{datetime.fromtimestamp(now, UTC):{_TIME}}"):
        now += 1
    inspection.write_copy(connection, target)
    return target


def forget(path: Path, before: float) -> list[str]:
    """Delete the copies that were made before a time, in seconds since the epoch; their paths.

    Raises:
        RegistryError: one cannot be deleted.
    """
    old = [copy for copy, _, made in _found(path) if made < before]
    try:
        for copy in old:
            copy.unlink(missing_ok=True)
    except OSError as error:
        raise RegistryError(f"The old copy {copy} cannot be deleted: {error.strerror}") from None
    return [str(copy) for copy in old]


def newest(path: Path, before: str | None = None) -> Path | None:
    """The copy that was made last, of those made before the migration to a revision where one is given."""
    found = [(made, copy) for copy, revision, made in _found(path) if before in (None, revision)]
    return max(found)[1] if found else None


def _found(path: Path) -> Iterator[tuple[Path, str, float]]:
    """Each copy beside a registry: the revision that came next, and when it was made, in seconds since the epoch."""
    name = re.compile(rf"{re.escape(path.name)}\.before-(\w+)-(\d{{8}}T\d{{6}}Z)")
    for copy in path.parent.iterdir():
        if made := name.fullmatch(copy.name):
            yield copy, made[1], _seconds(made[2])


def _seconds(made: str) -> float:
    try:
        return datetime.strptime(made, _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        # No time of ours: never old.
        return float("inf")
