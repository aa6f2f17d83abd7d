"""One supervisor for one registry: the lock's sidecar, who is named, and that it is gone with its holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store.dialect.holder import LockInfo
from supervisor.store.sqlite.lock import RegistryLock, holder, sidecar

HOLDS = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(sys.argv[2])
file.flush()
print("locked", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.db"


def test_whoever_holds_it_is_named_until_it_is_released(database: Path) -> None:
    assert holder(database) is None
    lock = RegistryLock(database, LockInfo(address="http://127.0.0.1:1", started_at=5.0))
    found = holder(database)
    assert found is not None
    assert (found.address, found.pid, found.started_at) == ("http://127.0.0.1:1", os.getpid(), 5.0)
    lock.announce(LockInfo(address="http://127.0.0.1:2"))
    found = holder(database)
    assert found is not None
    assert found.address == "http://127.0.0.1:2", "and nothing is left of what was longer"
    lock.release()
    lock.release()
    assert holder(database) is None
    assert sidecar(database).read_bytes() == b""


def test_a_second_one_is_refused_and_told_of_the_first(database: Path) -> None:
    lock = RegistryLock(database, LockInfo(address="http://127.0.0.1:1"))
    with pytest.raises(RegistryLockedError, match=f"pid {os.getpid()}"):
        RegistryLock(database, LockInfo())
    lock.release()
    RegistryLock(database, LockInfo()).release()


@pytest.mark.parametrize("written", ["", "no json", '{"pid": "five"}'])
def test_a_holder_that_has_not_said_who_it_is_holds_it_all_the_same_until_it_dies(database: Path, written: str) -> None:
    command = [sys.executable, "-c", HOLDS, str(sidecar(database)), written]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(RegistryLockedError, match="it has not said who it is"):
            RegistryLock(database, LockInfo())
        other.kill()
    RegistryLock(database, LockInfo()).release()


def test_a_sidecar_that_cannot_be_opened_is_an_error_of_its_own(database: Path) -> None:
    sidecar(database).mkdir()
    with pytest.raises(RegistryError, match=r"supervisor\.db\.lock cannot be opened"):
        RegistryLock(database, LockInfo())
