"""Opening a registry: what is refused and in which words, the schema, the lock."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import supervisor.store as package
from supervisor.core.clock import SystemClock
from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.core.records import AgentRecord, UsageRecord
from supervisor.store import Access, LockInfo, Registry, backup, check, lock_holder, upgrade
from supervisor.store.sql import schema
from supervisor.store.sqlite import Sqlite
from supervisor.store.sqlite.migrate import REVISIONS, Migrations
from tests.support.migrations import coming_revision
from tests.support.registries import sqlite_of

HEADER = b"SQLite format 3\x00"


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def refusal(url: str, dialect: Sqlite | None = None, **how: Any) -> str:
    with pytest.raises(RegistryError) as caught:
        await (dialect or Sqlite()).open(url, clock=SystemClock(), **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def make(url: str, dialect: Sqlite) -> None:
    """Make a registry, or bring one up to date."""
    await (await dialect.open(url, clock=SystemClock(), upgrade=True)).close()


async def add_agents(path: Path, number: int) -> None:
    registry = await Registry.open(url_of(path), upgrade=True)
    settings = {"filling": "x" * 500}
    await registry.apply(
        add=[
            AgentRecord(id=f"agent-{i}", handler="echo", secret="env:AGENT_A", settings=settings) for i in range(number)
        ]
    )
    await registry.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+asyncpg://user:password@host/db", "scheme postgresql"),
        ("mysql://host/db", "scheme mysql"),
        ("not a url", "not a database URL"),
        ("", "not a database URL"),
        ("sqlite+aiosqlite://", "must name a file"),
        ("sqlite+aiosqlite:///:memory:", "must name a file"),
        ("sqlite+aiosqlite:///a.db?mode=ro", "must name a file"),
        ("sqlite+aiosqlite:////nonexistent/folder/a.db", "does not exist"),
    ],
)
async def test_a_url_that_names_no_registry_is_refused(url: str, words: str) -> None:
    told = await refusal(url, upgrade=True)
    assert words in told
    assert "password" not in told


async def test_without_a_schema_the_command_to_run_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert "supervisor db upgrade" in await refusal(url_of(path))
    assert list(tmp_path.iterdir()) == []
    path.touch()
    assert "supervisor db upgrade" in await refusal(url_of(path))


async def test_an_older_schema_names_the_command_to_run(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await upgrade(url_of(path))
    coming = Sqlite(migrations=Migrations(revisions=(*REVISIONS, "9999")))
    told = await refusal(url_of(path), coming)
    assert REVISIONS[-1] in told
    assert "supervisor db upgrade" in told


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await upgrade(url_of(path))
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("UPDATE alembic_version SET version_num = '9999'")
        sql.commit()
    for upgrading in (False, True):
        told = await refusal(url_of(path), upgrade=upgrading)
        assert "newer schema (9999)" in told
    with closing(sqlite3.connect(path)) as sql:
        assert sql.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


async def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("CREATE TABLE agents (id, theirs)")
        sql.commit()
    assert "not the supervisor's" in await refusal(url_of(path), upgrade=True)
    with closing(sqlite3.connect(path)) as sql:
        assert sql.execute("SELECT name FROM sqlite_master").fetchall() == [("agents",)]


@pytest.mark.parametrize("content", [b"no database, just text" * 300, HEADER + b"\xff" * 9000, b"\x00" * 8192])
async def test_a_file_that_is_no_database_is_refused_with_the_way_back(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    for lock in (None, LockInfo()):
        told = await refusal(url_of(path), upgrade=True, lock=lock)
        assert "damaged" in told
        assert "supervisor db backup" in told
    assert path.read_bytes() == content


@pytest.mark.parametrize("damage", ["truncated", "scribbled"])
async def test_a_database_damaged_inside_does_not_start_a_supervisor(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.db"
    await add_agents(path, 300)
    content = bytearray(path.read_bytes())
    assert len(content) > 100_000
    if damage == "truncated":
        del content[len(content) // 2 :]
    else:
        content[-60_000:-10_000] = b"\xa5" * 50_000
    path.write_bytes(content)
    assert "damaged" in await refusal(url_of(path), upgrade=True, lock=LockInfo())
    with pytest.raises(RegistryError, match="damaged"):
        await check(url_of(path))
    assert lock_holder(url_of(path)) is None


async def test_of_a_large_file_the_essential_tables_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await add_agents(path, 300)
    content = bytearray(path.read_bytes())
    content[-60_000:-10_000] = b"\xa5" * 50_000
    path.write_bytes(content)
    assert "damaged" in await refusal(url_of(path), Sqlite(whole_up_to=1), upgrade=True, lock=LockInfo())


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("nfs4", True), ("cifs", True), ("smb3", True), ("fuse.sshfs", True), ("ceph", True), ("glusterfs", True)]
    + [(kind, False) for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "9p", "fuse.lxcfs", "zfs")],
)
async def test_network_file_systems_are_refused(tmp_path: Path, kind: str, refused: bool) -> None:
    mounts = tmp_path / "mounts"
    shared = tmp_path / "with space"
    (shared / "below").mkdir(parents=True)
    escaped = str(shared).replace(" ", "\\040")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {escaped} {kind} rw 0 0\nbroken\n")
    url = url_of(shared / "below" / "a.db")
    if refused:
        assert kind in await refusal(url, Sqlite(mounts=mounts), upgrade=True)
    else:
        await make(url, Sqlite(mounts=mounts))
    await make(url_of(tmp_path / "local.db"), Sqlite(mounts=mounts))
    await make(url_of(tmp_path / "elsewhere.db"), Sqlite(mounts=tmp_path / "missing"))


async def test_a_folder_and_a_wrong_setting_are_refused(tmp_path: Path) -> None:
    assert "is a folder" in await refusal(url_of(tmp_path))
    path = tmp_path / "a.db"
    assert "NORMAL or FULL" in await refusal(url_of(path), upgrade=True, synchronous="OFF", lock=LockInfo())
    assert lock_holder(url_of(path)) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
async def test_missing_rights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await upgrade(url_of(path))
    path.chmod(0)
    assert "rights" in await refusal(url_of(path))
    path.chmod(0o600)
    tmp_path.chmod(0o500)
    try:
        assert "cannot be written" in await refusal(url_of(path))
    finally:
        tmp_path.chmod(0o700)


async def test_the_migrations_make_the_tables_that_the_code_declares(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert await upgrade(url_of(path)) == REVISIONS[-1]
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, schema.metadata) == []
    finally:
        engine.dispose()


def test_the_revisions_that_the_code_knows_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(package.__file__).with_name("migrations")))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()] == list(reversed(REVISIONS))


async def test_what_an_older_version_counted_is_read_as_it_is_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await upgrade(url_of(path))
    with closing(sqlite3.connect(path)) as sql:
        # As 0003 had it.
        sql.execute("DROP TABLE conversation_summaries")
        sql.execute("DROP TABLE agent_events")
        for column in ("reasoning_tokens", "estimated_requests"):
            sql.execute(f"ALTER TABLE usage DROP COLUMN {column}")
        sql.execute("UPDATE alembic_version SET version_num = '0003'")
        sql.execute("INSERT INTO agent_keys (key, agent_id) VALUES (1, 'a1')")
        sql.execute("INSERT INTO usage VALUES ('2027-01-15', 1, 'm', 2, 15, 30, 7, 3.75, 1)")
        sql.commit()
    counted = [UsageRecord("a1", "m", "2027-01-15", 2, 15, 30, 7, 3.75, 1)]
    ways: tuple[dict[str, Any], ...] = ({"access": Access(reading=True)}, {"upgrade": True})
    for how in ways:
        registry = await Registry.open(url_of(path), **how)
        assert await registry.usage() == counted
        await registry.close()


async def test_a_migration_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    failing = coming_revision(tmp_path / "scripts", "op.execute(\"INSERT INTO meta VALUES ('uuid', 'twice')\")")
    assert "UNIQUE" in await refusal(url_of(path), Sqlite(migrations=failing), upgrade=True)
    with closing(sqlite3.connect(path)) as sql:
        assert sql.execute("SELECT name FROM sqlite_master").fetchall() == []
    await upgrade(url_of(path))


async def test_upgrading_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first = await Registry.open(url_of(path), upgrade=True)
    await first.close()
    second = await Registry.open(url_of(path), upgrade=True)
    await second.close()
    assert first.uuid == second.uuid
    other = await Registry.open(url_of(tmp_path / "b.db"), upgrade=True)
    await other.close()
    assert other.uuid != first.uuid


async def test_two_programs_may_create_it_at_once(tmp_path: Path) -> None:
    registries = await asyncio.gather(*[Registry.open(url_of(tmp_path / "a.db"), upgrade=True) for _ in range(4)])
    assert len({registry.uuid for registry in registries}) == 1
    for registry in registries:
        await registry.close()


async def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    registry = await Registry.open(url_of(path), upgrade=True)
    for file in tmp_path.glob("a.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    await registry.close()


async def test_the_connection_is_set_up_for_durability(tmp_path: Path) -> None:
    for asked, level in (("NORMAL", 1), ("FULL", 2)):
        registry = await Registry.open(url_of(tmp_path / "a.db"), upgrade=True, synchronous=asked)

        def pragmas(connection: sqlite3.Connection) -> list[object]:
            names = ("journal_mode", "synchronous", "foreign_keys", "journal_size_limit", "busy_timeout")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        found = await sqlite_of(registry).writer.transact(pragmas)
        await registry.close()
        assert found == ["wal", level, 1, 64 * 1024 * 1024, 5000]


async def test_check_says_how_it_stands_and_backup_copies_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await add_agents(path, 3)
    told = await check(url_of(path))
    assert "sound" in told
    assert "3 agents" in told
    copy = tmp_path / "copy.db"
    running = await Registry.open(url_of(path), lock=LockInfo())
    await backup(url_of(path), copy)
    with pytest.raises(RegistryError, match="exists already"):
        await backup(url_of(path), copy)
    await running.close()
    assert "3 agents" in await check(url_of(copy))
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with pytest.raises(RegistryError, match="cannot be created"):
        await backup(url_of(path), tmp_path / "missing" / "copy.db")


async def test_closing_twice_is_harmless_and_a_closed_journal_refuses(tmp_path: Path) -> None:
    registry = await Registry.open(url_of(tmp_path / "a.db"), upgrade=True)
    await registry.close()
    await registry.close()
    with pytest.raises(RegistryError, match="closed"):
        await registry.journal.maintenance.rescue()


HOLDER = """
import asyncio, sys
from supervisor.store import LockInfo, Registry
async def main():
    registry = await Registry.open(sys.argv[1], upgrade=True, lock=LockInfo("http://127.0.0.1:8640"))
    print("held", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


async def test_a_second_supervisor_is_refused_and_told_who_holds_the_registry(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    url = url_of(path)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(RegistryLockedError) as caught:
            await Registry.open(url, lock=LockInfo())
        told = str(caught.value)
        assert f"pid {child.pid} on {socket.gethostname()}" in told
        assert "http://127.0.0.1:8640" in told
        assert "\n" not in told
        holder = lock_holder(url)
        assert holder is not None
        assert (holder.pid, holder.address) == (child.pid, "http://127.0.0.1:8640")
        assert holder.started_at > 1_700_000_000
        # Commands work beside a running supervisor.
        beside = await Registry.open(url)
        await beside.close()
        child.kill()
        child.wait(30)
    # The lock went with the process, however it ended.
    assert lock_holder(url) is None
    registry = await Registry.open(url, lock=LockInfo())
    await registry.close()


async def test_the_lock_says_where_the_supervisor_listens_once_that_is_known(tmp_path: Path) -> None:
    url = url_of(tmp_path / "a.db")
    registry = await Registry.open(url, upgrade=True, lock=LockInfo())
    registry.announce(LockInfo("http://[::1]:1"))
    assert json.loads((tmp_path / "a.db.lock").read_text())["address"] == "http://[::1]:1"
    registry.announce(LockInfo("x"))
    holder = lock_holder(url)
    assert holder is not None
    assert holder.address == "x"
    (tmp_path / "a.db.lock").write_text("{")
    with pytest.raises(RegistryLockedError, match="not said who it is"):
        await Registry.open(url, lock=LockInfo())
    await registry.close()
    assert lock_holder(url) is None
    unlocked = await Registry.open(url)
    with pytest.raises(RegistryError, match="without a lock"):
        unlocked.announce(LockInfo())
    await unlocked.close()
    assert lock_holder(url_of(tmp_path / "never.db")) is None
