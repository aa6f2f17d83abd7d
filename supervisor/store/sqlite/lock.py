"""One supervisor for one registry: an exclusive lock on a sidecar file that names its holder.

The kernel drops the lock with the process, however that ends; the file itself stays. Whoever gives the lock up empties
it: what it still says where nobody holds it was left by a run that did not end well (``docs/faults.md#r26``).
Everything else in this package relies on the lock where it takes the process for the only one that runs agents
(``docs/architecture.md#one-process``).
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store.dialect import LockInfo
from supervisor.store.dialect.holder import FailedRun
from supervisor.store.sqlite.files import open_own

_RETRIES = 10
_PAUSE_SECONDS = 0.03
#: Nobody says more of himself.
_MOST_BYTES = 64 * 1024


class RegistryLock:
    """The lock of one registry, held from its construction to :meth:`release`.

    Raises:
        RegistryLockedError: somebody else holds it.
        RegistryError: the sidecar cannot be opened, or is a link or no regular file, which is left alone.
    """

    def __init__(self, database: Path, info: LockInfo) -> None:
        path = self._path = sidecar(database)
        self._info = info
        try:
            self._file = open_own(path, os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise RegistryError(f"The registry's lock {path} cannot be opened: {error.strerror}") from None
        if not self._taken():
            who = _read(self._file)
            os.close(self._file)
            raise RegistryLockedError(
                f"Another supervisor runs on the registry {database}: {who or 'it has not said who it is'}; "
                "stop it first, or set SUPERVISOR_REGISTRY_URL to another file"
            ) from None
        self._failed = _failed_run(self._file, database)
        self.announce(info)

    def _taken(self) -> bool:
        """Take the lock; somebody who only asks who holds it has it for a moment, so one refusal is not the answer."""
        for pause in (*[_PAUSE_SECONDS] * _RETRIES, 0.0):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(pause)
            else:
                return True
        return False

    def announce(self, info: LockInfo) -> None:
        """Write who holds the lock, for those who are refused."""
        self._info = info
        content = msgspec.json.encode(info) + b"\n"
        os.pwrite(self._file, content, 0)
        os.ftruncate(self._file, len(content))
        # What is written without a position stands after it.
        os.lseek(self._file, 0, os.SEEK_END)

    @property
    def info(self) -> LockInfo:
        """What was said last of who holds it."""
        return self._info

    @property
    def file(self) -> int:
        """The file's descriptor: what is written there last, the next holder takes for where the event loop stood."""
        return self._file

    def take_failed_run(self) -> FailedRun | None:
        """The run before, where it did not end well; told once, and kept for the next holder until it is."""
        failed, self._failed = self._failed, None
        return failed

    def renew(self) -> bool:
        """Take the lock anew where its file was deleted or replaced; whether that was so.

        Raises:
            RegistryLockedError: somebody else has it meanwhile.
            RegistryError: what is at its path is no file of ours, or none can be made there.
        """
        try:
            if self._path.lstat().st_ino == os.fstat(self._file).st_ino:
                return False
        except OSError:
            pass
        try:
            file = open_own(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise RegistryError(f"The registry's lock {self._path} cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            who = _read(file)
            os.close(file)
            raise RegistryLockedError(
                f"The lock {self._path} is another supervisor's now: {who or 'it has not said who it is'}"
            ) from None
        # The number stays, for whoever writes to it.
        os.dup2(file, self._file, inheritable=False)
        os.close(file)
        self.announce(self._info)
        return True

    def release(self) -> None:
        """Give the lock up; idempotent. Nothing stays in the file but what the next holder is to hear."""
        if self._file < 0:
            return
        if not self._info.ended:
            os.ftruncate(self._file, 0)
            if self._failed is not None:
                self.announce(self._failed.info)
                os.write(self._file, self._failed.stack.encode())
        os.close(self._file)
        self._file = -1


def sidecar(database: Path) -> Path:
    """The file that is locked for a database file."""
    return database.with_name(database.name + ".lock")


def holder(database: Path) -> LockInfo | None:
    """Who holds the lock of a database file; None when nobody does.

    Raises:
        RegistryError: the sidecar is a link or no regular file.
    """
    try:
        file = open_own(sidecar(database), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(file)
    else:
        return None
    finally:
        os.close(file)


def refuse_beside(database: Path) -> None:
    """Refuse to work on a file that is not the one that the supervisor of its path has open.

    Raises:
        RegistryError: what is at the path now is another file, or none; or the sidecar is not ours.
    """
    running = holder(database)
    if running is None or not (running.lost or running.inode):
        return
    try:
        inode = database.stat().st_ino
    except OSError:
        inode = 0
    if running.lost or inode != running.inode:
        what = running.lost or f"{database} was {'replaced' if inode else 'deleted'} beneath it"
        raise RegistryError(
            f"The supervisor (pid {running.pid} on {running.host}) has another file open than is at {database} now: "
            f"{what}; stop it, which saves what it holds beside the registry, and put the right file there"
        )


def _read(file: int) -> LockInfo | None:
    try:
        said, _, _ = os.pread(file, _MOST_BYTES, 0).partition(b"\n")
        return msgspec.json.decode(said, type=LockInfo)
    except (OSError, msgspec.DecodeError):
        return None


def _failed_run(file: int, database: Path) -> FailedRun | None:
    """The supervisor whose lock this was and who never gave it up; commands that held it are of no interest."""
    info = _read(file)
    if info is None or not info.address:
        return None
    _, _, stack = os.pread(file, _MOST_BYTES, 0).partition(b"\n")
    return FailedRun(info, stack.decode(errors="replace").strip(), _written_at(database))


def _written_at(database: Path) -> float:
    """When something was written to a database last, in seconds since the epoch; 0 where there is none."""
    found = [0.0]
    for path in (database, database.with_name(f"{database.name}-wal")):
        with suppress(OSError):
            found.append(path.stat().st_mtime)
    return max(found)
