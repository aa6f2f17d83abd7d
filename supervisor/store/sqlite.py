"""All that is SQLite's own: where a file may lie, pragmas, transactions, and what its errors mean.

Two engines open the same file. Readers are asynchronous (aiosqlite). The one writer is a synchronous engine that lives
in a thread of its own (see ``writer.py``), because a transaction has to be one hop: through aiosqlite each statement
takes three or four, and on a loop that is busy each hop waits for the interpreter lock (measured: 30 to 160 ms a
transaction against 1 to 3 ms).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, StaticPool

from supervisor.core.errors import RegistryError

#: How long SQLite waits for another program's lock before it says busy; the journal then tries again by itself.
BUSY_TIMEOUT_SECONDS: Final = 5.0
READERS: Final = 4
SYNCHRONOUS: Final = frozenset({"NORMAL", "FULL"})
#: Files up to this size are read through when a supervisor starts (about a second per GiB from the page cache).
CHECKED_BYTES: Final = 256 * 1024 * 1024
MOUNTS = Path("/proc/mounts")
_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
# WAL's shared memory does not work across machines (https://sqlite.org/wal.html). 9p and overlay are left alone:
# containers and sandboxes put local disks behind them.
_NETWORK: Final = ("nfs", "cifs", "smb", "fuse.sshfs", "ceph", "fuse.ceph", "glusterfs", "fuse.glusterfs")

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
_WRITING: Final = {
    sqlite3.SQLITE_FULL: "the disk of the copy is full",
    sqlite3.SQLITE_IOERR: "the disk of the copy reports an input/output error; it may be full",
    sqlite3.SQLITE_READONLY: "the folder of the copy is read-only",
    sqlite3.SQLITE_CANTOPEN: "the copy cannot be opened; look at the rights of its folder",
    sqlite3.SQLITE_BUSY: "another program keeps the registry locked",
}
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


# ── places ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def database_path(url: str) -> Path:
    """The file that a registry's URL names.

    Raises:
        RegistryError: it is no URL, not SQLite's, or names no file.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise RegistryError(
            "SUPERVISOR_REGISTRY_URL is not a database URL; it looks like sqlite+aiosqlite:///supervisor.db"
        ) from None
    if parsed.drivername not in ("sqlite", "sqlite+aiosqlite"):
        raise RegistryError(
            f"SUPERVISOR_REGISTRY_URL has the scheme {parsed.drivername}, which is not supported; "
            "use sqlite+aiosqlite:///path/to/supervisor.db"
        )
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:") or parsed.query:
        raise RegistryError(
            "SUPERVISOR_REGISTRY_URL must name a file and nothing else, such as sqlite+aiosqlite:///path/to/supervisor.db"
        )
    return Path(parsed.database).absolute()


def check_place(path: Path) -> None:
    """Refuse a file that cannot be a registry, before anything is opened or made.

    Raises:
        RegistryError: its folder is missing, it lies on a network file system, or its rights forbid its use.
    """
    folder = path.parent
    if not folder.is_dir():
        raise RegistryError(f"The registry's folder {folder} does not exist; create it, or set SUPERVISOR_REGISTRY_URL")
    kind = network_file_system(path.resolve())
    if kind is not None:
        raise RegistryError(
            f"The registry {path} lies on a network file system ({kind}), where SQLite loses data; use a local disk"
        )
    if path.is_dir():
        raise RegistryError(f"The registry {path} is a folder; set SUPERVISOR_REGISTRY_URL to a file")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise RegistryError(f"The registry {path} cannot be read and written by this user; mend its rights")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RegistryError(f"The registry's folder {folder} cannot be written by this user; SQLite needs to")


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that ``path`` lies on, or None; None too where /proc/mounts is missing."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mounted = Path(_unescape(fields[1]))
        # A later line of the same mount point hides the earlier one.
        if path.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), fields[2]
    return kind if kind.startswith(_NETWORK) else None


def _unescape(field: str) -> str:
    for code, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, plain)
    return field


def orphaned_wal(path: Path) -> bool:
    """Whether a write-ahead log with committed rows in it lies beside a database that is missing or empty.

    SQLite would delete it. A database that is being made has its first page before it has a log.
    """
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0 and not (path.exists() and path.stat().st_size > 0)


def create_file(path: Path) -> None:
    """Make an empty file that only its owner can read, because it will hold people's messages."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


# ── engines ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lenient_text(raw: bytes) -> str:
    # Raw SQL can store text that is no UTF-8; one such row must not fail the reading of the others.
    return raw.decode("utf-8", "replace")


def _writer_pragmas(synchronous: str) -> tuple[str, ...]:
    return (
        "journal_mode=WAL",
        f"synchronous={synchronous}",
        "foreign_keys=ON",
        f"journal_size_limit={_WAL_LIMIT_BYTES}",
        "cache_size=-16384",
        "wal_autocheckpoint=4000",
        # Erased messages stay in no free page (DESIGN §4: they can be erased). Measured: pruning takes a fifth longer
        # than with FAST, which leaves pages that are freed whole as they are; nothing else does.
        "secure_delete=ON",
    )


def writer_engine(path: Path, synchronous: str) -> Engine:
    """The synchronous engine of the one connection that writes; every transaction begins with BEGIN IMMEDIATE."""
    if synchronous not in SYNCHRONOUS:
        raise RegistryError(f"synchronous is {synchronous!r}; it must be NORMAL or FULL")
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,
        hide_parameters=True,
        connect_args={
            "isolation_level": None,
            "check_same_thread": False,
            "timeout": BUSY_TIMEOUT_SECONDS,
            "cached_statements": 256,
        },
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.text_factory = _lenient_text
        try:
            for pragma in _writer_pragmas(synchronous):
                connection.execute(f"PRAGMA {pragma}").close()
        except sqlite3.Error:
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reader_engine(path: Path) -> AsyncEngine:
    """The asynchronous engine of the small pool that reads; its connections cannot write."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=READERS,
        max_overflow=0,
        hide_parameters=True,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.driver_connection.text_factory = _lenient_text
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    return engine


def empty_log(connection: Connection) -> None:
    """Bring the write-ahead log into the file and empty it: it holds what was erased until then.

    What a reader still looks at stays until the next checkpoint.
    """
    _driver(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)").close()


def abandon(connection: Connection) -> None:
    """Roll back whatever transaction is still open; nothing, as a rule."""
    driver = _driver(connection)
    if driver.in_transaction:
        driver.rollback()


def data_version(connection: Connection) -> int:
    """A number that changes when another connection has committed; asked outside transactions."""
    return int(_driver(connection).execute("PRAGMA data_version").fetchone()[0])


def damage(connection: Connection, tables: tuple[str, ...] = (), *, thorough: bool = False) -> str | None:
    """What SQLite finds wrong with the file, or with some of its tables; None when it is sound.

    Args:
        thorough: compare each index with its table too.
    """
    pragma = "integrity_check" if thorough else "quick_check"
    for argument in tables or ("1",):
        found = str(_driver(connection).execute(f"PRAGMA {pragma}({argument})").fetchone()[0])
        if found != "ok":
            return " ".join(found.split())[:200]
    return None


def values(connection: Connection, table: str, column: str) -> Iterator[Any]:
    """Every value of a column, one at a time; outside transactions."""
    for row in _driver(connection).execute(f"SELECT {column} FROM {table}"):  # noqa: S608 - names of our own
        yield row[0]


def copy(connection: Connection, target: Path) -> None:
    """Write a compact copy of the database into an empty file, as it is at one moment, while others write.

    Of SQLite's two ways to copy a live database this is the one that leaves out what was erased: the backup interface
    copies free pages too (https://sqlite.org/lang_vacuum.html#vacuuminto).

    Raises:
        RegistryError: the target cannot be written.
    """
    try:
        _driver(connection).execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _DAMAGED:
            raise
        raise RegistryError(f"The registry cannot be copied: {_WRITING.get(code, str(error))}") from None


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class StorageError(RegistryError):
    """SQLite cannot write or read just now, through no fault of the operation: it may be tried again."""


class DamagedError(StorageError):
    """The file is damaged, or no database at all."""


def explain(path: Path, error: Exception) -> RegistryError:
    """What an error of SQLite means, as one readable line; a :class:`StorageError` when it is worth another try."""
    original = error.orig if isinstance(error, DBAPIError) else error
    code = (getattr(original, "sqlite_errorcode", None) or 0) & 0xFF
    if code in _DAMAGED:
        return damaged(path, str(original))
    if code in _TRANSIENT:
        return StorageError(f"The registry {path} cannot be used now: {_TRANSIENT[code]}")
    # SQLAlchemy's own text quotes the parameters, which may be a person's words.
    return RegistryError(f"The registry {path} refused an operation: {original}")


def damaged(path: Path, detail: str) -> DamagedError:
    """The line for a file that is damaged."""
    return DamagedError(
        f"The registry {path} is damaged ({detail}); put a copy made by 'supervisor db backup' in its place, without "
        f"the files {path.name}-wal and {path.name}-shm, or move all three away and start with an empty registry"
    )


def is_transient(error: DBAPIError) -> bool:
    """Whether an error of the database is no fault of the operation, so that it may succeed later."""
    code = (getattr(error.orig, "sqlite_errorcode", None) or 0) & 0xFF
    return code in _TRANSIENT or code in _DAMAGED
