"""An agent is removed while another program locks the file: a stop does not wait for its messages to be settled."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from supervisor.core.states import AgentState, MessageState
from supervisor.store import Journal
from supervisor.store.sqlite import Sqlite
from tests.support.stack import Stack, stack

Log = Callable[[], list[dict[str, Any]]]

STUCK = "import asyncio\nasync def on_message(message, ctx):\n    await asyncio.Event().wait()\n"


@asynccontextmanager
async def waiting(folder: Path) -> AsyncIterator[tuple[Stack, str]]:
    """A supervisor with a paused agent, for which two messages wait."""
    handlers = folder / "handlers"
    handlers.mkdir()
    (handlers / "stuck.py").write_text(STUCK)
    gives_up_soon = Sqlite(busy_seconds=0.1, patience_seconds=0.2)
    async with stack(folder, dialect=gives_up_soon, agents_dir=handlers, drain_seconds=0.2) as fleet:
        identity = await fleet.add(handler="stuck")
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        for text in ("one", "two"):
            await user.say(conversation, text)
        await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 1)
        # What is under way when the file is locked waits in memory and is not what is tried here.
        await fleet.service.control.pause(identity)
        await fleet.state(identity, AgentState.PAUSED)
        await fleet.service.registry.journal.flush()
        assert await states(fleet.service.registry.journal, identity) == {MessageState.AVAILABLE}
        yield fleet, identity


@contextmanager
def removed_and_locked(fleet: Stack) -> Iterator[sqlite3.Connection]:
    """Another program removes every agent and keeps the file locked from then on."""
    other = sqlite3.connect(fleet.folder / "supervisor.db", isolation_level=None, timeout=30)
    try:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("DELETE FROM agents")
        other.execute("COMMIT")
        other.execute("BEGIN EXCLUSIVE")
        yield other
    finally:
        other.close()


async def until_not_cancelled(fleet: Stack, log: Log) -> None:
    """Wait until the fleet has failed to cancel, and has said so."""
    await fleet.until(lambda: "messages_not_cancelled" in [line["event"] for line in log()], timeout=30)


async def states(journal: Journal, identity: str) -> set[MessageState]:
    return {row.state for row in await journal.messages(agent_id=identity)}


async def until_cancelled(journal: Journal, identity: str) -> None:
    async with asyncio.timeout(30):
        while await states(journal, identity) != {MessageState.CANCELLED}:
            await asyncio.sleep(0.01)


async def test_a_stop_does_not_wait_for_it_and_the_next_start_cancels(tmp_path: Path, log: Log) -> None:
    async with waiting(tmp_path) as (fleet, identity):
        with removed_and_locked(fleet) as other:
            await until_not_cancelled(fleet, log)
            departures = [task for task in asyncio.all_tasks() if task.get_name() == f"remove {identity}"]
            assert len(departures) == 1
            assert await fleet.service.fleet.stop(grace_seconds=60), (
                "all ended by themselves, not at the end of the grace"
            )
            assert departures[0].done()
            other.execute("ROLLBACK")
        await fleet.restart()
        await until_cancelled(fleet.service.registry.journal, identity)
