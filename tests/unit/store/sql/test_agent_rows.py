"""What raw SQL has done to rows is seen, whoever did it, and stands in the history as nobody's word."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.records import AgentRecord
from supervisor.store import Registry
from supervisor.store.sql.agent_rows import find_row


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True)
    yield opened
    await opened.close()


def raw(registry: Registry, statement: str) -> None:
    with closing(sqlite3.connect(registry.where)) as database:
        database.execute(statement)
        database.commit()


async def test_a_row_is_found_or_it_is_none(registry: Registry) -> None:
    await registry.add_agent(AgentRecord("a1", "echo", "env:SECRET"))
    with closing(sqlite3.connect(registry.where)) as database:
        row = find_row(database, "a1")
        assert row is not None
        assert (row["id"], row["handler"]) == ("a1", "echo")
        assert find_row(database, "a2") is None


async def test_raw_changes_are_noted_once_when_they_are_looked_for(registry: Registry) -> None:
    await registry.add_agent(AgentRecord("a1", "echo", "env:SECRET"))
    raw(registry, "INSERT INTO agents (id, handler, secret) VALUES ('a2', 'echo', 'a secret in the clear')")
    raw(registry, "UPDATE agents SET name = 'Ada', settings = 'no JSON' WHERE id = 'a1'")
    for _ in range(2):
        await registry.history.observe(["a1", "a2", "nobody"])
    events = await registry.history.of(None, 10)
    assert [(event.agent_id, event.action, event.actor.kind) for event in events] == [
        ("a2", "found", "sql"),
        ("a1", "changed", "sql"),
        ("a1", "added", "supervisor"),
    ]
    found, changed, _ = events
    assert "in the clear" not in str(found)
    assert changed.after is not None
    assert (changed.after["name"], "settings is not JSON" in changed.after["problem"]) == ("Ada", True)
    raw(registry, "DELETE FROM agents")
    await registry.history.observe(["a1", "a2"])
    assert [event.action for event in await registry.history.of(None, 2)] == ["removed", "removed"]


async def test_a_change_of_ours_first_notes_what_raw_sql_did_before(registry: Registry) -> None:
    await registry.add_agent(AgentRecord("a1", "echo", "env:SECRET", name="Ada"))
    raw(registry, "UPDATE agents SET name = 'Grace'")
    await registry.update_agent("a1", paused=True)
    ours, theirs, _ = await registry.history.of("a1", 10)
    assert (theirs.actor.kind, ours.actor.kind) == ("sql", "supervisor")
    assert ours.before == theirs.after
