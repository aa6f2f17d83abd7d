"""The registry under commands: a wrong folder, a file of another version, a link in place of a file (R35)."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.store import LockInfo
from supervisor.store.sqlite.lock import RegistryLock
from tests.support.command import Command, InProcess, one_line
from tests.support.paths import ROOT

A1 = "a" * 24
ADD = ("agents", "add", A1, "--handler", "echo", "--secret-env", "AGENT_SECRET")
#: Commands that only look, and others that can do nothing where there is no registry.
LOOKING = (
    ("agents", "list"),
    ("agents", "list", "--json"),
    ("agents", "show", A1),
    ("agents", "export"),
    ("agents", "reload", A1),
    ("messages", "list"),
    ("messages", "show", "1"),
    ("usage",),
    ("logs", A1),
    ("status",),
    ("db", "check"),
    ("db", "backup", "copy.db"),
)
CHANGING = (
    ("agents", "update", A1, "--name", "x"),
    ("agents", "pause", A1),
    ("agents", "resume", A1),
    ("agents", "remove", A1, "--yes"),
    ("messages", "replay", "1"),
    ("messages", "discard", "1"),
    ("messages", "purge", "--agent", A1, "--yes"),
)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return InProcess(tmp_path, {"AGENT_SECRET": "x", "SUPERVISOR_ADMIN_PORT": "1"})


def older(folder: Path) -> Path:
    """A registry as a release has left it, of a schema before ours."""
    path = folder / "supervisor.db"
    [made] = (ROOT / "tests" / "fixtures" / "0.1.0" / "made").glob("registry.db.gz")
    path.write_bytes(gzip.decompress(made.read_bytes()))
    return path


def schema(path: Path) -> str:
    with closing(sqlite3.connect(path)) as sql:
        [(revision,)] = sql.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(revision)


@pytest.mark.parametrize("args", LOOKING + CHANGING, ids=" ".join)
def test_in_a_wrong_folder_nothing_is_made_and_the_way_out_is_named(command: Command, args: tuple[str, ...]) -> None:
    done = command(*args)
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.splitlines()[-1]
    assert f"There is no registry at {command.folder}/supervisor.db" in said
    assert "SUPERVISOR_REGISTRY_URL" in said
    assert list(command.folder.iterdir()) == []


def test_what_is_to_be_made_is_made(command: Command) -> None:
    assert "supervisor run" in command.ok(*ADD)
    assert [agent["id"] for agent in command.json("agents", "list")] == [A1]


def test_beside_an_older_version_that_runs_nothing_is_migrated(command: Command) -> None:
    path = older(command.folder)
    was = schema(path)
    running = RegistryLock(path, LockInfo(inode=path.stat().st_ino))
    ids = sorted(entry["id"] for entry in command.json("agents", "export")["agents"])
    assert ids
    assert f"schema {was} (this version needs" in command.ok("db", "check")
    command.ok("messages", "list", "--state", "done")
    command.ok("usage")
    for args in (
        ADD,
        ("agents", "pause", ids[0]),
        ("messages", "purge", "--agent", ids[0], "--yes"),
        ("db", "upgrade"),
    ):
        done = command(*args)
        assert done.returncode == 1, args
        assert "a supervisor runs on it" in done.stderr.splitlines()[-1]
    command.ok("db", "backup", "before.db")
    assert (schema(path), schema(command.folder / "before.db")) == (was, was)
    running.release()
    assert not list(command.folder.glob("*.before-*"))
    # With nobody there to disturb, a change brings it up to date, and keeps what was.
    command.ok("agents", "pause", ids[0])
    [copy] = command.folder.glob("*.before-*")
    assert (schema(path) > was, schema(copy)) == (True, was)


@pytest.mark.parametrize("name", ["supervisor.db", "supervisor.db.lock", "supervisor.db-wal"])
def test_a_link_in_place_of_a_file_is_refused_and_nothing_behind_it_is_touched(command: Command, name: str) -> None:
    victim = command.folder / "victim"
    victim.write_bytes(b"theirs")
    (command.folder / name).symlink_to(victim)
    for args in (ADD, ("agents", "list"), ("db", "upgrade")):
        done = command(*args)
        assert done.returncode == 1
        assert f"{name} is a symbolic link" in one_line(done.stderr)
    assert victim.read_bytes() == b"theirs"


def test_a_registry_is_copied_to_where_a_variable_says_and_marked(tmp_path: Path) -> None:
    target = tmp_path / "new.db"
    command = InProcess(tmp_path, {"AGENT_SECRET": "x", "NEW_URL": f"sqlite+aiosqlite:///{target}"})
    command.ok(*ADD)
    assert "1 agents, 0 messages and 0 replies" in command.ok("db", "copy", "--to", "env:NEW_URL")
    assert A1 in command.ok("agents", "list", SUPERVISOR_REGISTRY_URL=f"sqlite+aiosqlite:///{target}")
    again = command("db", "copy", "--to", "-", stdin=f"sqlite+aiosqlite:///{tmp_path}/again.db\n")
    assert (again.returncode, "goes on there" in one_line(again.stderr)) == (1, True)
    assert "NOTHING is not set" in one_line(command("db", "copy", "--to", "env:NOTHING").stderr)


def test_a_folder_that_is_a_link_is_none_of_these(command: Command) -> None:
    (command.folder / "disk").mkdir()
    (command.folder / "data").symlink_to(command.folder / "disk")
    url = {"SUPERVISOR_REGISTRY_URL": f"sqlite+aiosqlite:///{command.folder}/data/supervisor.db"}
    command.ok(*ADD, **url)
    assert [agent["id"] for agent in command.json("agents", "list", **url)] == [A1]
    assert (command.folder / "disk" / "supervisor.db").is_file()


def test_copies_in_a_folder_are_named_after_the_time_and_the_oldest_go(tmp_path: Path) -> None:
    command = InProcess(tmp_path, {"AGENT_SECRET": "x"})
    command.ok(*ADD)
    (tmp_path / "backups").mkdir()
    for day in range(1, 4):
        (tmp_path / f"backups/supervisor-2020010{day}T000000Z.db").touch()
    made = command.json("db", "backup", "backups/", "--keep", "2")
    assert made["deleted"] == [f"backups/supervisor-2020010{day}T000000Z.db" for day in (2, 1)]
    left = sorted(path.name for path in (tmp_path / "backups").iterdir())
    assert left == ["supervisor-20200103T000000Z.db", Path(made["file"]).name]
    with closing(sqlite3.connect(tmp_path / made["file"])) as copy:
        assert copy.execute("SELECT id FROM agents").fetchall() == [(A1,)]
    done = command("db", "backup", "one.db", "--keep", "2")
    assert (done.returncode, one_line(done.stderr)) == (
        1,
        "Error: --keep is for a folder of copies; put a / behind one.db",
    )
