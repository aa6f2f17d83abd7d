"""A registry's file that is deleted, replaced, cut or overwritten beneath its connections (R29)."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.core.tasks import awaited
from supervisor.store import LockInfo, Registry, backup, check, lock_holder
from supervisor.store.dialect.face import StorageError
from supervisor.store.sqlite.lock import RegistryLock
from supervisor.store.sqlite.migrate import REVISIONS
from supervisor.store.sqlite.open_files import THOROUGH_EVERY
from tests.support.journaling import add
from tests.support.registries import sqlite_of

AGENTS = 60


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.db"


@pytest.fixture
async def running(path: Path) -> AsyncIterator[Registry]:
    """A registry that a supervisor holds: some of it in the file, the newest in its log."""
    made = await Registry.open(url_of(path), upgrade=True)
    settings = {"filling": "x" * 500}
    await made.apply(add=[AgentRecord(f"agent-{n}", "echo", "env:AGENT_A", settings=settings) for n in range(AGENTS)])
    await made.close()
    registry = await Registry.open(url_of(path), lock=LockInfo())
    await add(registry.journal, "before")
    assert await registry.look() is None
    yield registry
    await registry.close()


async def looked(registry: Registry) -> str | None:
    """What it finds by the time that it has looked at everything."""
    for _ in range(THOROUGH_EVERY):
        if lost := await registry.look():
            return lost
    return None


def saved(path: Path) -> Path:
    [copy] = path.parent.glob("supervisor.db.rescued-*")
    return copy


async def kept(path: Path) -> list[str]:
    """The messages in a registry file that is sound."""
    assert f"sound, schema {REVISIONS[-1]} (current), {AGENTS} agents" in await check(url_of(path))
    registry = await Registry.open(url_of(path))
    try:
        return [row.key for row in reversed(await registry.journal.messages())]
    finally:
        await registry.close()


def delete_all(path: Path) -> None:
    for each in path.parent.glob("supervisor.db*"):
        each.unlink()


def replace(path: Path) -> None:
    path.with_name("other").write_bytes(b"")
    path.with_name("other").replace(path)


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


async def commit_nothing(running: Registry) -> None:
    future, done = awaited()
    running.database.begin_commit([], done)
    await future


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (delete_all, "supervisor.db was deleted"),
        (Path.unlink, "supervisor.db was deleted"),
        (move_away, "supervisor.db was deleted"),
        (replace, "supervisor.db was replaced"),
        (lambda path: path.with_name("supervisor.db-wal").unlink(), "supervisor.db-wal was deleted"),
        (lambda path: path.with_name("supervisor.db-shm").unlink(), "supervisor.db-shm was deleted"),
        (lambda path: replace(path.with_name("supervisor.db-wal")), "supervisor.db-wal was replaced"),
    ],
    ids=["all of it", "the file", "moved", "replaced", "its log", "its index", "another log"],
)
async def test_what_is_lost_is_said_and_what_is_open_is_saved(
    running: Registry, path: Path, harm: object, said: str
) -> None:
    assert callable(harm)
    harm(path)
    lost = await running.look()
    assert lost is not None
    assert said in lost
    # Whoever comes beside it is told, whether it brings a file of its own or finds none.
    holder = lock_holder(url_of(path))
    assert holder is not None
    assert holder.lost == lost
    for upgrade in (False, True):
        with pytest.raises(RegistryError, match=r"stop it, which saves what it holds"):
            await Registry.open(url_of(path), upgrade=upgrade)
    with pytest.raises(RegistryError, match="is lost"):
        await running.add_agent(AgentRecord("late", "echo", "env:AGENT_A"))
    # The journal goes on, and is read, in what is open.
    first = Path(await running.save())
    assert await kept(first) == ["before"]
    await add(running.journal, "after")
    assert len(await running.agents()) == AGENTS
    await running.close()
    assert await kept(saved(path)) == ["before", "after"]
    assert (saved(path).stat().st_mode & 0o777, first.exists()) == (0o600, False)
    assert lock_holder(url_of(path)) is None


async def test_a_lost_registry_does_not_begin_anew_by_itself(running: Registry, path: Path) -> None:
    delete_all(path)
    assert await running.look()
    await running.close()
    for lock in (None, LockInfo()):
        with pytest.raises(RegistryError, match=r"rescued-\S+ holds what was saved .*; put that in its place"):
            await Registry.open(url_of(path), upgrade=True, lock=lock)
    assert not path.exists()
    # Nor does another one begin in its place, such as a command makes in the moment before the loss is noticed.
    await (await Registry.open(url_of(path.with_name("new.db")), upgrade=True)).close()
    path.with_name("new.db").rename(path)
    with pytest.raises(RegistryError, match=r"is not the one that was lost there: \S+ holds what was saved"):
        await Registry.open(url_of(path), upgrade=True, lock=LockInfo())
    assert lock_holder(url_of(path)) is None
    copy = saved(path)
    shutil.copyfile(copy, path)
    started = await Registry.open(url_of(path), upgrade=True, lock=LockInfo())
    await started.close()
    assert copy.exists(), "which is its owner's to delete"
    assert await kept(path) == ["before"]


async def test_a_file_that_comes_back_is_well(running: Registry, path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    assert await running.look()
    await add(running.journal, "meanwhile")
    path.with_name("elsewhere").rename(path)
    assert await running.look() is None
    await running.add_agent(AgentRecord("late", "echo", "env:AGENT_A"))
    beside = await Registry.open(url_of(path))
    assert [row.key for row in await beside.journal.messages()] == ["meanwhile", "before"]
    await beside.close()
    await running.close()
    assert not list(path.parent.glob("*.rescued-*"))


@pytest.mark.parametrize("what", ["emptied", "cut", "another registry", "an older copy", "noise"])
async def test_a_file_with_other_bytes_in_it_is_not_written_any_more(running: Registry, path: Path, what: str) -> None:
    copy, other = path.with_name("copy.db"), path.with_name("other.db")
    if what == "an older copy":
        await running.apply(remove=[f"agent-{n}" for n in range(AGENTS // 2)])
        await backup(url_of(path), copy)
        await running.apply(add=[AgentRecord(f"more-{n}", "echo", "env:AGENT_A") for n in range(20 * AGENTS)])
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert await looked(running) is None
    match what:
        case "emptied":
            os.truncate(path, 0)
        case "cut":
            os.truncate(path, path.stat().st_size // 2)
        case "another registry":
            made = await Registry.open(url_of(other), upgrade=True)
            await made.apply(add=[AgentRecord(f"their-{n}", "echo", "env:A" + "x" * 500) for n in range(20 * AGENTS)])
            await made.close()
            shutil.copyfile(other, path)
        case "an older copy":
            shutil.copyfile(copy, path)
        case "noise":
            path.write_bytes(b"no database at all " * 20_000)
    now_there = path.read_bytes() if what != "noise" else b""
    lost = await looked(running)
    assert lost is not None, what
    assert "while it was open" in lost
    with pytest.raises(StorageError, match="is lost"):
        await commit_nothing(running)
    await running.close()
    if now_there:
        assert path.read_bytes() == now_there, "nothing of the lost one is brought into what came in its place"
    assert not path.with_name("supervisor.db-wal").exists()


@pytest.mark.parametrize("kept_bytes", [0, 4152, -4120], ids=["all of it", "all but a page", "a page"])
@pytest.mark.parametrize("written", [False, True], ids=["at once", "after a commit"])
async def test_a_log_that_is_cut_destroys_nothing_that_is_in_the_file(
    running: Registry, path: Path, kept_bytes: int, written: bool
) -> None:
    log = path.with_name("supervisor.db-wal")
    for n in range(8):
        await add(running.journal, f"more-{n}")
    assert await looked(running) is None
    os.truncate(log, kept_bytes if kept_bytes >= 0 else log.stat().st_size + kept_bytes)
    if written and not kept_bytes:
        await sqlite_of(running).writer.call(lambda sql: sql.execute("UPDATE meta SET value = value"))
    lost = await looked(running)
    assert lost is not None
    assert re.search(r"supervisor\.db-wal was (emptied|cut short)", lost)
    with pytest.raises(StorageError, match="is lost"):
        await commit_nothing(running)
    await running.close()
    assert await check(url_of(path))


async def test_what_only_became_smaller_is_well(running: Registry, path: Path) -> None:
    await running.apply(remove=[f"agent-{n}" for n in range(AGENTS)])
    assert await looked(running) is None
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        # What is remembered of the agents that were removed.
        sql.execute("DELETE FROM agent_events")
        sql.execute("VACUUM")
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < size
    assert await looked(running) is None
    await add(running.journal, "after")
    assert await looked(running) is None


async def test_a_lock_that_is_gone_is_taken_anew_unless_another_supervisor_has_it(
    running: Registry, path: Path
) -> None:
    sidecar = path.with_name("supervisor.db.lock")
    sidecar.unlink()
    assert lock_holder(url_of(path)) is None
    assert await running.look() is None
    holder = lock_holder(url_of(path))
    assert holder is not None
    assert (holder.pid, holder.inode) == (os.getpid(), path.stat().st_ino)
    sidecar.unlink()
    theirs = RegistryLock(path, LockInfo("http://127.0.0.1:9"))
    lost = await running.look()
    assert lost is not None
    assert "another supervisor's now: pid" in lost
    with pytest.raises(StorageError, match="is lost"):
        await commit_nothing(running)
    await running.close()
    assert not list(path.parent.glob("*.rescued-*")), "all of it is where it was"
    theirs.release()
    assert await kept(path) == ["before"]


async def test_no_connection_makes_a_file_where_one_was_deleted(running: Registry, path: Path) -> None:
    path.unlink()
    with pytest.raises(StorageError, match="cannot be"):
        await running.agents()
    assert not path.exists()
    assert await running.look()
    assert len(await running.agents()) == AGENTS
    assert sqlite_of(running).lost
