"""The schema: made in an empty database, the same public table as everywhere, and never on top of somebody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from supervisor.core.errors import RegistryError
from supervisor.store import Registry, opening
from supervisor.store.sql.revisions import REVISIONS
from tests.support import postgres


@pytest.fixture
def empty() -> Iterator[str]:
    with postgres.empty_database() as url:
        yield url


async def test_an_empty_database_becomes_a_registry_once(empty: str) -> None:
    with pytest.raises(RegistryError, match="supervisor db upgrade"):
        await Registry.open(empty)
    assert await opening.upgrade(empty) == REVISIONS[-1]
    (uuid,) = postgres.on_server("SELECT value FROM meta WHERE key = 'uuid'", url=empty)
    assert await opening.upgrade(empty) == REVISIONS[-1]
    assert postgres.on_server("SELECT value FROM meta WHERE key = 'uuid'", url=empty) == [uuid]


async def test_somebody_elses_table_of_agents_is_left_alone(empty: str) -> None:
    postgres.on_server("CREATE TABLE agents (mine text)", url=empty)
    with pytest.raises(RegistryError, match="not the supervisor's"):
        await opening.upgrade(empty)
    assert postgres.on_server("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", url=empty) == [(1,)]


async def test_a_newer_schema_is_refused(url: str) -> None:
    postgres.on_server("UPDATE alembic_version SET version_num = '9999'", url=url)
    try:
        with pytest.raises(RegistryError, match="newer schema"):
            await Registry.open(url)
    finally:
        postgres.on_server("UPDATE alembic_version SET version_num = $1", REVISIONS[-1], url=url)


async def test_rows_by_raw_sql_are_agents_as_in_every_database(registry: Registry, url: str) -> None:
    postgres.on_server("INSERT INTO agents (id, handler, secret) VALUES ('a', 'echo', 'env:AGENT_A')", url=url)
    (agent,) = await registry.agents()
    assert (agent.problem, agent.settings, agent.labels, agent.paused, agent.name) == (None, {}, {}, False, "")
    assert agent.created_at == agent.updated_at
    assert agent.created_at.endswith("Z")
    postgres.on_server(
        "UPDATE agents SET created_at = '2020-01-01 00:00:00', updated_at = '2020-01-01 00:00:00'", url=url
    )
    postgres.on_server("UPDATE agents SET paused = 1", url=url)
    (agent,) = await registry.agents()
    assert agent.paused
    assert agent.created_at == "2020-01-01T00:00:00Z"
    assert agent.updated_at > "2026"
    postgres.on_server("UPDATE agents SET settings = '[', updated_at = CURRENT_TIMESTAMP", url=url)
    (agent,) = await registry.agents()
    assert "settings is not JSON" in str(agent.problem)
    assert agent.updated_at.endswith("Z")


async def test_what_is_settled_is_left_out_where_only_open_rows_are_asked_for(url: str) -> None:
    def plan(where: str) -> str:
        return "\n".join(line for (line,) in postgres.on_server(f"EXPLAIN SELECT * FROM {where}", url=url))

    assert "inbox_settled" not in plan("inbox WHERE state <= 3 AND agent_key = 1")
    assert "outbox_settled" not in plan("outbox WHERE state <= 1")
    assert "outbox_open" not in plan("outbox WHERE state = 4")
    assert "inbox_bodies" not in plan("(SELECT agent_key, state, count(*) FROM inbox GROUP BY 1, 2) AS counted")
