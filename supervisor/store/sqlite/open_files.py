"""Whether the files that a registry's connections have open are still those at their paths.

A database that is deleted or replaced beneath its connections goes on working for them, and for nobody else: all of it
is gone when they close (https://sqlite.org/howtocorrupt.html). So the paths are looked at while it runs, by their
inodes. Only the log is opened for it: closing a second descriptor of another would give up SQLite's locks on the first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.store.sqlite import driver

#: The paths are cheap to look at; what is in the files is looked at once in so many looks.
THOROUGH_EVERY: Final = 5
_PARTS: Final = ("", "-wal", "-shm")
#: A log that holds anything begins with one.
_LOG_HEADER_BYTES: Final = 32


class Loss(NamedTuple):
    """What became of a registry's file while it was open.

    Args:
        reason: one line, which names the file.
        sound: what is open is whole, and may be written and copied; else it has another's bytes in it.
    """

    reason: str
    sound: bool = True


class OpenFiles:
    """The files of one registry as its connections opened them.

    Args:
        connection: has the database open, in a transaction: all of its files are there.
        uuid: the registry's own.

    Attributes:
        shorter: whether the database has become shorter since :meth:`cut` was last asked.
        log_shorter: whether its log has since :meth:`log_cut` was.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, uuid: str) -> None:
        self._path = path
        self._uuid = uuid
        self._inodes = {part: found.st_ino for part in _PARTS if (found := _look(self._at(part))) is not None}
        self._size, self._log_size = path.stat().st_size, 0
        self.shorter = self.log_shorter = False
        self._seen_at = 0
        self._pages, self._version = driver.page_count(connection), driver.data_version(connection)
        self._page_size = driver.page_size(connection)
        self._spoilt: Loss | None = None

    @property
    def inode(self) -> int:
        """Of the database itself."""
        return self._inodes[""]

    def _at(self, part: str) -> Path:
        return self._path.with_name(f"{self._path.name}{part}")

    def missing(self) -> Loss | None:
        """What is not where it was, by the paths alone; None when all is."""
        if self._spoilt is not None:
            return self._spoilt
        for part, inode in self._inodes.items():
            try:
                found = self._at(part).lstat()
            except (FileNotFoundError, NotADirectoryError):
                return Loss(f"{self._at(part)} was deleted while it was open")
            except OSError:
                # It cannot be told, as while its folder may not be read: what is open is open.
                return None
            if found.st_ino != inode:
                return Loss(f"{self._at(part)} was replaced by another file while it was open")
            if not part:
                if found.st_size == 0 < self._size:
                    return self._spoil(f"{self._path} was emptied while it was open")
                self.shorter |= found.st_size < self._size
                self._size = found.st_size
        return self._log_emptied()

    def _log_emptied(self) -> Loss | None:
        """Whether the log was emptied and written to since: what SQLite writes to an empty one begins with a header."""
        log = self._at("-wal")
        try:
            with log.open("rb") as file:
                size, header = os.fstat(file.fileno()).st_size, file.read(_LOG_HEADER_BYTES)
        except OSError:
            return None
        self.log_shorter |= size < self._log_size
        self._log_size = size
        return self._spoil(f"{log} was emptied while it was open") if header and not any(header) else None

    def log_cut(self) -> Loss | None:
        """Whether a log that has become shorter lacks what is nowhere else, as no log does that SQLite itself cut."""
        try:
            damaged = driver.damage_of(self._path) is not None
        except sqlite3.DatabaseError as error:
            damaged = driver.is_damage(error)
            if not damaged:
                return None
        self.log_shorter = False
        return self._spoil(f"{self._at('-wal')} was cut short while it was open") if damaged else None

    def cut(self, connection: sqlite3.Connection) -> Loss | None:
        """Whether a database that has become shorter was cut.

        Nobody shortens it but a VACUUM, which is a commit and leaves it sound. Without a commit of somebody else all
        pages are there that there were when this was last asked.
        """
        shorter, self.shorter = self.shorter, False
        had, version = self._pages * self._page_size, self._version
        try:
            self._pages, self._version = driver.page_count(connection), driver.data_version(connection)
            missing = self._version == version and self._size < had
            damaged = shorter and (missing or driver.damage_of(self._path) is not None)
        except sqlite3.DatabaseError as error:
            damaged = driver.is_damage(error)
        return self._spoil(f"{self._path} was cut short while it was open") if damaged else None

    def overwritten(self) -> Loss | None:
        """Whether other bytes have come into the same file, as a new connection reads it."""
        written_at = self._path.stat().st_mtime_ns
        if written_at == self._seen_at:
            return None
        try:
            uuid = driver.read_uuid(self._path)
        except sqlite3.DatabaseError as error:
            if not driver.is_damage(error):
                return None
            uuid = None
        self._seen_at = written_at
        return None if uuid == self._uuid else self._spoil(f"{self._path} was overwritten while it was open")

    def _spoil(self, reason: str) -> Loss:
        self._spoilt = Loss(reason, sound=False)
        return self._spoilt

    @property
    def own(self) -> bool:
        """Whether the database at the path is the one that is open, and whole."""
        return self._spoilt is None and self._ours("")

    def disown(self, saved: Path | None) -> None:
        """Keep SQLite from bringing the log into a file that is not its own any more; before the connections close.

        Args:
            saved: where all that is open was copied to; without that the log is kept under another name.
        """
        log = self._at("-wal")
        if self.own or not self._ours("-wal"):
            return
        if saved is None:
            with contextlib.suppress(OSError):
                shutil.copy2(log, self._at(".lost-wal"))
        if self._spoilt is not None:
            # A log without frames cannot be brought into the file when the last connection closes.
            os.truncate(log, 0)

    def clear(self) -> None:
        """Remove the log and its index, which another database at the path would be read with; once all is closed."""
        for part in ("-wal", "-shm"):
            if not self.own and self._ours(part):
                self._at(part).unlink(missing_ok=True)

    def _ours(self, part: str) -> bool:
        found = _look(self._at(part))
        return found is not None and found.st_ino == self._inodes.get(part)


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None
