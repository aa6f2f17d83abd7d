"""What a look through a database finds: what is lost, what is unpaired, dead rows and who keeps them."""

from __future__ import annotations

import secrets

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.store import Registry, opening
from supervisor.store.dialect import DamagedError
from supervisor.store.postgres import PostgresDatabase
from supervisor.store.postgres.soundness import Inspection, inspect
from tests.support import postgres
from tests.support.journaling import add, answer, settle


async def look(
    registry: Registry, *, dead_rows: int = 10_000, old_seconds: float = 300.0, held_back_bytes: int = 1 << 30
) -> Inspection:
    database = registry.database
    assert isinstance(database, PostgresDatabase)
    return await database.sessions.read(
        lambda connection: inspect(
            connection, "here", dead_rows=dead_rows, old_seconds=old_seconds, held_back_bytes=held_back_bytes
        )
    )


async def test_a_sound_one_has_nothing_to_be_said_of_it(registry: Registry, url: str) -> None:
    await settle(registry.journal, await add(registry.journal, "k1", claim=True), answer("hi"))
    assert (await look(registry)).notes == ()
    said = await opening.check(url)
    assert ", sound, schema" in said
    assert said.count(";") == 0


async def test_agents_that_cannot_be_used_are_counted(registry: Registry, url: str) -> None:
    await registry.add_agent(AgentRecord("a", "echo", "env:AGENT_A"))
    postgres.on_server("INSERT INTO agents (id, handler, secret) VALUES ('b', 'echo', 'in the clear')", url=url)
    assert "2 agents, registry" in (said := await opening.check(url))
    assert said.endswith("; 1 of the agents cannot run as they are: supervisor doctor")


@pytest.mark.parametrize("table", ["inbox_bodies", "outbox_bodies"])
async def test_text_that_is_gone_is_damage(registry: Registry, url: str, table: str) -> None:
    await settle(registry.journal, await add(registry.journal, "k1", claim=True), answer("hi"))
    postgres.on_server(f"DELETE FROM {table}", url=url)
    with pytest.raises(DamagedError, match=r"the text of \d messages and \d replies is gone"):
        await opening.check(url)


async def test_a_fence_that_is_gone_is_said(registry: Registry, url: str) -> None:
    postgres.on_server("INSERT INTO fences VALUES (7)", url=url)
    assert ["without a fence" in note for note in (await look(registry)).notes] == [True]
    postgres.on_server("DELETE FROM fences", url=url)
    with pytest.raises(RegistryError, match=r"INSERT INTO fences VALUES \(0\)"):
        await opening.check(url)


async def test_dead_rows_and_whoever_keeps_them_are_said(registry: Registry, url: str) -> None:
    for statement in (
        "INSERT INTO conversations SELECT 1, 'c', 0",
        *["UPDATE conversations SET last_seen = last_seen + 1"] * 3,
        "SELECT pg_stat_force_next_flush()",
    ):
        postgres.on_server(statement, url=url)
    (note,) = (await look(registry, dead_rows=1)).notes
    assert note.startswith("conversations has 3 dead rows beside 1")
    with postgres.holding("INSERT INTO conversations SELECT 2, 'c', 0", url):
        (note,) = (await look(registry, old_seconds=0.0)).notes
        assert "a transaction has been open for 0 min (postgres, process " in note


async def test_who_is_idle_in_a_transaction_is_said_though_it_keeps_no_row(registry: Registry, url: str) -> None:
    with postgres.holding("SELECT 1 FROM agents", url):
        (note,) = (await look(registry, old_seconds=0.0)).notes
        assert "a transaction has been open for 0 min (postgres, process " in note
        assert note.endswith("it is idle, and an upgrade would wait for its locks")


async def test_a_slot_that_nobody_reads_is_said(registry: Registry, url: str) -> None:
    slot = "test_" + secrets.token_hex(8)
    postgres.on_server("SELECT pg_create_physical_replication_slot($1, true)", slot, url=url)
    try:
        # Others on the tests' server write too: what one needs is less than what all have written since.
        await registry.add_agent(AgentRecord("a", "echo", "env:AGENT_A"))
        found = [note for note in (await look(registry, held_back_bytes=0)).notes if slot in note]
        assert [note.partition(" keeps ")[0] for note in found] == [f"the replication slot {slot}"]
        assert "nobody reads it: pg_drop_replication_slot" in found[0]
        assert not [note for note in (await look(registry)).notes if slot in note]
    finally:
        postgres.on_server("SELECT pg_drop_replication_slot($1)", slot, url=url)
