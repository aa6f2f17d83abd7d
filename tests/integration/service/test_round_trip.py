"""What a message costs, counted and not timed: a round trip through a real socket and SQLite gets no dearer."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from supervisor.sandbox import Sandbox
from tests.support.observing import handlers_folder
from tests.support.paths import ROOT
from tests.support.processes import SupervisorProcess
from tests.support.stack import SECRET, SECRET_FILE

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
    "calls": 840.0,  # 760, 762: of functions in Python, and coroutines resumed
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


@dataclass
class Counted:
    """A supervisor that counts, and the platform that it is on."""

    sandbox: Sandbox
    process: asyncio.subprocess.Process

    async def costs(self, agent: str) -> dict[str, float]:
        """What one of an agent's round trips costs: the cheaper of two turns, for others on the machine only add."""
        user = await self.sandbox.user()
        conversation = await user.open(agent)

        async def talk(messages: int) -> dict[str, int]:
            for _ in range(messages):
                said = await user.say(conversation, "What is the weather like in Da Nang today?")
                await user.wait_for_reply(conversation, after=said)
            return await self._counts()

        counts = [await talk(messages) for messages in (WARM_UP, MESSAGES, MESSAGES)]
        turns = list(itertools.pairwise(counts))
        return {name: min(after[name] - before[name] for before, after in turns) / MESSAGES for name in BOUNDS}

    async def _counts(self) -> dict[str, int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n")
        counts: dict[str, int] = json.loads(await self.process.stdout.readline())
        return counts


@asynccontextmanager
async def counted(folder: Path, wire: str, *handlers: str) -> AsyncIterator[tuple[Counted, list[str]]]:
    """A supervisor in a process of its own, with an agent for each of the handlers."""
    (folder / SECRET_FILE).write_text(SECRET)
    handlers_folder(folder, HANDLERS)
    async with Sandbox() as sandbox:
        registry = SupervisorProcess(folder, sandbox, {"wire": wire})
        agents = [await registry.add(number, handler) for number, handler in enumerate(handlers, 1)]
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.counted"),
                env=registry.environment() | {"PYTHONPATH": str(ROOT)},
                cwd=folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        registry.process = process
        try:
            await registry.online(*agents)
            yield Counted(sandbox, process), agents
            assert process.stdin is not None
            process.stdin.close()
            assert await registry.end() == 0, registry.log[-2000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("wire", ["picows", "socketio"])
async def test_a_round_trip_costs_no_more_than_it_did(tmp_path: Path, wire: str) -> None:
    async with counted(tmp_path, wire, "echo") as (supervisor, [agent]):
        costs = await supervisor.costs(agent)
    assert all(costs[name] > 0 for name in BOUNDS if name != "kept_blocks"), costs
    assert {name: cost for name, cost in costs.items() if cost > BOUNDS[name]} == {}, costs


async def test_one_more_task_a_message_and_what_is_kept_of_it_are_counted(tmp_path: Path) -> None:
    async with counted(tmp_path, "picows", "echo", "wasteful") as (supervisor, [plain, wasteful]):
        before, after = await supervisor.costs(plain), await supervisor.costs(wasteful)
    assert after["tasks"] - before["tasks"] == pytest.approx(1.0, abs=0.2)
    assert after["callbacks"] > before["callbacks"]
    assert after["kept_blocks"] - before["kept_blocks"] > 20
