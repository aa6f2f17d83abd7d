"""A registry goes from a file to PostgreSQL and back with everything that is in it, and runs in one place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import RegistryError, RegistryLockedError
from supervisor.core.records import AgentRecord, Sleep
from supervisor.core.states import MessageState
from supervisor.store import LockInfo, Registry, opening
from supervisor.store.sql import schema
from supervisor.store.sql.copying import SLICE, TABLES
from tests.support import postgres
from tests.support.journaling import AGENT, add, answer, inbound, settle


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'from.db'}"


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.empty_database() as made:
        yield made


def ignore(_: object, error: BaseException | None) -> None:
    assert error is None


async def fill(url: str) -> None:
    """Something in every table, more than one slice of messages."""
    registry = await Registry.open(url, upgrade=True, lock=LockInfo())
    journal = registry.journal
    await registry.apply(add=[AgentRecord(f"a{n}", "echo", "env:AGENT_A", settings={"n": n}) for n in range(3)])
    for number in range(SLICE + 5):
        journal.add_then(AGENT, inbound(), key=f"k{number}", received_at=float(number), claim=False, then=ignore)
    await journal.flush()
    done = await add(journal, "done", claim=True)
    (acked,) = await settle(journal, done, answer())
    await journal.mark_sent(acked)
    await settle(journal, await add(journal, "waits", claim=True), answer("x"), answer("y", part=1))
    await journal.settle(await add(journal, "dead", claim=True), MessageState.DEAD, error="because\nof this")
    await journal.forget_conversation(AGENT, "left")
    await journal.lives.record_sleep("a1", Sleep(1.0, 2.0, "tired"))
    await registry.close()


async def everything(url: str) -> dict[str, Any]:
    """What a registry has, as its reader sees it."""
    registry = await Registry.open(url)
    journal = registry.journal
    found = {
        "uuid": registry.uuid,
        "since": registry.database.lives_since,
        "agents": await registry.agents(),
        "messages": await journal.messages(limit=10_000),
        "replies": [await journal.replies(row.id) for row in await journal.messages(limit=3)],
        "unsent": await journal.unsent(AGENT),
        "counts": await journal.counts(),
        "conversations": await journal.conversations(AGENT, since=0.0, limit=10),
        "left": await journal.left_conversations(AGENT, limit=10),
        "sleeps": await journal.lives.of("a1"),
    }
    await registry.close()
    return found


async def test_everything_arrives_there_and_back_and_numbers_go_on(file: str, url: str, tmp_path: Path) -> None:
    await fill(file)
    before = await everything(file)
    assert len(before["messages"]) == SLICE + 8
    _, rows = await opening.copy(file, url)
    assert (rows["agents"], rows["inbox"], rows["outbox"]) == (3, SLICE + 8, 3)
    assert await everything(url) == before
    back = f"sqlite+aiosqlite:///{tmp_path / 'back.db'}"
    await opening.copy(url, back)
    assert await everything(back) == before
    with pytest.raises(RegistryError, match="goes on there"):
        await Registry.open(file, lock=LockInfo())
    postgres.on_server("DELETE FROM meta WHERE key = 'moved_to'", url=url)
    registry = await Registry.open(url, lock=LockInfo())
    newest = await add(registry.journal, "next", agent="a2")
    assert newest.id > before["messages"][0].id
    await registry.close()


async def test_a_target_that_holds_anything_and_a_registry_that_runs_are_left_alone(file: str, url: str) -> None:
    await fill(file)
    await opening.upgrade(url)
    postgres.on_server("INSERT INTO agents (id, handler, secret) VALUES ('mine', 'echo', 'env:A')", url=url)
    with pytest.raises(RegistryError, match=r"not empty \(agents\)"):
        await opening.copy(file, url)
    postgres.on_server("DELETE FROM agents", url=url)
    running = await Registry.open(file, lock=LockInfo("http://[::1]:1"))
    with pytest.raises(RegistryLockedError, match=r"http://\[::1\]:1"):
        await opening.copy(file, url)
    await running.close()
    assert postgres.on_server("SELECT count(*) FROM inbox", url=url) == [(0,)]
    # Nothing of all this has marked the file.
    await (await Registry.open(file, lock=LockInfo())).close()


async def test_half_a_copy_is_never_run(file: str, url: str, tmp_path: Path) -> None:
    await fill(file)
    with closing(sqlite3.connect(tmp_path / "from.db")) as sql:
        # What no column of numbers takes.
        sql.execute("UPDATE outbox SET part = 'nonsense' WHERE id = 2")
        sql.commit()
    with pytest.raises(RegistryError) as caught:
        await opening.copy(file, url)
    assert "\n" not in str(caught.value)
    with pytest.raises(RegistryError, match="never finished"):
        await Registry.open(url, lock=LockInfo())
    await (await Registry.open(file, lock=LockInfo())).close()


def test_no_table_and_no_column_is_forgotten() -> None:
    tables = {name: {column.name for column in table.columns} for name, table in schema.metadata.tables.items()}
    assert {name: set(copied.columns) for name, copied in TABLES.items()} == {
        name: columns for name, columns in tables.items() if name != "meta"
    }
    for name, copied in TABLES.items():
        assert copied.keys == tuple(column.name for column in schema.metadata.tables[name].primary_key.columns)
