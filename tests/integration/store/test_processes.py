"""Several programs on one registry at once: no lost updates, and nobody hears "database is locked"."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from supervisor.core.records import AgentRecord
from supervisor.core.states import MessageState
from supervisor.store import Registry

TASKS = 50
TURNS = 4

# Fifty tasks that write agents and messages, some of which the other process writes too.
WRITER = """
import asyncio, sys
from supervisor.protocol import InboundMessage, OutboundMessage
from supervisor.core.records import AgentRecord, NewReply
from supervisor.store import Registry
from supervisor.core.states import MessageState, ReplyState
url, name, tasks, turns = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

async def work(registry, number):
    journal, agent = registry.journal, f"{name}-{number}"
    await registry.add_agent(AgentRecord(id=agent, handler="echo", secret="env:AGENT_A"))
    mine = 0
    for turn in range(turns):
        await registry.update_agent(agent, settings={"turn": turn})
        message = InboundMessage(conversation_id=f"c{number}", role="user", content="x")
        shared = await journal.add("shared", message, key=f"{number}-{turn}", received_at=1.0, claim=False)
        mine += shared is not None
        row = await journal.add("shared", message, key=f"{name}-{number}-{turn}", received_at=1.0, claim=True)
        answer = OutboundMessage(role="assistant", content=row.key, conversation_id=f"c{number}")
        (reply,) = await journal.settle(row, MessageState.DONE, replies=[NewReply(0, answer)])
        assert await journal.settle_reply(reply, ReplyState.ACKED)
        assert reply.inbox_id == row.id
    return mine

async def main():
    registry = await Registry.open(url)
    print("ready", flush=True)
    sys.stdin.readline()
    print(sum(await asyncio.gather(*[work(registry, number) for number in range(tasks)])))
    await registry.close()

asyncio.run(main())
"""


async def test_fifty_writers_in_each_of_two_processes_lose_nothing(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/supervisor.db"
    registry = await Registry.open(url, upgrade=True)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, name, str(TASKS), str(TURNS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for child in children:
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "ready\n"
    outcomes = await asyncio.gather(*[asyncio.to_thread(child.communicate, "\n", 90) for child in children])
    for child, (_, errors) in zip(children, outcomes, strict=True):
        assert child.returncode == 0, errors
        assert errors == ""
    # Each shared key was taken by exactly one of the two.
    assert sum(int(output) for output, _ in outcomes) == TASKS * TURNS
    agents = await registry.agents()
    assert len(agents) == 2 * TASKS
    assert {agent.settings["turn"] for agent in agents} == {TURNS - 1}
    rows = await registry.journal.messages(limit=10_000)
    assert len(rows) == 3 * TASKS * TURNS
    assert len({row.key for row in rows}) == len(rows)
    for row in rows:
        if row.state is MessageState.DONE:
            (reply,) = await registry.journal.replies(row.id)
            assert reply.message.content == row.key
    assert await registry.journal.unsent("shared") == []
    # This process has been idle: its numbers are behind and it finds that out.
    await registry.journal.maintenance.cancel_agent("shared")
    late = await registry.journal.add("shared", rows[0].message, key="late", received_at=1.0, claim=False)
    assert late is not None
    assert late.id > max(row.id for row in rows)
    await registry.close()


async def test_a_change_by_raw_sql_is_noticed_at_the_next_asking_and_the_journals_own_commits_are_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "supervisor.db"
    registry = await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True)
    await registry.add_agent(AgentRecord(id="a1", handler="echo", secret="env:AGENT_A"))
    assert await registry.changed()
    for round_number in range(20):
        await registry.journal.maintenance.purge("a1")
        await registry.agents()
        assert not await registry.changed()
        with closing(sqlite3.connect(path)) as sql:
            sql.execute("UPDATE agents SET name = ?", (str(round_number),))
            sql.commit()
        assert await registry.changed()
        assert (await registry.agent("a1")).name == str(round_number)
    await registry.close()
