"""What commands know of agents while no supervisor runs them: the registry and the journal alone."""

from __future__ import annotations

from pathlib import Path

from supervisor.cli.known import rows_of, statuses_of
from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState
from supervisor.settings import Settings
from supervisor.store import Registry
from tests.support.journaling import AGENT, add, answer, settle

OTHER = "b" * 24


async def test_an_agent_that_is_stopped_shows_the_replies_that_it_could_not_send(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}"
    registry = await Registry.open(url, upgrade=True)
    try:
        for one in (AGENT, OTHER):
            await registry.add_agent(AgentRecord(id=one, handler="echo", secret="env:SECRET"))
        row = await add(registry.journal, "k1", claim=True)
        [first, _] = await settle(registry.journal, row, answer("one", 0), answer("two", 1))
        await registry.journal.defer_reply(first, "no way to wss://user:hunter2@platform.example", 0.0)
        every, alone = await rows_of(registry), await rows_of(registry, AGENT)
    finally:
        await registry.close()
    stopped, idle = statuses_of(Settings(registry_url=url), every)
    assert (stopped.state, stopped.undelivered) == (AgentState.STOPPED, 2)
    assert stopped.undelivered_reason.startswith("no way to wss://")
    assert "hunter2" not in stopped.undelivered_reason
    assert (idle.undelivered, idle.undelivered_reason) == (0, "")
    assert statuses_of(Settings(registry_url=url), alone) == [stopped]
