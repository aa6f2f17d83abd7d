"""Which conversations an agent is in, over restarts and over a journal that refuses."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import structlog

from supervisor.messages.conversations import LIMIT, Conversations
from supervisor.messages.scope import Scope
from supervisor.store import Journal
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT


async def test_conversations_are_kept_in_the_order_of_their_last_messages(scope: Scope) -> None:
    conversations = Conversations(scope)
    for name in ("a", "b", "c", "a"):
        conversations.touch(name)
    assert list(conversations) == ["b", "c", "a"]
    assert list(reversed(conversations)) == ["a", "c", "b"]


async def test_the_most_recent_ones_are_kept(scope: Scope) -> None:
    conversations = Conversations(scope)
    for number in range(LIMIT + 1):
        conversations.touch(str(number))
    assert len(conversations) == LIMIT
    assert "0" not in conversations
    assert "1" in conversations


async def test_what_was_joined_and_left_is_known_after_a_restart(scope: Scope, clock: ManualClock) -> None:
    conversations = Conversations(scope)
    for name in ("old", "left", "kept"):
        await conversations.joined(name)
        await clock.advance(100)
    await conversations.left("left")
    assert list(conversations) == ["old", "kept"]
    restored = Conversations(scope)
    await restored.restore(since=clock.now() - 250)
    assert list(restored) == ["kept"]


async def test_a_journal_that_refuses_costs_a_line_in_the_log(scope: Scope, journal: Journal, tmp_path: Path) -> None:
    conversations = Conversations(scope)
    await conversations.joined("kept")
    with closing(sqlite3.connect(tmp_path / "supervisor.db")) as database:
        for kind in ("INSERT", "UPDATE", "DELETE"):
            database.execute(
                f"CREATE TRIGGER no_{kind} BEFORE {kind} ON conversations BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        database.commit()
    with structlog.testing.capture_logs() as log:
        await conversations.joined("new")
        await conversations.left("kept")
    assert [line["event"] for line in log] == ["conversation_not_noted", "conversation_not_forgotten"]
    assert list(conversations) == ["new"], "it goes on in memory"
    assert [name for name, _ in await journal.conversations(AGENT, since=0.0, limit=10)] == ["kept"]
