"""What a message costs, counted and not timed: a round trip through a real socket and SQLite gets no dearer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support.counting import Counted, counted

WARM_UP, MESSAGES = 50, 120

#: What a round trip may cost: one person says one thing after the other, so that no work is shared. Behind each bound,
#: what was counted when it was set, on picows and on the reference wire. Whoever makes it cheaper lowers the bound.
BOUNDS: Final[Mapping[str, float]] = {
    "tasks": 1.4,  # 1.0, 1.0
    "futures": 2.5,  # 0.3, 1.3
    "callbacks": 13.0,  # 10.8, 9.8
    "rounds": 10.5,  # 8.3, 8.3: of the event loop
    "timers": 0.9,  # 0.2, 0.2
    "statements": 5.4,  # 5.0, 5.0: of SQL, those that begin and end transactions aside
    "transactions": 2.4,  # 2.0, 2.0
    "calls": 640.0,  # 575, 582: of functions in Python, and coroutines resumed
    "kept_blocks": 12.0,  # about 1, about 1: of memory, still there when all is over
}
HANDLERS = {
    "wasteful": '''
"""Makes a task a message, and keeps twenty objects of it."""
import asyncio

kept = []

async def on_message(message, ctx):
    await asyncio.create_task(asyncio.sleep(0))
    kept.append([[number] for number in range(20)])
    return f"Echo: {message.content}"
''',
}


async def costs_of(supervisor: Counted, agent: str) -> dict[str, float]:
    """What one of an agent's round trips costs: the cheaper of two turns, for others on the machine only add."""
    user = await supervisor.sandbox.user()
    conversation = await user.open(agent)

    async def talk(messages: int) -> dict[str, int]:
        for _ in range(messages):
            said = await user.say(conversation, "What is the weather like in Da Nang today?")
            await user.wait_for_reply(conversation, after=said)
        return await supervisor.counts()

    counts = [await talk(messages) for messages in (WARM_UP, MESSAGES, MESSAGES)]
    turns = list(itertools.pairwise(counts))
    return {name: min(after[name] - before[name] for before, after in turns) / MESSAGES for name in BOUNDS}


@pytest.mark.parametrize("wire", ["picows", "socketio"])
async def test_a_round_trip_costs_no_more_than_it_did(tmp_path: Path, wire: str) -> None:
    async with counted(tmp_path, wire, "echo") as (supervisor, [agent]):
        costs = await costs_of(supervisor, agent)
    assert all(costs[name] > 0 for name in BOUNDS if name != "kept_blocks"), costs
    assert {name: cost for name, cost in costs.items() if cost > BOUNDS[name]} == {}, costs


async def test_one_more_task_a_message_and_what_is_kept_of_it_are_counted(tmp_path: Path) -> None:
    async with counted(tmp_path, "picows", "echo", "wasteful", code=HANDLERS) as (supervisor, [plain, wasteful]):
        before, after = await costs_of(supervisor, plain), await costs_of(supervisor, wasteful)
    assert after["tasks"] - before["tasks"] == pytest.approx(1.0, abs=0.2)
    assert after["callbacks"] > before["callbacks"]
    assert after["kept_blocks"] - before["kept_blocks"] > 20
