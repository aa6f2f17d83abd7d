"""What is remembered of each agent over a restart."""

from __future__ import annotations

from supervisor.core.records import AgentLife, AgentRecord, Sleep
from supervisor.store import LockInfo, Registry
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT, add
from tests.support.stores import Opener


async def test_of_whom_nothing_was_noted_nothing_is_known(registry: Registry) -> None:
    assert await registry.journal.lives.of(AGENT) == AgentLife(AGENT)


async def test_registration_and_sleep_are_remembered_over_a_restart(registry: Registry, opened: Opener) -> None:
    lives = registry.journal.lives
    await lives.record_registered({AGENT: 1000.0, "other": 1000.0})
    await lives.record_sleep(AGENT, Sleep(1001.0, 2000.0, "no work done"))
    await lives.record_sleep("third", Sleep(1002.0))
    await registry.close()
    again = (await opened()).journal.lives
    assert await again.of(AGENT) == AgentLife(AGENT, 1000.0, Sleep(1001.0, 2000.0, "no work done"))
    assert await again.of("other") == AgentLife("other", 1000.0)
    assert await again.of("third") == AgentLife("third", None, Sleep(1002.0, None, ""))


async def test_the_last_word_counts(registry: Registry) -> None:
    """A clock that was ahead and set back must not leave a time that nothing replaces."""
    lives = registry.journal.lives
    await lives.record_registered({AGENT: 5000.0})
    await lives.record_registered({AGENT: 1000.0})
    await lives.record_sleep(AGENT, Sleep(1.0, 2.0, "x"))
    await lives.record_sleep(AGENT, None)
    assert await lives.of(AGENT) == AgentLife(AGENT, 1000.0)


async def test_a_whole_fleet_is_noted_at_once_and_is_no_change_of_its_rows(registry: Registry, opened: Opener) -> None:
    other = await opened()
    ids = [f"agent-{number}" for number in range(3000)]
    await registry.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_A"))
    await registry.changed()
    commits: list[int] = []
    registry.journal.hooks.on_commit = lambda _seconds, operations: commits.append(operations)
    await registry.journal.lives.record_registered(dict.fromkeys(ids, 7.0))
    assert commits == [1]
    assert not await registry.changed(), "the fleet need not read its rows again"
    assert (await other.journal.lives.of(ids[-1])).registered_at == 7.0


async def test_who_is_removed_is_forgotten(registry: Registry) -> None:
    journal = registry.journal
    await registry.add_agent(AgentRecord(AGENT, "echo", "env:AGENT_A"))
    await journal.lives.record_registered(dict.fromkeys([AGENT, "removed by SQL", "removed"], 7.0))
    await add(journal, "k1")
    await journal.maintenance.cancel_agent("removed")
    assert await journal.lives.of("removed") == AgentLife("removed")
    assert (await journal.lives.of("removed by SQL")).registered_at == 7.0
    await journal.maintenance.cancel_removed()
    assert await journal.lives.of("removed by SQL") == AgentLife("removed by SQL")
    assert (await journal.lives.of(AGENT)).registered_at == 7.0


async def test_lives_are_remembered_since_a_supervisor_first_held_the_registry(opened: Opener) -> None:
    clock = ManualClock()
    command = await opened(clock=clock)
    assert command.journal.lives.since == clock.now()
    await clock.advance(100)
    first = await opened(clock=clock, lock=LockInfo())
    begun = first.journal.lives.since
    assert begun == clock.now(), "a command that made the registry began nothing"
    await first.close()
    await clock.advance(100)
    assert (await opened(clock=clock, lock=LockInfo())).journal.lives.since == begun
