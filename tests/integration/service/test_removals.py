"""An agent is removed while the journal cannot be written, or while nothing runs: its messages are settled still."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState, MessageState
from supervisor.fleet import fleet as fleet_module
from supervisor.store import Journal, sqlite
from tests.support.stack import Stack, stack

Log = Callable[[], list[dict[str, Any]]]

STUCK = "import asyncio\nasync def on_message(message, ctx):\n    await asyncio.Event().wait()\n"

PROMPT = "async def on_message(message, ctx):\n    return f'Echo: {message.content}'\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that gives up soon on a locked file, and a fleet that tries again soon."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr("supervisor.store.writer.PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(fleet_module, "CANCEL_RETRY_SECONDS", 0.1)


@asynccontextmanager
async def waiting(folder: Path) -> AsyncIterator[tuple[Stack, str]]:
    """A supervisor with a paused agent, for which two messages wait."""
    handlers = folder / "handlers"
    handlers.mkdir()
    (handlers / "stuck.py").write_text(STUCK)
    (handlers / "prompt.py").write_text(PROMPT)
    async with stack(folder, agents_dir=handlers, drain_seconds=0.2) as fleet:
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


async def test_a_removed_agents_messages_are_cancelled_once_the_file_is_free(tmp_path: Path, log: Log) -> None:
    async with waiting(tmp_path) as (fleet, identity):
        journal = fleet.service.registry.journal
        with removed_and_locked(fleet) as other:
            await until_not_cancelled(fleet, log)
            assert await states(journal, identity) == {MessageState.AVAILABLE}
            other.execute("ROLLBACK")
            await until_cancelled(journal, identity)
        told = [line["event"] for line in log() if line["event"].startswith("messages_")]
        assert told == ["messages_not_cancelled", "messages_cancelled"], "said once, however often it is tried"


async def test_an_agent_that_comes_back_meanwhile_keeps_its_messages(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for the agent's return to be noticed in the pause.
    monkeypatch.setattr(fleet_module, "CANCEL_RETRY_SECONDS", 3.0)
    async with waiting(tmp_path) as (fleet, identity):
        with removed_and_locked(fleet) as other:
            await until_not_cancelled(fleet, log)
            other.execute(
                "INSERT INTO agents (id, handler, secret) VALUES (?, 'prompt', ?)",
                (identity, f"file:{fleet.folder / 'agent-secret'}"),
            )
            other.execute("COMMIT")
            await fleet.until(fleet.service.control.statuses, timeout=30)
            await fleet.online(timeout=30)
        conversation = fleet.sandbox.conversation_of(identity)
        await fleet.until(
            lambda: (
                [m.content for m in fleet.sandbox.messages(conversation) if m.sender_kind == "agent"]
                == ["Echo: one", "Echo: two"]
            )
        )
        assert not [line for line in log() if line["event"] == "messages_cancelled"]


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
