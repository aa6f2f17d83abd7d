"""The table of agents: what may be stored, and what is made of rows that people wrote themselves."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import AgentNotFoundError, RegistryError
from supervisor.core.records import AgentRecord
from supervisor.store import Registry

CLEAR = "hunter2-in-the-clear"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.db"


@pytest.fixture
async def registry(path: Path) -> AsyncIterator[Registry]:
    opened = await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True)
    yield opened
    await opened.close()


@contextmanager
def raw_sql(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def record(agent_id: str = "a1", **fields: Any) -> AgentRecord:
    return AgentRecord(**{"id": agent_id, "handler": "echo", "secret": "env:AGENT_A1", **fields})


async def test_the_shortest_insert_works(registry: Registry, path: Path) -> None:
    with raw_sql(path) as sql:
        sql.execute("INSERT INTO agents (id, handler, secret) VALUES ('a1', 'echo', 'env:AGENT_A1')")
        sql.execute("UPDATE agents SET paused = 1")
    found = await registry.agent("a1")
    assert found.same_content(record(paused=True))
    assert found.created_at.endswith("Z")


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs SQLite's shell: apt-get install sqlite3")
async def test_sqlites_own_shell_can_write_agents(registry: Registry, path: Path) -> None:
    statements = "INSERT INTO agents(id,handler,secret) VALUES('a1','echo','env:AGENT_A1'); UPDATE agents SET paused=1;"
    subprocess.run(["sqlite3", str(path), statements], check=True, timeout=30)
    assert (await registry.agent("a1")).paused


async def test_raw_sql_moves_updated_at(registry: Registry, path: Path) -> None:
    with raw_sql(path) as sql:
        sql.execute(
            "INSERT INTO agents (id, handler, secret, updated_at) VALUES ('a1', 'echo', 'env:A', '2020-01-01 00:00:00')"
        )
        sql.execute("UPDATE agents SET name = 'one'")
        assert (await registry.agent("a1")).updated_at > "2026"
        sql.execute("UPDATE agents SET name = 'two', updated_at = 'whenever'")
        assert (await registry.agent("a1")).updated_at == "whenever"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("settings", "'{not json'", "settings is not JSON"),
        ("settings", "'[1]'", "settings is not a JSON object"),
        ("settings", "5", "settings is not"),
        ("settings", "1.5", "settings is not"),
        ("settings", "'{\"a\": NaN}'", "settings is not JSON"),
        ("settings", "x'ff00'", "settings is not JSON"),
        ("settings", "CAST(x'7bff7d' AS TEXT)", "settings is not JSON"),
        ("labels", "'{\"team\": 5}'", "labels: team is not text"),
        ("labels", "'null'", "labels is not a JSON object"),
        ("handler", "NULL", "handler is empty"),
        ("handler", "''", "handler is empty"),
        ("handler", "x'00'", "handler is not text"),
        ("secret", "NULL", "secret is empty"),
        ("secret", f"'{CLEAR}'", "secret is not a reference"),
        ("name", "x'00'", "name is not text"),
        ("paused", "'maybe'", "paused is neither"),
        ("paused", "7", "paused is neither"),
        ("created_at", "'soon'", None),
        ("settings", "NULL", None),
        ("labels", "''", None),
    ],
)
async def test_nonsense_in_a_row_is_that_agents_problem_alone(
    registry: Registry, path: Path, column: str, value: str, words: str | None
) -> None:
    await registry.apply(add=[record("bad"), record("good")])
    with raw_sql(path) as sql:
        sql.execute(f"UPDATE agents SET {column} = {value} WHERE id = 'bad'")
    bad, good = await registry.agents()
    assert good.problem is None
    assert good.same_content(record("good"))
    assert isinstance(bad.settings, dict)
    assert isinstance(bad.labels, dict)
    if words is None:
        assert bad.problem is None
        return
    assert bad.problem is not None
    assert words in bad.problem
    assert "\n" not in bad.problem
    assert CLEAR not in f"{bad!r} {bad.secret} {bad.problem}"
    assert not bad.same_content(record("bad"))
    with raw_sql(path) as sql:
        sql.execute("DELETE FROM agents WHERE id = 'bad'")
        sql.execute("INSERT INTO agents (id, handler, secret) VALUES ('bad', 'echo', 'env:AGENT_A1')")
    assert (await registry.agent("bad")).same_content(record("bad"))


async def test_deeply_nested_settings_are_a_problem_too(registry: Registry, path: Path) -> None:
    await registry.add_agent(record())
    with raw_sql(path) as sql:
        sql.execute("UPDATE agents SET settings = ?", ('{"a":' * 100_000 + "1" + "}" * 100_000,))
    (bad,) = await registry.agents()
    assert bad.problem is not None
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(RegistryError, match="nested more than"):
        await registry.update_agent("a1", settings=deep)


async def test_a_row_with_a_problem_can_be_mended_field_by_field(registry: Registry, path: Path) -> None:
    await registry.add_agent(record())
    with raw_sql(path) as sql:
        sql.execute("UPDATE agents SET settings = '{', labels = '[', id = CAST(x'61ff' AS TEXT)")
    (bad,) = await registry.agents()
    assert bad.id == "a\ufffd"
    with raw_sql(path) as sql:
        sql.execute("UPDATE agents SET id = 'a1'")
    assert (await registry.update_agent("a1", paused=True)).problem is not None
    assert (await registry.update_agent("a1", settings={})).problem is not None
    assert (await registry.update_agent("a1", labels={})).problem is None


async def test_a_change_is_noticed_once_whoever_makes_it(registry: Registry, path: Path) -> None:
    assert not await registry.changed()
    with raw_sql(path) as sql:
        sql.execute("INSERT INTO agents (id, handler, secret) VALUES ('a1', 'echo', 'env:A')")
        assert await registry.changed()
        assert not await registry.changed()
        sql.execute("UPDATE agents SET paused = 1")
        assert await registry.changed()
    await registry.update_agent("a1", paused=False)
    assert await registry.changed()
    assert not await registry.changed()
    with pytest.raises(AgentNotFoundError):
        await registry.remove_agent("a9")
    assert not await registry.changed()
