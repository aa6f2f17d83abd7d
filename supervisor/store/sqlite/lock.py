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

_RETRIES = 10
_PAUSE_SECONDS = 0.03


class RegistryLock:
    """The lock of one registry, held from its construction to :meth:`release`.

    Raises:
        RegistryLockedError: somebody else holds it.
        RegistryError: the sidecar cannot be opened.
    """

    def __init__(self, database: Path, info: LockInfo) -> None:
        path = sidecar(database)
        try:
            self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RegistryError(f"The registry's lock {path} cannot be opened: {error.strerror}") from None
        if not self._taken():
            who = _read(path)
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
        content = msgspec.json.encode(info)
        os.pwrite(self._file, content, 0)
        os.ftruncate(self._file, len(content))

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
    """Who holds the lock of a database file; None when nobody does."""
    path = sidecar(database)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(path)
    else:
        return None
    finally:
        os.close(file)


def _read(path: Path) -> LockInfo | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LockInfo)
    except (OSError, msgspec.DecodeError):
        return None
