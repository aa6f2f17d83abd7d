"""What SQLite's errors mean, for people and for whoever may try again."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.store.dialect import DamagedError, StorageError

_TRANSIENT: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space on it",
    sqlite3.SQLITE_BUSY: "another program keeps it locked",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked",
    sqlite3.SQLITE_PROTOCOL: "another program keeps it locked",
    sqlite3.SQLITE_IOERR: "the disk reports an input/output error",
    sqlite3.SQLITE_READONLY: "it has become read-only; look at the rights of the file, its folder and the disk",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; look at the rights of the file, its folder and the disk",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}
#: What keeps a copy from being written.
_COPYING: Final = {
    sqlite3.SQLITE_FULL: "the disk of the copy is full",
    sqlite3.SQLITE_IOERR: "the disk of the copy reports an input/output error; it may be full",
    sqlite3.SQLITE_READONLY: "the folder of the copy is read-only",
    sqlite3.SQLITE_CANTOPEN: "the copy cannot be opened; look at the rights of its folder",
    sqlite3.SQLITE_BUSY: "another program keeps the registry locked",
}
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def explain(path: Path, error: Exception) -> RegistryError:
    """What an error of SQLite means, as one readable line; a :class:`StorageError` when it is worth another try."""
    code = _code(error)
    if code in _DAMAGED:
        return damaged(path, str(error))
    if code in _TRANSIENT:
        return StorageError(f"The registry {path} cannot be used now: {_TRANSIENT[code]}")
    way = "; if an older version made it: supervisor db upgrade" if str(error).startswith("no such table") else ""
    return RegistryError(f"The registry {path} refused an operation: {error}{way}")


def explain_copy(error: sqlite3.Error) -> RegistryError | None:
    """Why a copy cannot be written; None where the registry itself is damaged."""
    code = _code(error)
    if code in _DAMAGED:
        return None
    return RegistryError(f"The registry cannot be copied: {_COPYING.get(code, str(error))}")


def damaged(path: Path, detail: str) -> DamagedError:
    """The line for a file that is damaged."""
    return DamagedError(
        f"The registry {path} is damaged ({detail}); put a copy made by 'supervisor db backup' in its place, without "
        f"the files {path.name}-wal and {path.name}-shm, or move all three away and start with an empty registry"
    )


def is_transient(error: sqlite3.Error) -> bool:
    """Whether an error of the database is no fault of the operation, so that it may succeed later."""
    code = _code(error)
    return code in _TRANSIENT or code in _DAMAGED


def is_full(error: sqlite3.Error) -> bool:
    """Whether the disk is full."""
    return _code(error) == sqlite3.SQLITE_FULL


def _code(error: BaseException) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
