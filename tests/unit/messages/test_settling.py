"""What came of a message is written, however often the database refuses it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import structlog

from supervisor.core.states import MessageState
from supervisor.messages.scope import Scope
from supervisor.messages.settling import RETRY_SECONDS, until_journaled
from supervisor.store import Journal
from tests.support.clock import ManualClock
from tests.support.journaling import AGENT, add
from tests.support.messaging import until


async def test_a_database_that_refuses_is_asked_again(
    scope: Scope, journal: Journal, clock: ManualClock, tmp_path: Path
) -> None:
    row = await add(journal, "m1", claim=True)
    with closing(sqlite3.connect(tmp_path / "supervisor.db")) as database:
        database.execute("CREATE TRIGGER no BEFORE UPDATE ON inbox BEGIN SELECT RAISE(ABORT, 'no'); END")
        database.commit()
        with structlog.testing.capture_logs() as log:
            settling = asyncio.create_task(
                until_journaled(scope, lambda: journal.settle(row, MessageState.DONE, replies=[]))
            )
            await until(lambda: clock.sleepers)
        database.execute("DROP TRIGGER no")
        database.commit()
    await clock.advance(RETRY_SECONDS)
    assert await settling == []
    assert [line["event"] for line in log] == ["message_not_settled"]
    [settled] = await journal.messages(agent_id=AGENT, states=[MessageState.DONE], limit=10)
    assert settled.id == row.id
