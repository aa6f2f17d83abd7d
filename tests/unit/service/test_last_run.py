"""What a start says of a run that did not end well: what its handlers had in their hands, once, and nothing else."""

from __future__ import annotations

from pathlib import Path

from supervisor.core.records import AgentRecord
from supervisor.service.last_run import tell_failed_run
from supervisor.store import LockInfo, Registry
from tests.support.journaling import AGENT, add
from tests.support.observing import captured_logs, named


async def leave(url: str, *, ended: str) -> int:
    """A run that has one message in its hands, one that waits, and ends so; the number of the first."""
    registry = await Registry.open(url, upgrade=True, lock=LockInfo("http://127.0.0.1:1", version="1.2.3", ended=ended))
    await registry.add_agent(AgentRecord(AGENT, "shout", "env:SECRET"))
    begun = await add(registry.journal, "m1", claim=True)
    await add(registry.journal, "m2")
    await registry.close()
    return begun.id


async def test_a_run_that_failed_names_what_its_handlers_had_begun(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/supervisor.db"
    begun = await leave(url, ended="it broke")
    registry = await Registry.open(url, lock=LockInfo())
    with captured_logs() as lines:
        await tell_failed_run(registry)
        await tell_failed_run(registry)
    [told] = named(lines, "last_run_failed")
    assert (told["reason"], told["version"], told["log_level"]) == ("it broke", "1.2.3", "critical")
    assert told["handled"] == [{"message": begun, "agent": AGENT, "handler": "shout", "attempt": 1}]
    await registry.close()


async def test_a_run_that_ended_well_is_not_spoken_of(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/supervisor.db"
    await leave(url, ended="")
    registry = await Registry.open(url, lock=LockInfo())
    with captured_logs() as lines:
        await tell_failed_run(registry)
    assert not named(lines, "last_run_failed")
    await registry.close()
