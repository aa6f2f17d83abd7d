"""What the server of a registry carries: agents that nobody runs, and rows that it has not cleared away."""

from __future__ import annotations

from supervisor.core.records import AgentRecord
from supervisor.store import Registry
from tests.support import postgres


async def test_agents_that_nobody_runs_are_counted_and_paused_ones_are_not(url: str) -> None:
    beside = await Registry.open(url)
    for identity in ("a", "b", "c"):
        await beside.add_agent(AgentRecord(identity, "echo", "env:AGENT_A", paused=identity == "c"))
    assert (await beside.replicas.burden()).orphans == 2
    postgres.on_server("INSERT INTO leases (agent_id) VALUES ('a') ON CONFLICT DO NOTHING", url=url)
    assert (await beside.replicas.burden()).orphans == 2
    postgres.on_server("UPDATE leases SET owner = 7 WHERE agent_id = 'a'", url=url)
    assert (await beside.replicas.burden()).orphans == 1
    await beside.close()


async def test_rows_that_are_not_cleared_away_are_counted_by_their_table(registry: Registry) -> None:
    dead = (await registry.replicas.burden()).dead_rows
    assert {"inbox_open", "outbox_open", "replicas"} <= dead.keys()
    assert all(count >= 0 for count in dead.values())


async def test_the_age_of_the_oldest_transaction_is_told(registry: Registry, url: str) -> None:
    with postgres.holding("SELECT count(*), pg_current_xact_id() FROM agents", url):
        first = (await registry.replicas.burden()).oldest_seconds
        second = (await registry.replicas.burden()).oldest_seconds
        assert 0 < first < second
    assert (await registry.replicas.burden()).oldest_seconds < second
