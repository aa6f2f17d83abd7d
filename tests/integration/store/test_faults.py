"""The disk full, the file locked, one bad operation, impatient callers: nothing is lost and nobody else suffers."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord, JournaledMessage, NewReply
from supervisor.core.states import MessageState
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.store import LockInfo, Registry
from supervisor.store.committer import JournalLimits
from supervisor.store.sqlite import Sqlite
from tests.support.registries import free_disk, limit_disk

AGENT = "agent"
BUSY_SECONDS = 0.2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.db"


@pytest.fixture
async def registry(path: Path) -> AsyncIterator[Registry]:
    async with opened(path) as registry:
        yield registry


@asynccontextmanager
async def opened(
    path: Path, limits: JournalLimits | None = None, patience_seconds: float = 30.0
) -> AsyncIterator[Registry]:
    """A registry whose SQLite does not wait for a lock for long; the journal's own patience comes on top."""
    dialect = Sqlite(BUSY_SECONDS, patience_seconds)
    database = await dialect.open(url_of(path), clock=SystemClock(), upgrade=True)
    registry = Registry(database, limits=limits)
    yield registry
    await registry.close()


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def inbound(content: str = "hello", conversation: str = "c1") -> InboundMessage:
    return InboundMessage(conversation_id=conversation, role="user", content=content)


def answer(part: int = 0) -> NewReply:
    return NewReply(part, OutboundMessage(role="assistant", content="hi", conversation_id="c1"))


async def add(registry: Registry, key: str, content: str = "hello") -> JournaledMessage:
    row = await registry.journal.add(AGENT, inbound(content), key=key, received_at=1.0, claim=True)
    assert row is not None
    return row


async def until_unhealthy(registry: Registry) -> str:
    async with asyncio.timeout(30):
        while registry.journal.healthy:
            await asyncio.sleep(0.01)
    problem = registry.journal.problem
    assert problem is not None
    assert "\n" not in problem
    return problem


async def test_a_full_disk_keeps_everything_in_memory_and_recovers_by_itself(registry: Registry) -> None:
    errors: list[str] = []
    registry.journal.hooks.on_error = errors.append
    before = await add(registry, "before")
    await limit_disk(registry, 0)
    adding = [asyncio.create_task(add(registry, f"k{i}", "x" * 2000)) for i in range(200)]
    settling = asyncio.create_task(registry.journal.settle(before, MessageState.DONE, replies=[answer()]))
    assert "disk is full" in await until_unhealthy(registry)
    assert errors
    assert "disk is full" in errors[0]
    # What is committed can be read meanwhile, and nothing half written is to be seen.
    assert [row.key for row in await registry.journal.messages()] == ["before"]
    assert not any(task.done() for task in adding)
    assert registry.journal.waiting == 201
    await free_disk(registry)
    rows = await asyncio.gather(*adding)
    assert await settling is not None
    assert registry.journal.healthy
    assert registry.journal.waiting == 0
    assert sorted(row.id for row in rows) == [row.id for row in rows]
    assert len(await registry.journal.messages(limit=1000)) == 201


async def test_closing_on_a_full_disk_ends_and_fails_who_waits(registry: Registry) -> None:
    await limit_disk(registry, 0)
    adding = [asyncio.create_task(add(registry, f"k{i}", "x" * 5000)) for i in range(50)]
    await until_unhealthy(registry)
    await registry.close(0.1)
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert all(isinstance(outcome, RegistryError) and "disk is full" in str(outcome) for outcome in outcomes)
    assert registry.journal.waiting_bytes == 0
    with pytest.raises(RegistryError, match="closed"):
        await add(registry, "late")
    with pytest.raises(RegistryError, match="closed"):
        await registry.agents()


# Writing beyond the limit fails as it does on a disk that is full: only when the transaction is committed.
LIMITED = """
import asyncio, os, resource, sys
from supervisor.protocol import InboundMessage
from supervisor.store import Registry

def add(registry, number):
    message = InboundMessage(conversation_id="c", role="user", content="x" * 2000)
    return registry.journal.add("agent", message, key=f"k{number}", received_at=1.0, claim=True)

async def main():
    registry = await Registry.open("sqlite+aiosqlite:///" + sys.argv[1], upgrade=True)
    await add(registry, 0)
    limit = os.path.getsize(sys.argv[1] + "-wal") + 8192
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    adding = [asyncio.create_task(add(registry, number)) for number in range(1, 101)]
    while registry.journal.healthy:
        await asyncio.sleep(0.01)
    print(registry.journal.problem)
    assert not any(task.done() for task in adding)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await asyncio.gather(*adding)
    print(registry.journal.healthy, len(await registry.journal.messages(limit=1000)))
    await registry.close()

asyncio.run(main())
"""


async def test_a_write_that_fails_at_the_commit_loses_nothing(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    problem, recovered = done.stdout.splitlines()
    assert "input/output error" in problem
    assert recovered == "True 101"


async def test_a_commit_that_is_refused_leaves_no_transaction_behind(registry: Registry, path: Path) -> None:
    with closing(sqlite3.connect(path)) as sql:
        sql.executescript(
            "CREATE TABLE side (k REFERENCES meta (key) DEFERRABLE INITIALLY DEFERRED);"
            "CREATE TRIGGER refuse AFTER INSERT ON inbox WHEN NEW.message_key = CAST('bad' AS BLOB) "
            "BEGIN INSERT INTO side VALUES ('nowhere'); END"
        )
    with pytest.raises(RegistryError, match="FOREIGN KEY"):
        await add(registry, "bad")
    await add(registry, "good")
    assert [row.key for row in await registry.journal.messages()] == ["good"]


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
"""


async def test_a_file_locked_by_another_program_delays_and_loses_nothing(registry: Registry, path: Path) -> None:
    row = await add(registry, "before")
    child = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        assert child.stdout.readline() == "locked\n"
        waiting = [
            asyncio.create_task(add(registry, "k1")),
            asyncio.create_task(registry.journal.settle(row, MessageState.DONE, replies=[answer()])),
            asyncio.create_task(registry.add_agent(AgentRecord(id="a1", handler="echo", secret="env:AGENT_A"))),
        ]
        assert "locked" in await until_unhealthy(registry)
        # Readers go on, and asking for changes does no harm.
        assert len(await registry.journal.messages()) == 1
        assert await registry.changed() is False
        assert not any(task.done() for task in waiting)
        child.stdin.write("\n")
        child.stdin.flush()
        await asyncio.gather(*waiting)
        assert child.wait(30) == 0
    assert registry.journal.healthy
    assert await registry.changed() is True
    assert len(await registry.agents()) == 1
    assert len(await registry.journal.messages()) == 2


async def test_a_supervisor_that_starts_while_the_file_is_locked_waits_for_it(registry: Registry, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        opening = Sqlite(busy_seconds=BUSY_SECONDS).open(
            url_of(path), clock=SystemClock(), upgrade=True, lock=LockInfo()
        )
        starting = asyncio.create_task(opening)
        # Longer than SQLite itself waits.
        await asyncio.sleep(2 * BUSY_SECONDS)
        assert not starting.done()
        other.execute("ROLLBACK")
        started = await starting
    await started.close()


async def test_a_file_locked_for_ever_is_told_to_commands(path: Path) -> None:
    async with opened(path, patience_seconds=0.5) as registry:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RegistryError, match="another program keeps it locked"):
                await registry.remove_agent("a1")
            other.execute("ROLLBACK")


async def test_only_the_operation_that_the_database_refuses_fails(registry: Registry, path: Path) -> None:
    first = await add(registry, "first")
    with closing(sqlite3.connect(path)) as sql:
        sql.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON inbox WHEN NEW.message_key = CAST('bad' AS BLOB) "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
        sql.commit()
    errors: list[str] = []
    registry.journal.hooks.on_error = errors.append
    outcomes = await asyncio.gather(
        add(registry, "good1", "a person's words"),
        add(registry, "bad", "a person's words"),
        registry.journal.settle(first, MessageState.DONE, replies=[answer(0), answer(1)]),
        registry.journal.add_reply(AGENT, None, answer(2**70)),
        registry.journal.add("agent\ud800", inbound(), key="k", received_at=1.0, claim=False),
        registry.journal.add(AGENT, inbound(), key="first", received_at=1.0, claim=False),
        registry.journal.add("new agent", inbound(), key="good2", received_at=1.0, claim=False),
        return_exceptions=True,
    )
    good1, bad, settled, huge, surrogate, duplicate, good2 = outcomes
    assert isinstance(good1, JournaledMessage)
    assert isinstance(good2, JournaledMessage)
    assert isinstance(settled, list)
    assert duplicate is None
    for error in (bad, huge, surrogate):
        assert isinstance(error, RegistryError)
        assert "\n" not in str(error)
        assert "a person's words" not in str(error)
    assert "not this one" in str(bad)
    assert len(errors) == 3
    assert registry.journal.healthy
    assert [row.key for row in await registry.journal.messages()] == ["good2", "good1", "first"]
    assert await registry.journal.unsent(AGENT) == settled
    assert (await registry.journal.counts())["new agent"] == {MessageState.AVAILABLE: 1}


async def test_a_database_without_its_tables_fails_its_callers_and_not_the_writer(
    registry: Registry, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("ALTER TABLE inbox RENAME TO elsewhere")
        sql.commit()
    with pytest.raises(RegistryError, match="no such table"):
        await add(registry, "k1")
    with pytest.raises(RegistryError, match="no such table"):
        await registry.journal.unsettled(AGENT)
    with pytest.raises(RegistryError, match="no such table"):
        await registry.journal.maintenance.rescue()
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("ALTER TABLE elsewhere RENAME TO inbox")
        sql.commit()
    await add(registry, "k1")
