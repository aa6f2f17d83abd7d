"""Which rows this process runs: all of them, as they are now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.core.turns import Turns
from supervisor.fleet.ownership import Owned, Ownership
from supervisor.store import Registry
from tests.support.messaging import journal_in


def row(agent_id: str, **fields: Any) -> AgentRecord:
    return AgentRecord(agent_id, "echo", "env:AGENT_A", **fields)


async def owned(registry: Registry) -> Owned:
    return await Ownership(registry, Turns()).look()


async def test_every_row_is_owned_and_one_that_was_removed_no_longer(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as registry:
        assert await owned(registry) == Owned({}, {})
        await registry.apply(add=[row("a"), row("b", paused=True)])
        found = (await owned(registry)).own
        assert sorted(found) == ["a", "b"]
        assert found["b"].paused
        await registry.remove_agent("a")
        assert list((await owned(registry)).wanted) == ["b"]


async def test_only_a_row_that_changed_is_read_anew(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as registry:
        ownership = Ownership(registry, Turns())
        await registry.apply(add=[row("a"), row("b", settings={"model": "m"}), row("c")])
        first = (await ownership.look()).own
        await registry.update_agent("c", paused=True)
        await registry.remove_agent("a")
        second = (await ownership.look()).own
        assert (list(second), second["b"] is first["b"]) == (["b", "c"], True)
        assert (first["c"].paused, second["c"].paused) == (False, True)
        await registry.apply(add=[row("a", paused=True)])
        assert (await ownership.look()).own["a"].paused, "one that comes back is not what it was"


async def test_a_registry_that_cannot_be_read_owns_nothing_rather_than_few(tmp_path: Path) -> None:
    registry = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True)
    await registry.close()
    with pytest.raises(RegistryError):
        await owned(registry)
