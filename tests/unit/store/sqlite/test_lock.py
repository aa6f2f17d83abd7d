"""One supervisor for one registry: the lock's sidecar, who is named, and that it is gone with its holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store.dialect.holder import LockInfo
from supervisor.store.sqlite.lock import RegistryLock, holder, refuse_beside, sidecar

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


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe"])
def test_a_sidecar_that_is_no_file_of_ours_is_refused_and_left_alone(database: Path, kind: str) -> None:
    path, victim = sidecar(database), database.with_name("victim")
    victim.write_text("theirs")
    match kind:
        case "symbolic link":
            path.symlink_to(victim)
        case "hard link":
            path.hardlink_to(victim)
        case "pipe":
            os.mkfifo(path)
    for ask in (lambda: RegistryLock(database, LockInfo()), lambda: holder(database)):
        with pytest.raises(RegistryError, match=r"supervisor\.db\.lock is "):
            ask()
    assert victim.read_text() == "theirs"


def test_who_has_another_file_open_is_no_company(database: Path) -> None:
    """A command beside a supervisor works on the supervisor's file or not at all."""
    refuse_beside(database)
    database.touch()
    lock = RegistryLock(database, LockInfo(inode=database.stat().st_ino))
    refuse_beside(database)
    database.rename(database.with_name("moved"))
    with pytest.raises(RegistryError, match=r"was deleted beneath it; stop it"):
        refuse_beside(database)
    database.touch()
    with pytest.raises(RegistryError, match=rf"pid {os.getpid()}.* was replaced beneath it; stop it"):
        refuse_beside(database)
    lock.announce(LockInfo(inode=database.stat().st_ino, lost="it was overwritten"))
    with pytest.raises(RegistryError, match="it was overwritten"):
        refuse_beside(database)
    lock.release()
    refuse_beside(database)
