"""A process killed while it writes: everything that it was told is committed is there, once."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from supervisor.core.states import MessageState, ReplyState
from supervisor.store import LockInfo, Registry

# Tells each commit on its standard output, right after the journal told it.
WRITER = """
import asyncio, os, sys
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.core.records import NewReply
from supervisor.store import LockInfo, Registry
from supervisor.core.states import MessageState, ReplyState

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def lane(journal, number, run):
    for turn in range(100_000):
        key = f"{run}-{number}-{turn}"
        message = InboundMessage(conversation_id=f"c{number}", role="user", content=key)
        row = await journal.add("agent", message, key=key, received_at=float(turn), claim=True)
        say("added", key)
        answer = OutboundMessage(role="assistant", content=key, conversation_id=f"c{number}")
        (reply,) = await journal.settle(row, MessageState.DONE, replies=[NewReply(0, answer)])
        say("settled", key)
        await journal.settle_reply(reply, ReplyState.ACKED)
        say("acked", key)

async def main():
    registry = await Registry.open(sys.argv[1], upgrade=True, lock=LockInfo())
    await asyncio.gather(*[lane(registry.journal, number, sys.argv[2]) for number in range(20)])

asyncio.run(main())
"""


def kill_while_writing(url: str, run: int, seconds: float) -> dict[str, str]:
    """Run the writer until it is killed; the last thing it was told about each key."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, url, str(run)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as output:
        told = [output.readline()]
        time.sleep(seconds)
        child.kill()
        told += output.readlines()
    assert child.wait(30) == -9
    # A line that was cut by the kill says nothing.
    lines = [line.decode().split() for line in told if line.endswith(b"\n")]
    return {key: what for what, key in lines}


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
async def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path, synchronous: str) -> None:
    path = tmp_path / "supervisor.db"
    url = f"sqlite+aiosqlite:///{path}"
    chance = random.Random(synchronous)
    told: dict[str, str] = {}
    for run in range(4):
        told |= kill_while_writing(url, run, chance.uniform(0.0, 0.4))
        # The lock died with its holder, and the file is sound.
        registry = await Registry.open(url, lock=LockInfo(), synchronous=synchronous)
        await registry.journal.maintenance.rescue()
        await registry.close()
    with closing(sqlite3.connect(path)) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = {
            bytes(key).decode(): (state, replies, acked)
            for key, state, replies, acked in sql.execute(
                "SELECT message_key, inbox.state, count(outbox.id), sum(outbox.state = 2) "
                "FROM inbox LEFT JOIN outbox ON outbox.inbox_id = inbox.id GROUP BY inbox.id"
            )
        }
    assert len(told) > 40
    assert set(told) <= set(found)
    for key, what in told.items():
        state, replies, acked = found[key]
        if what in ("settled", "acked"):
            assert (state, replies) == (4, 1), key
        if what == "acked":
            assert acked == 1, key
    # Nothing is half done: a message is settled with its reply, or waits to run again without one.
    assert {(state, replies) for state, replies, _ in found.values()} <= {(4, 1), (0, 0)}


async def test_after_a_kill_the_work_goes_on_where_it_was(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/supervisor.db"
    kill_while_writing(url, 0, 0.1)
    registry = await Registry.open(url, lock=LockInfo())
    journal = registry.journal
    await journal.maintenance.rescue()
    for row in await journal.unsettled("agent"):
        assert row.attempts == 1
        assert await journal.claim(row)
        assert await journal.settle(row, MessageState.DONE) == []
    for reply in await journal.unsent("agent"):
        assert await journal.settle_reply(reply, ReplyState.ACKED)
    assert await journal.counts() == {}
    await registry.close()
