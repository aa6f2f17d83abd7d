"""R27: fewer file descriptors than the agents need."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from supervisor.core.records import AgentRecord
from supervisor.net.descriptors import Budget, needed, of_process
from supervisor.sandbox import Sandbox, SandboxUser
from supervisor.store import Registry, lock_holder
from tests.support.processes import SECONDS, SupervisorProcess, supervisor_process
from tests.support.reliability import Case
from tests.support.stack import SECRET, SECRET_FILE, agent_id

#: At first, as the shell sets it; what the hard limit allows; and what is left while there is too little.
SOFT, HARD, FEW = 60, 400, 110
AGENTS = Budget(FEW).agents + 8
#: Takes every descriptor that there is when it is told to, and gives them back.
GREEDY = """
import os

held = []

async def on_message(message, ctx):
    if message.content == "take":
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            return f"{len(held) > 0} {error.strerror}"
    while held:
        os.close(held.pop())
    return "given back"
"""


async def admin(fleet: SupervisorProcess, path: str) -> Any:
    """What the admin port answers."""
    holder = lock_holder(f"sqlite+aiosqlite:///{fleet.database}")
    assert holder is not None
    async with aiohttp.ClientSession() as http, http.get(f"{holder.address}{path}") as response:
        assert response.status == 200
        return await response.json()


async def states(fleet: SupervisorProcess) -> dict[str, int]:
    """How many agents are in each state."""
    return dict((await admin(fleet, "/api/v1/status"))["agents"])


async def becomes(fleet: SupervisorProcess, expected: dict[str, int]) -> None:
    async with asyncio.timeout(SECONDS):
        while await states(fleet) != expected:
            await asyncio.sleep(0.05)


async def fill(fleet: SupervisorProcess) -> None:
    """Add agents to the registry that runs, all at once."""
    secret = f"file:{fleet.folder / SECRET_FILE}"
    records = [AgentRecord(agent_id(number), "echo", secret) for number in range(2, AGENTS + 1)]
    for record in records:
        fleet.sandbox.add_agent(record.id, SECRET)
    registry = await Registry.open(f"sqlite+aiosqlite:///{fleet.database}")
    try:
        await registry.apply(add=records)
    finally:
        await registry.close()


async def ask(user: SandboxUser, identity: str, text: str) -> str:
    conversation = await user.open(identity)
    message = await user.say(conversation, text)
    [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
    return str(reply.content)


async def test_r27_fewer_descriptors_than_agents(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R27")
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, {"greedy": GREEDY}) as fleet:
        await fleet.add(1, "greedy")
        await fleet.start(limits=f"ulimit -Sn {SOFT} && ulimit -Hn {HARD}")
        await fleet.online()
        assert fleet.process is not None
        pid = fleet.process.pid
        assert of_process(pid) == (HARD, HARD), "raised"
        [told] = [line for line in map(json.loads, fleet.log.splitlines()) if line["event"] == "descriptors"]
        assert (told["level"], told["limit"], told["needed"]) == ("info", HARD, needed(1))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (FEW, HARD))
        await fill(fleet)
        fitting = Budget(FEW).agents
        await becomes(fleet, {"online": fitting, "backoff": AGENTS - fitting})
        agents = await admin(fleet, "/api/v1/agents")
        waiting = [one for one in agents if one["state"] == "backoff"]
        assert all("file descriptor" in one["reason"] and "LimitNOFILE" in one["reason"] for one in waiting)
        assert any("file descriptor" in notice for notice in (await admin(fleet, "/api/v1/status"))["notices"])
        user = await sandbox.user()
        asked = [one["id"] for one in agents if one["state"] == "online" and one["id"] != agent_id(1)]
        answers = await asyncio.gather(*(ask(user, identity, identity) for identity in asked))
        figures.answers(asked, [answer.removeprefix("Echo: ") for answer in answers])
        figures.faults = 2
        # A handler that takes all that is left: those that are online are answered, and it is named.
        assert await ask(user, agent_id(1), "take") == "True Too many open files"
        assert await ask(user, asked[0], "none left") == "Echo: none left"
        await fleet.until(lambda: '"descriptors_exhausted"' in fleet.log, "a line that names it")
        assert await admin(fleet, "/livez") == {"alive": True}
        assert await ask(user, agent_id(1), "give") == "given back"
        await fleet.until(lambda: '"descriptors_free_again"' in fleet.log, "a line that it is over")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (HARD, HARD))
        await becomes(fleet, {"online": AGENTS})
        assert set(await asyncio.gather(*(ask(user, one["id"], "late") for one in waiting))) == {"Echo: late"}
        figures.messages += len(waiting)
        assert figures.lost == figures.doubled == 0
        await fleet.stop()
