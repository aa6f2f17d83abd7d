"""The copy that is made before a migration."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.store import LockInfo, Registry
from supervisor.store.sqlite import Sqlite
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
    assert await registry.forget_copies(clock.now()) == 0
    assert await registry.forget_copies(clock.now() + 1) == 1
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
