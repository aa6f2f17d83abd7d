"""The copy that is made before a migration."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.actors import SUPERVISOR
from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.core.records import AgentRecord
from supervisor.store import LockInfo, Registry
from supervisor.store.dialect.face import READING, Access, AgentChanges
from supervisor.store.dialect.history import Origin
from supervisor.store.sqlite import Sqlite, lock
from supervisor.store.sqlite.migrate import OURS
from tests.support.clock import ManualClock
from tests.support.migrations import COMING, coming_revision
from tests.support.stores import SqliteStore, open_on

STEPS = "op.execute(\"INSERT INTO meta VALUES ('mark', 'x')\")"


async def upgraded(store: SqliteStore, clock: ManualClock) -> Registry:
    """The registry as a version opens it that has one migration more."""
    return await open_on(store, clock=clock, lock=LockInfo())


@pytest.fixture
async def old(tmp_path: Path) -> SqliteStore:
    """A registry with an agent, and the way to the next schema."""
    store = SqliteStore(tmp_path)
    registry = await open_on(store)
    await registry.add_agent(AgentRecord("agent-1", "echo", "env:AGENT_A"))
    await registry.close()
    assert not list(tmp_path.glob("*.before-*")), "a new registry needs no copy"
    store.dialect = Sqlite(migrations=coming_revision(tmp_path / "scripts", STEPS))
    return store


async def test_what_is_older_is_copied_whole_before_it_changes(old: SqliteStore) -> None:
    clock = ManualClock()
    registry = await upgraded(old, clock)
    [copy] = old.folder.glob(f"supervisor.db.before-{COMING}-*")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as sql:
        assert sql.execute("SELECT id FROM agents").fetchall() == [("agent-1",)]
        assert sql.execute("SELECT count(*) FROM meta WHERE key = 'mark'").fetchone() == (0,)
    assert len(await registry.agents()) == 1
    await registry.close()
    await clock.advance(60)
    await (await upgraded(old, clock)).close()
    assert list(old.folder.glob("*.before-*")) == [copy], "the next start migrates nothing and copies nothing"


async def test_it_is_kept_until_it_is_old(old: SqliteStore) -> None:
    clock = ManualClock()
    registry = await upgraded(old, clock)
    beside = old.folder / "supervisor.db.before-my-own-experiments"
    beside.touch()
    [copy] = old.folder.glob(f"supervisor.db.before-{COMING}-*")
    assert await registry.forget_copies(clock.now()) == []
    assert await registry.forget_copies(clock.now() + 1) == [str(copy)]
    assert list(old.folder.glob("*.before-*")) == [beside], "only what we made is ours to delete"
    await registry.close()


async def test_without_room_for_it_nothing_is_migrated(old: SqliteStore) -> None:
    migrations = old.dialect.migrations  # type: ignore[attr-defined]
    old.dialect = Sqlite(migrations=migrations, spare_bytes=1 << 60)
    before = old.path.read_bytes()
    with pytest.raises(RegistryError, match=r"no room for the copy .* are needed; free some space") as caught:
        await upgraded(old, ManualClock())
    assert "\n" not in str(caught.value)
    assert old.path.read_bytes() == before
    assert not list(old.folder.glob("*.before-*"))
    assert "SUPERVISOR_MIGRATION_COPY=false" in str(caught.value)


async def test_whoever_does_without_a_copy_gets_none(old: SqliteStore) -> None:
    database = await old.dialect.open(old.url, clock=ManualClock(), upgrade=True, access=Access(migration_copy=False))
    assert database.revision == COMING
    await database.close()
    assert not list(old.folder.glob("*.before-*"))


@pytest.mark.parametrize("access", [Access(), Access(migration_copy=False), Access(create=False)])
async def test_what_a_supervisor_runs_is_not_migrated_beneath_it(old: SqliteStore, access: Access) -> None:
    running = await Sqlite().open(old.url, clock=ManualClock(), lock=LockInfo())
    with pytest.raises(RegistryLockedError, match=r"a supervisor runs on it \(pid .* stop it, then start this version"):
        await old.dialect.open(old.url, clock=ManualClock(), upgrade=True, access=access)
    reading = await old.dialect.open(old.url, clock=ManualClock(), access=READING)
    assert [row["id"] for row in await reading.agents.rows()] == ["agent-1"], "who only reads needs no newer schema"
    assert reading.revision == running.revision
    await reading.close()
    assert not list(old.folder.glob("*.before-*"))
    await running.close()
    migrated = await old.dialect.open(old.url, clock=ManualClock(), upgrade=True)
    assert migrated.revision == COMING
    assert lock.holder(old.path) is None, "held while it migrates, and no longer"
    await migrated.close()


async def test_an_older_version_is_told_the_way_back(old: SqliteStore) -> None:
    clock = ManualClock()
    await (await upgraded(old, clock)).close()
    [copy] = old.folder.glob(f"supervisor.db.before-{COMING}-*")
    for upgrade, access in ((True, Access()), (False, READING), (False, Access())):
        with pytest.raises(RegistryError, match=rf"newer schema \({COMING}\).*put {copy}, the copy made before that"):
            await Sqlite().open(old.url, clock=clock, upgrade=upgrade, access=access)
    copy.unlink()
    with pytest.raises(RegistryError, match="or restore a copy from before that"):
        await Sqlite().open(old.url, clock=clock)


async def test_a_registry_of_any_version_can_be_copied(old: SqliteStore) -> None:
    """By a version that knows the file's schema, a newer one, or an older one."""
    await Sqlite().backup(old.url, old.folder / "same.db")
    assert isinstance(old.dialect, Sqlite)
    await old.dialect.backup(old.url, old.folder / "older.db")
    await (await upgraded(old, ManualClock())).close()
    await Sqlite().backup(old.url, old.folder / "newer.db")
    for name in ("same", "older", "newer"):
        with closing(sqlite3.connect(old.folder / f"{name}.db")) as sql:
            assert sql.execute("SELECT id FROM agents").fetchall() == [("agent-1",)]


@pytest.mark.parametrize("kind", ["symlink", "dangling"])
async def test_a_copy_never_goes_where_something_else_points(old: SqliteStore, kind: str) -> None:
    target, victim = old.folder / "copy.db", old.folder / "victim"
    if kind == "symlink":
        victim.write_text("theirs")
    target.symlink_to(victim)
    with pytest.raises(RegistryError, match="exists already; name another"):
        await Sqlite().backup(old.url, target)
    assert target.is_symlink()
    assert [path.read_text() for path in (victim,) if path.exists()] == (["theirs"] if kind == "symlink" else [])


async def test_what_is_looked_at_stays_as_it_is(old: SqliteStore) -> None:
    """A copy is a file of its own form, which a look at it does not change."""
    copy = old.folder / "copy.db"
    await Sqlite().backup(old.url, copy)
    before = copy.read_bytes()
    assert isinstance(old.dialect, Sqlite)
    for migrations in (OURS, old.dialect.migrations):
        dialect = Sqlite(patience_seconds=0, migrations=migrations)
        reading = await dialect.open(f"sqlite+aiosqlite:///{copy}", clock=ManualClock(), access=READING)
        with pytest.raises(RegistryError):
            await reading.agents.write(AgentChanges(remove=["agent-1"]), Origin(0.0, SUPERVISOR))
        await reading.close()
    assert copy.read_bytes() == before
    assert sorted(path.name for path in old.folder.glob("copy.db*")) == ["copy.db"]
