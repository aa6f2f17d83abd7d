"""One supervisor for one registry: an exclusive lock on a sidecar file that names its holder.

The kernel drops the lock with the process, however that ends; the file itself stays. Everything else in this package
relies on the lock where it takes the process for the only one that runs agents (``docs/architecture.md#one-process``).
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import msgspec

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store.dialect import LockInfo
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
        content = msgspec.json.encode(info)
        os.pwrite(self._file, content, 0)
        os.ftruncate(self._file, len(content))

    @property
    def info(self) -> LockInfo:
        """What was said last of who holds it."""
        return self._info

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
        self._file, before = file, self._file
        os.close(before)
        self.announce(self._info)
        return True

    def release(self) -> None:
        """Give the lock up; idempotent."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
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
        return msgspec.json.decode(os.pread(file, _MOST_BYTES, 0), type=LockInfo)
    except (OSError, msgspec.DecodeError):
        return None
