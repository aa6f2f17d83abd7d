"""One supervisor for one registry: the lock's sidecar, who is named, and that it is gone with its holder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.store.dialect.holder import FailedRun, LockInfo, boot_id
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


RUN = LockInfo(address="http://127.0.0.1:1", pid=7, version="1.2.3")
STACK = 'Stack (most recent call first):\n  File "blocks.py", line 5 in on_message\n'
DIES = """
import os, sys
from pathlib import Path
from supervisor.store.dialect.holder import LockInfo
from supervisor.store.sqlite.lock import RegistryLock

info = LockInfo(address="http://127.0.0.1:1", pid=7, version="1.2.3", boot=sys.argv[2] or LockInfo().boot)
lock = RegistryLock(Path(sys.argv[1]), info)
os.write(lock.file, sys.argv[3].encode())
os._exit(9)
"""


def die(database: Path, *, boot: str = "", stack: str = "") -> None:
    """Hold the lock in a process that ends without a word."""
    assert subprocess.run([sys.executable, "-c", DIES, database, boot, stack], check=False).returncode == 9


def failed(lock: RegistryLock) -> FailedRun:
    """The run that held the lock before."""
    found = lock.take_failed_run()
    assert found is not None
    assert lock.take_failed_run() is None, "once"
    return found


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ({}, "killed"),
        ({"stack": STACK}, "stalled"),
        ({"stack": f"Fatal Python error: Segmentation fault\n\n{STACK}"}, "crashed: Segmentation fault"),
        ({"boot": "another"}, "gone with its machine"),
    ],
)
def test_a_run_that_never_gave_it_up_is_told_to_the_next_with_all_that_is_known(
    database: Path, left: dict[str, str], reason: str
) -> None:
    database.touch()
    os.utime(database, (5.0, 5.0))
    die(database, **left)
    lock = RegistryLock(database, LockInfo())
    found = failed(lock)
    assert found.reason.startswith(reason)
    assert (found.info.pid, found.info.version, found.wrote_at) == (7, "1.2.3", 5.0)
    assert found.stack == left.get("stack", "").strip()
    lock.release()
    assert sidecar(database).read_bytes() == b""
    again = RegistryLock(database, LockInfo())
    assert again.take_failed_run() is None
    again.release()


def test_what_nobody_was_told_yet_is_kept_for_the_next(database: Path) -> None:
    """A start that failed, or a command that migrated, stood between."""
    die(database, stack=STACK)
    RegistryLock(database, LockInfo()).release()
    lock = RegistryLock(database, LockInfo())
    found = failed(lock)
    assert (found.info.pid, found.stack) == (7, STACK.strip())
    lock.release()


def test_a_run_that_says_why_it_ends_is_told_although_it_gives_it_up(database: Path) -> None:
    lock = RegistryLock(database, RUN)
    lock.announce(LockInfo(address=RUN.address, ended="main_ended: ValueError: it"))
    lock.release()
    assert holder(database) is None
    lock = RegistryLock(database, LockInfo())
    assert failed(lock).reason == "main_ended: ValueError: it"
    lock.release()


def test_commands_and_clean_ends_leave_nothing_to_tell(database: Path) -> None:
    for before in ("", "no json", '{"address": ""}', '{"pid": "five", "address": "http://[::1]:1"}'):
        sidecar(database).write_text(before)
        lock = RegistryLock(database, RUN)
        assert lock.take_failed_run() is None
        lock.release()
    lock = RegistryLock(database, LockInfo())
    assert lock.take_failed_run() is None
    lock.release()


def test_a_lock_that_is_renewed_keeps_its_descriptor(database: Path) -> None:
    lock = RegistryLock(database, RUN)
    number = lock.file
    sidecar(database).unlink()
    assert lock.renew()
    assert lock.file == number
    os.write(number, STACK.encode())
    found = holder(database)
    assert found == RUN
    assert sidecar(database).read_text().endswith(STACK)
    lock.announce(RUN)
    assert STACK not in sidecar(database).read_text(), "what is said anew stands alone"
    lock.release()


def test_the_machines_starts_are_told_apart_where_the_system_does() -> None:
    assert boot_id() == boot_id() == LockInfo().boot
