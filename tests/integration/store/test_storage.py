"""The registry's file damaged, cut, read-only; killed while it is made or migrated; copied while written (R14)."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord, UsageRecord
from supervisor.store import LockInfo, Registry, backup, check
from supervisor.store.sqlite import Sqlite
from supervisor.store.sqlite.migrate import OURS, REVISIONS, Migrations
from tests.support.journaling import add, answer, settle
from tests.support.migrations import COMING, coming_revision
from tests.support.paths import ROOT

PAGE = 4096


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.db"


async def fill(path: Path, messages: int = 120) -> None:
    """A registry with agents, and a journal some of whose texts take several pages."""
    registry = await Registry.open(url_of(path), upgrade=True)
    settings = {"filling": "x" * 500}
    await registry.apply(add=[AgentRecord(f"agent-{n}", "echo", "env:AGENT_A", settings=settings) for n in range(60)])
    for number in range(messages):
        content = "word " * (10 if number % 10 else 3000)
        row = await add(registry.journal, f"k{number}", content=content, conversation=f"c{number % 7}", claim=True)
        await settle(registry.journal, row, answer("reply " * 20))
    await registry.close()


async def refusal(path: Path) -> str:
    """What a supervisor says that cannot start."""
    with pytest.raises(RegistryError) as caught:
        await Registry.open(url_of(path), upgrade=True, lock=LockInfo())
    told = str(caught.value)
    assert "\n" not in told
    return told


@pytest.mark.parametrize("what", ["noise", "zeros"])
async def test_a_page_overwritten_anywhere_is_found_by_the_check(path: Path, what: str) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as sql:
        # A page that is not in use may hold anything.
        sql.execute("VACUUM")
    sound = path.read_bytes()
    for page in range(len(sound) // PAGE):
        content = bytearray(sound)
        noise = random.Random(page).randbytes(PAGE) if what == "noise" else bytes(PAGE)
        content[page * PAGE : (page + 1) * PAGE] = noise
        path.write_bytes(content)
        with pytest.raises(RegistryError, match="damaged") as caught:
            await check(url_of(path))
        assert "\n" not in str(caught.value), page
        assert path.read_bytes() == content, "left as it was"
    path.write_bytes(sound)
    assert "sound" in await check(url_of(path))


async def test_an_index_that_disagrees_with_its_table_is_found_by_the_check(path: Path) -> None:
    await fill(path)
    content = path.read_bytes()
    # An agent's id as its index has it: SQLite's quick check does not compare the two.
    with closing(sqlite3.connect(path)) as sql:
        [(root,)] = sql.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_agents_1'")
    spot = content.index(b"agent-33", (root - 1) * PAGE, root * PAGE)
    path.write_bytes(content[:spot] + b"agent-zz" + content[spot + 8 :])
    with pytest.raises(RegistryError, match="damaged"):
        await check(url_of(path))


@pytest.mark.parametrize("kept", [0, 2, 100, PAGE - 1, PAGE, 10 * PAGE, 10 * PAGE + 1])
async def test_a_file_cut_short_is_refused_or_empty(path: Path, kept: int) -> None:
    await fill(path)
    path.write_bytes(path.read_bytes()[:kept])
    if kept == 0:
        # As a file that was never used; what says that it was would lie in the log beside it.
        registry = await Registry.open(url_of(path), upgrade=True, lock=LockInfo())
        assert await registry.agents() == []
        await registry.close()
        return
    told = await refusal(path)
    assert "damaged" in told
    assert "supervisor db backup" in told
    assert len(path.read_bytes()) == kept


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
async def test_a_log_without_its_database_is_not_thrown_away(path: Path, tmp_path: Path, left: str) -> None:
    registry = await Registry.open(url_of(path), upgrade=True)
    await add(registry.journal, "k1")
    log = tmp_path / "supervisor.db-wal"
    written = log.read_bytes()
    assert written
    await registry.close()
    path.unlink()
    log.write_bytes(written)
    if left == "an empty file":
        path.touch()
    for lock in (None, LockInfo()):
        with pytest.raises(RegistryError, match=r"missing or empty.*supervisor.db-wal"):
            await Registry.open(url_of(path), upgrade=True, lock=lock)
    assert log.read_bytes() == written


async def logged(path: Path, messages: int) -> bytes:
    """A registry whose last messages are in its log only, as after a kill; the log."""
    registry = await Registry.open(url_of(path), upgrade=True)
    await add(registry.journal, "checkpointed")
    await registry.close()
    copy = path.with_name("while-open")
    copy.mkdir()
    registry = await Registry.open(url_of(path))
    for number in range(messages):
        row = await add(registry.journal, f"k{number}", claim=True)
        await settle(registry.journal, row, answer())
    for file in (path, path.with_name(f"{path.name}-wal")):
        (copy / file.name).write_bytes(file.read_bytes())
    await registry.close()
    log = (copy / f"{path.name}-wal").read_bytes()
    path.write_bytes((copy / path.name).read_bytes())
    path.with_name(f"{path.name}-wal").write_bytes(log)
    return log


@pytest.mark.parametrize("where", ["header", "first frame", "middle", "end", "cut", "noise behind", "all"])
async def test_of_a_damaged_log_whole_transactions_are_kept(path: Path, where: str) -> None:
    """SQLite's checksums end the log at the first frame that is not right: what comes before it is kept."""
    log = bytearray(await logged(path, 20))
    noise = random.Random(where).randbytes
    match where:
        case "header":
            log[:32] = noise(32)
        case "first frame":
            log[40:80] = noise(40)
        case "middle":
            log[len(log) // 2 : len(log) // 2 + 100] = noise(100)
        case "end":
            log[-100:] = noise(100)
        case "cut":
            del log[len(log) * 2 // 3 :]
        case "noise behind":
            log += noise(3 * PAGE)
        case "all":
            log[:] = noise(len(log))
    path.with_name(f"{path.name}-wal").write_bytes(log)
    registry = await Registry.open(url_of(path), upgrade=True, lock=LockInfo())
    keys = [row.key for row in reversed(await registry.journal.messages())]
    assert keys == ["checkpointed", *[f"k{number}" for number in range(len(keys) - 1)]], "a beginning of what there was"
    expected = {"header": 1, "first frame": 1, "all": 1, "noise behind": 21}
    assert len(keys) == expected.get(where, len(keys))
    if where in ("middle", "cut"):
        assert 1 < len(keys) < 21
    await registry.journal.maintenance.rescue()
    await add(registry.journal, "afterwards")
    await registry.close()
    assert "sound" in await check(url_of(path))


# Rights bind nobody who may do everything: a test that runs as root gives that up first.
UNPRIVILEGED = """
import asyncio, os, sys
from pathlib import Path
from supervisor.core.errors import RegistryError
from supervisor.protocol import InboundMessage
from supervisor.store import LockInfo, Registry
folder, what = Path(sys.argv[1]), sys.argv[2]
path = folder / "supervisor.db"

def give_up_privileges():
    if os.geteuid() == 0:
        for each in (folder, *folder.iterdir()):
            os.chown(each, 65534, 65534)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

def add(registry, key):
    message = InboundMessage(conversation_id="c", role="user", content="x")
    return registry.journal.add("agent", message, key=key, received_at=1.0, claim=False)

async def main():
    registry = await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True, lock=LockInfo())
    await add(registry, "before")
    await registry.journal.messages()
    await registry.close()
    # Only now: what Python imports late may be out of reach afterwards.
    give_up_privileges()
    changed = folder if what == "folder" else folder / what
    changed.chmod(0o500 if what == "folder" else 0o400)
    try:
        await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True, lock=LockInfo())
    except RegistryError as error:
        print(error)
    changed.chmod(0o700 if what == "folder" else 0o600)
    registry = await Registry.open(f"sqlite+aiosqlite:///{path}", lock=LockInfo())
    # While it runs its files are open: taking the rights away does it no harm.
    changed.chmod(0o500 if what == "folder" else 0o400)
    await add(registry, "while read-only")
    changed.chmod(0o700 if what == "folder" else 0o600)
    print([row.key for row in await registry.journal.messages()])
    await registry.close()

asyncio.run(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others can reach too."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("folder", "folder {folder} cannot be written by this user"),
        ("supervisor.db", "cannot be read and written by this user; mend its rights"),
        ("supervisor.db.lock", "lock {folder}/supervisor.db.lock cannot be opened: Permission denied"),
    ],
)
def test_what_is_read_only_is_named_and_harms_nobody_who_runs(open_folder: Path, what: str, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(open_folder), what],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, kept = done.stdout.splitlines()
    assert words.format(folder=open_folder) in refused
    assert kept == "['while read-only', 'before']"


# One process that forks a child for each statement at which one is killed: to import everything takes longest.
KILLED = """
import asyncio, functools, os, pathlib, shutil, signal, sqlite3, sys
import alembic.command  # before the forks: it takes longest
from supervisor.core.clock import SystemClock
from supervisor.store import LockInfo
from supervisor.store.sqlite.migrate import OURS, REVISIONS, Migrations
from supervisor.store.sqlite import Sqlite
folder, start, scripts, *revisions = pathlib.Path(sys.argv[1]), sys.argv[2], *sys.argv[3:]
dialect = Sqlite(migrations=Migrations(pathlib.Path(scripts), tuple(revisions)))

async def bring_up(path):
    url = f"sqlite+aiosqlite:///{path}"
    database = await dialect.open(url, clock=SystemClock(), upgrade=True, lock=LockInfo())
    await database.close()

def run(path, number):
    counted = 0
    def count(*_):
        nonlocal counted
        counted += 1
        if counted == number:
            os.kill(os.getpid(), signal.SIGKILL)
    class Watched(sqlite3.Connection):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.set_trace_callback(count)
    sqlite3.connect = functools.partial(sqlite3.connect, factory=Watched)
    asyncio.run(bring_up(path))

number = 0
while True:
    number += 1
    path = folder / f"{number}.db"
    if start:
        shutil.copy(start, path)
    child = os.fork()
    if child == 0:
        run(path, number)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert status == 0, status
        break
    print(path, flush=True)
"""

# What a later version may well do: a table made anew with its rows, a column, an index.
STEPS = """
op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("agent_id", sa.Text))
op.execute("INSERT INTO notes (agent_id) SELECT id FROM agents")
op.add_column("outbox", sa.Column("sent_as", sa.Text))
op.execute("UPDATE outbox SET sent_as = 'x' || id")
op.create_index("outbox_sent_as", "outbox", ["sent_as"])
op.execute("ALTER TABLE conversations RENAME TO elsewhere")
op.execute("CREATE TABLE conversations AS SELECT * FROM elsewhere")
op.drop_table("elsewhere")
"""


def kills(folder: Path, start: Path | None = None, migrations: Migrations = OURS) -> list[Path]:
    """Bring databases up, each time killed at another statement; the databases that were left."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(start or ""), str(migrations.scripts), *migrations.revisions],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


async def test_killed_while_the_registry_is_made_the_next_start_makes_it(tmp_path: Path) -> None:
    left = await asyncio.to_thread(kills, tmp_path)
    assert len(left) > 20
    for path in left:
        # Nothing of it is there, or all of it: the last kills come after its commit.
        with closing(sqlite3.connect(path)) as sql:
            tables = {name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == set() or tables >= {"agents", "inbox", "outbox", "alembic_version"}, path
        registry = await Registry.open(url_of(path), upgrade=True, lock=LockInfo())
        assert registry.uuid
        await add(registry.journal, "k1")
        await registry.close()
    assert "sound" in await check(url_of(left[-1]))


async def test_killed_in_the_middle_of_a_migration_nothing_is_lost_and_the_next_start_completes_it(
    tmp_path: Path,
) -> None:
    start = tmp_path / "supervisor.db"
    await fill(start, messages=20)
    coming = coming_revision(tmp_path / "scripts", STEPS)
    folder = tmp_path / "killed"
    folder.mkdir()
    left = await asyncio.to_thread(kills, folder, start, coming)
    assert len(left) > 15
    dialect = Sqlite(migrations=coming)
    seen = set()
    for path in left:
        with closing(sqlite3.connect(path)) as sql:
            assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (revision,) = sql.execute("SELECT version_num FROM alembic_version").fetchone()
            tables = {name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            assert ("notes" in tables) == (revision == COMING), "all of it or nothing"
        seen.add(revision)
        if revision == REVISIONS[-1]:
            with pytest.raises(RegistryError, match="supervisor db upgrade"):
                await dialect.open(url_of(path), clock=SystemClock())
        database = await dialect.open(url_of(path), clock=SystemClock(), upgrade=True, lock=LockInfo())
        registry = Registry(database)
        assert len(await registry.agents()) == 60
        assert len(await registry.journal.messages(limit=1000)) == 20
        assert len(await registry.journal.conversations("64b5f0c2a1d2e3f405060708", since=0.0, limit=100)) == 7
        await registry.close()
        with closing(sqlite3.connect(path)) as sql:
            assert sql.execute("SELECT count(*), count(sent_as) FROM outbox").fetchone() == (20, 20)
            assert sql.execute("SELECT count(*) FROM notes").fetchone() == (60,)
    assert REVISIONS[-1] in seen


async def test_killed_while_the_first_schema_is_brought_up_to_date_nothing_is_lost(tmp_path: Path) -> None:
    start = tmp_path / "supervisor.db"
    await fill(start, messages=20)
    since = {"usage", "agent_lives", "conversation_summaries", "agent_events"}
    with closing(sqlite3.connect(start)) as sql:
        # As the first version left it.
        sql.executescript("".join(f"DROP TABLE {table};" for table in since))
        sql.execute("UPDATE alembic_version SET version_num = '0001'")
        sql.commit()
    folder = tmp_path / "killed"
    folder.mkdir()
    seen = set()
    for path in await asyncio.to_thread(kills, folder, start):
        with closing(sqlite3.connect(path)) as sql:
            (revision,) = sql.execute("SELECT version_num FROM alembic_version").fetchone()
            tables = {name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables & since == (set() if revision == "0001" else since)
        seen.add(revision)
        registry = await Registry.open(url_of(path), upgrade=True, lock=LockInfo())
        assert len(await registry.agents()) == 60
        assert len(await registry.journal.messages(limit=1000)) == 20
        registry.journal.usage.add(UsageRecord("agent-1", "m", "2027-01-15", requests=1, input_tokens=5))
        await registry.journal.flush()
        assert [used.input_tokens for used in await registry.usage()] == [5]
        await registry.close()
    assert seen == {"0001", REVISIONS[-1]}


async def test_a_damaged_file_is_not_migrated(path: Path, tmp_path: Path) -> None:
    await fill(path)
    content = bytearray(path.read_bytes())
    content[-10 * PAGE : -5 * PAGE] = b"\xa5" * (5 * PAGE)
    path.write_bytes(content)
    dialect = Sqlite(migrations=coming_revision(tmp_path / "scripts", STEPS))
    for lock in (None, LockInfo()):
        with pytest.raises(RegistryError, match="damaged"):
            await dialect.open(url_of(path), clock=SystemClock(), upgrade=True, lock=lock)
    assert path.read_bytes() == content


WRITER = """
import asyncio, sys
from supervisor.store import LockInfo, Registry
from tests.support.journaling import add, answer, settle
from tests.support.migrations import COMING, coming_revision

async def lane(journal, number):
    for turn in range(100_000):
        key = f"{number}-{turn}"
        row = await add(journal, key, conversation=f"c{number}", claim=True, content="word " * 50)
        await settle(journal, row, answer(key, conversation=f"c{number}"))
        if turn == 20 and number == 0:
            print("writing", flush=True)

async def main():
    registry = await Registry.open(sys.argv[1], upgrade=True, lock=LockInfo())
    await asyncio.gather(*[lane(registry.journal, number) for number in range(20)])

asyncio.run(main())
"""


async def test_copies_made_while_a_supervisor_writes_are_sound_and_of_one_moment(path: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url_of(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "writing\n"
        try:
            for number in range(3):
                await backup(url_of(path), tmp_path / f"copy{number}.db")
                assert child.poll() is None
        finally:
            child.kill()
    sizes = []
    for number in range(3):
        copy = tmp_path / f"copy{number}.db"
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert "sound" in await check(url_of(copy))
        with closing(sqlite3.connect(copy)) as sql:
            sizes.append(sql.execute("SELECT count(*) FROM inbox").fetchone()[0])
            # A message that is done has its reply, one that runs has none.
            odd = "SELECT count(*) FROM inbox WHERE (state = 4) != (id IN (SELECT inbox_id FROM outbox))"
            assert sql.execute(odd).fetchone() == (0,)
    assert sizes == sorted(sizes)
    assert sizes[0] > 20
    assert sizes[0] < sizes[2]


# Writing beyond the limit fails as on a disk that is full.
COPIER = """
import asyncio, resource, sys
from pathlib import Path
from supervisor.core.errors import RegistryError
from supervisor.store import backup
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    asyncio.run(backup(sys.argv[1], Path(sys.argv[2])))
except RegistryError as error:
    print(error)
# What measures the tests' coverage writes a file when the process ends.
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("size", [10 * PAGE, 40 * PAGE])
async def test_a_copy_that_fails_leaves_nothing(path: Path, tmp_path: Path, size: int) -> None:
    await fill(path)
    folder = tmp_path / "copies"
    folder.mkdir()
    target = folder / "copy.db"
    command = [sys.executable, "-c", COPIER, url_of(path), str(target), str(size)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert "cannot be" in done.stdout
    assert list(folder.iterdir()) == []


async def test_a_copy_never_takes_a_files_place_and_never_holds_damage(path: Path, tmp_path: Path) -> None:
    await fill(path)
    for name, content in (("empty.db", b""), ("other.db", b"theirs")):
        target = tmp_path / name
        target.write_bytes(content)
        with pytest.raises(RegistryError, match="exists already"):
            await backup(url_of(path), target)
        assert target.read_bytes() == content
    damaged = bytearray(path.read_bytes())
    damaged[20 * PAGE : 21 * PAGE] = b"\xa5" * PAGE
    path.write_bytes(damaged)
    folder = tmp_path / "copies"
    folder.mkdir()
    with pytest.raises(RegistryError, match="damaged"):
        await backup(url_of(path), folder / "copy.db")
    assert list(folder.iterdir()) == []


async def test_what_was_erased_is_not_in_a_copy(path: Path, tmp_path: Path) -> None:
    registry = await Registry.open(url_of(path), upgrade=True)
    for number in range(200):
        await add(registry.journal, f"k{number}", content="kumquat " * 400, agent="erased")
    await registry.journal.maintenance.purge("erased")
    await registry.close()
    target = tmp_path / "copy.db"
    await backup(url_of(path), target)
    assert b"kumquat" not in target.read_bytes()
