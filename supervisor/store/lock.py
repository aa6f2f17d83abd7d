"""One supervisor for one registry: an exclusive lock on a sidecar file that names its holder (DESIGN §5).

The kernel drops the lock with the process, however that ends; the file itself stays.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store.sqlite import database_path

_RETRIES = 10
_PAUSE_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds a registry.

    Args:
        address: where its admin API listens, such as ``http://127.0.0.1:8640``; empty when it does not.
        started_at: seconds since the epoch; 0 stands for the moment of locking.
        first_key: a mark of the first of its SECRET_KEYS (``SecretBox.first_key_id``); empty without any.
    """

    address: str = ""
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)
    started_at: float = 0.0
    first_key: str = ""

    def __str__(self) -> str:
        words = [f"pid {self.pid} on {self.host}"]
        if self.address:
            words.append(f"admin API at {self.address}")
        if self.started_at:
            words.append(f"since {datetime.fromtimestamp(self.started_at, UTC):%Y-%m-%d %H:%M:%S} UTC")
        return ", ".join(words)


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
            holder = _read(path)
            os.close(self._file)
            raise RegistryLockedError(
                f"Another supervisor runs on the registry {database}: {holder or 'it has not said who it is'}; "
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


def lock_holder(url: str) -> LockInfo | None:
    """Who holds the registry at ``url``; None when nobody does.

    Raises:
        RegistryError: the URL is not a registry's.
    """
    path = sidecar(database_path(url))
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
