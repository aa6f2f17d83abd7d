"""What an agent costs on its way from its row to where it is online, and at rest: counted, not timed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.support.counting import Counted, counted
from tests.support.stack import SECRET, SECRET_FILE, agent_id

#: So many agents are there already, and so many come at once.
FIRST, MORE = 5, 40

#: What one of those may cost. Behind each bound, what was counted when it was set. Whoever makes it cheaper lowers it.
BOUNDS: Final[Mapping[str, float]] = {
    "tasks": 13.8,  # 12.0
    "futures": 44.5,  # 40.5
    "callbacks": 72.0,  # 65.1: of the event loop
    "timers": 22.0,  # 19.5
    "statements": 17.0,  # 14.4: of SQL, those that begin and end transactions aside
    "calls": 4050.0,  # 3,762: of functions in Python, and coroutines resumed
    "kept_blocks": 800.0,  # 745: of memory
    "tasks_left": 2.4,  # 2.0: its own, and one that waits for the answer to its first heartbeat
}


async def at_rest(supervisor: Counted) -> dict[str, int]:
    """The counts once no task was begun for a moment."""
    counts = await supervisor.counts()
    while True:
        await asyncio.sleep(0.4)
        later = await supervisor.counts()
        if later["tasks"] == counts["tasks"]:
            return later
        counts = later


async def test_an_agent_comes_online_and_rests_for_no_more_than_it_did(tmp_path: Path) -> None:
    async with counted(tmp_path, "picows", *["echo"] * FIRST) as (supervisor, first):
        before = await at_rest(supervisor)
        more = [agent_id(number) for number in range(FIRST + 1, FIRST + MORE + 1)]
        for one in more:
            supervisor.sandbox.add_agent(one, SECRET)
        with closing(sqlite3.connect(supervisor.registry.database, timeout=10)) as database, database:
            row = "INSERT INTO agents (id, handler, secret) VALUES (?, 'echo', ?)"
            database.executemany(row, [(one, f"file:{tmp_path / SECRET_FILE}") for one in more])
        await supervisor.registry.online(*first, *more)
        after = await at_rest(supervisor)
        supervisor.registry.agents += more
    costs = {name: (after[name] - before[name]) / MORE for name in BOUNDS}
    assert all(cost > 0 for cost in costs.values()), costs
    assert {name: cost for name, cost in costs.items() if cost > BOUNDS[name]} == {}, costs
