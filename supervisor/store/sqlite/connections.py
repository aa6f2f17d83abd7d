"""The two kinds of connections that open one file, and their pragmas.

Whoever uses them runs each transaction, or query, as a whole in one thread (:mod:`supervisor.store.sqlite.writer`,
:mod:`supervisor.store.sqlite.pool`): with a hop of the event loop for each statement, each of them waits for the
interpreter lock on a loop that is busy (measured: 30 to 160 ms a transaction against 1 to 3 ms).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from supervisor.core.errors import RegistryError
from supervisor.store.sqlite import room
from supervisor.store.sqlite.files import address

SYNCHRONOUS: Final = frozenset({"NORMAL", "FULL"})
_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024


def _lenient_text(raw: bytes) -> str:
    # Raw SQL can store text that is no UTF-8; one such row must not fail the reading of the others.
    return raw.decode("utf-8", "replace")


def _writer_pragmas(path: Path, synchronous: str, reading: bool) -> tuple[str, ...]:
    if reading:
        # A copy that is looked at stays the file that it is.
        return ("query_only=ON", "cache_size=-16384")
    log_bytes = room.log_bytes(path, _WAL_LIMIT_BYTES)
    return (
        "journal_mode=WAL",
        f"synchronous={synchronous}",
        "foreign_keys=ON",
        f"journal_size_limit={log_bytes}",
        "cache_size=-16384",
        # What a statement over many rows would need to be undone: in a file it costs a third of a commit.
        "temp_store=MEMORY",
        # 4,000 pages of 4 KiB, a quarter of what the log may keep.
        f"wal_autocheckpoint={log_bytes // 16384}",
        # Erased messages stay in no free page. Measured: pruning takes a fifth longer than with FAST, which leaves
        # pages that are freed whole as they are; nothing else does.
        "secure_delete=ON",
    )


def open_writer(path: Path, synchronous: str, busy_seconds: float, *, reading: bool = False) -> sqlite3.Connection:
    """A connection that writes; whoever has it begins and ends its transactions.

    Args:
        synchronous: NORMAL or FULL.
        busy_seconds: how long SQLite waits for another program's lock before it says busy.
        reading: it cannot write either, and waits for nobody who does.

    Raises:
        RegistryError: ``synchronous`` is something else.
        sqlite3.Error: the file cannot be opened.
    """
    if synchronous not in SYNCHRONOUS:
        raise RegistryError(f"synchronous is {synchronous!r}; it must be NORMAL or FULL")
    return _open(path, busy_seconds, _writer_pragmas(path, synchronous, reading))


def open_reader(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """A connection that cannot write; each of its queries is a transaction of its own.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    return _open(path, busy_seconds, ("query_only=ON",))


def _open(path: Path, busy_seconds: float, pragmas: tuple[str, ...]) -> sqlite3.Connection:
    # No connection makes a file: what it finds missing was deleted beneath the others.
    connection = sqlite3.connect(
        address(path, "rw"),
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.text_factory = _lenient_text
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
