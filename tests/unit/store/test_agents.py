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

from supervisor.core.errors import AgentExistsError, AgentNotFoundError, RegistryError
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


async def test_an_agent_comes_back_as_it_was_added(registry: Registry) -> None:
    added = record(name="Trợ lý", settings={"deep": {"list": [1, None, "x"]}}, labels={"team": "a"}, paused=True)
    await registry.add_agent(added)
    found = await registry.agent("a1")
    assert found.same_content(added)
    assert found.problem is None
    assert found.created_at == found.updated_at
    assert found.created_at.endswith("Z")
    assert await registry.agents() == [found]


async def test_adding_twice_and_changing_what_is_not_there_are_refused(registry: Registry) -> None:
    await registry.add_agent(record())
    with pytest.raises(AgentExistsError):
        await registry.add_agent(record())
    for missing in (registry.agent("a2"), registry.update_agent("a2", paused=True), registry.remove_agent("a2")):
        with pytest.raises(AgentNotFoundError):
            await missing
    await registry.remove_agent("a1")
    assert await registry.agents() == []


async def test_an_update_changes_only_what_it_names(registry: Registry) -> None:
    await registry.add_agent(record(settings={"model": "m"}, labels={"team": "a"}))
    changed = await registry.update_agent("a1", paused=True, labels={"team": "b"})
    assert (changed.paused, changed.labels, changed.settings, changed.handler) == (
        True,
        {"team": "b"},
        {"model": "m"},
        "echo",
    )
    assert (await registry.update_agent("a1")).same_content(changed)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "with space"},
        {"id": "tab\t"},
        {"id": "\u202e"},
        {"id": "x" * 129},
        {"id": 5},
        {"handler": ""},
        {"handler": " "},
        {"handler": None},
        {"settings": []},
        {"settings": {"a": float("nan")}},
        {"settings": {"a": object()}},
        {"settings": {1: "a"}},
        {"settings": {"a": "\ud800"}},
        {"labels": {"a": 1}},
        {"labels": "a"},
        {"paused": 1},
        {"name": None},
        {"name": "\ud800"},
    ],
)
async def test_what_must_not_be_stored_is_refused_in_one_line(registry: Registry, fields: dict[str, Any]) -> None:
    with pytest.raises(RegistryError) as caught:
        await registry.add_agent(record(**fields))
    assert "\n" not in str(caught.value)
    assert await registry.agents() == []


@pytest.mark.parametrize("secret", [CLEAR, "", "env:", "file:relative", "fernet:", f"vault:{CLEAR}", None])
async def test_a_secret_in_the_clear_is_refused_and_not_repeated(registry: Registry, secret: Any) -> None:
    await registry.add_agent(record("kept"))
    for attempt in (registry.add_agent(record(secret=secret)), registry.update_agent("kept", secret=secret)):
        with pytest.raises(RegistryError, match="reference") as caught:
            await attempt
        assert CLEAR not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert [agent.id for agent in await registry.agents()] == ["kept"]


async def test_unknown_fields_cannot_be_updated(registry: Registry) -> None:
    await registry.add_agent(record())
    for field in ("id", "created_at", "nonsense"):
        with pytest.raises(RegistryError, match=field):
            await registry.update_agent("a1", **{field: "x"})


async def test_an_import_is_all_or_nothing(registry: Registry) -> None:
    await registry.apply(add=[record("a1"), record("a2"), record("a3")])
    await registry.apply(add=[record("a4")], change=[record("a2", handler="other", name="two")], remove=["a3"])
    agents = {agent.id: agent for agent in await registry.agents()}
    assert set(agents) == {"a1", "a2", "a4"}
    assert (agents["a2"].handler, agents["a2"].name) == ("other", "two")
    before = await registry.agents()
    with pytest.raises(AgentExistsError):
        await registry.apply(add=[record("a5"), record("a1")], change=[record("a2", name="zwei")], remove=["a4"])
    with pytest.raises(AgentNotFoundError):
        await registry.apply(add=[record("a5")], change=[record("a9")])
    with pytest.raises(AgentNotFoundError):
        await registry.apply(add=[record("a5")], remove=["a9"])
    with pytest.raises(RegistryError, match="reference"):
        await registry.apply(add=[record("a5"), record("a6", secret=CLEAR)])
    assert await registry.agents() == before


async def test_an_agent_can_move_to_another_handler_by_removal_and_addition_at_once(registry: Registry) -> None:
    await registry.add_agent(record())
    await registry.apply(add=[record(handler="other")], remove=["a1"])
    assert (await registry.agent("a1")).handler == "other"


# ── rows written by people ───────────────────────────────────────────────────────────────────────────────────────────


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
    with pytest.raises(RegistryError, match="JSON"):
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


async def test_an_id_in_capitals_is_refused_with_the_one_to_write(tmp_path: Path) -> None:
    registry = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'r.db'}", upgrade=True)
    try:
        with pytest.raises(RegistryError, match="a" * 24):
            await registry.add_agent(AgentRecord("A" * 24, "echo", "env:AGENT_X"))
    finally:
        await registry.close()
