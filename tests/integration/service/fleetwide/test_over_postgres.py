"""Two supervisors over one PostgreSQL, and the commands beside them: one fleet to whoever asks either of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.core.records import AgentRecord
from supervisor.core.states import AgentState, MessageState
from supervisor.sandbox import Sandbox
from supervisor.service import Service
from tests.support import postgres
from tests.support.dashboards import closed, load
from tests.support.observing import handlers_folder
from tests.support.stack import SECRET, SECRET_FILE, agent_id, make_settings
from tests.support.together import TOKEN

pytestmark = pytest.mark.timeout(180)
AGENTS, MESSAGES = "/api/v1/agents", "/api/v1/messages"
METRIC = re.compile(r"supervisor_\w+")
#: One that goes on until it is cancelled, and one that fails once for each message.
HANDLERS = {
    "hanging": "import asyncio\nasync def on_message(message, ctx):\n    await asyncio.Event().wait()\n",
    "failing": "async def on_message(message, ctx):\n    raise RuntimeError('no')\n",
}


@dataclass
class Pair:
    """Two supervisors of one registry."""

    sandbox: Sandbox
    folder: Path
    services: list[Service] = field(default_factory=list)

    async def ask(self, number: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        raw = None if body is None else json.dumps(body).encode()
        url = self.services[number].admin_url + path
        async with aiohttp.ClientSession() as session, session.request(method, url, data=raw, headers=headers) as got:
            text = await got.text()
            return got.status, json.loads(text) if text else None

    async def agents(self, number: int) -> dict[str, dict[str, Any]]:
        status, agents = await self.ask(number, "GET", AGENTS)
        assert status == 200
        return {one["id"]: one for one in agents}

    async def until_spread(self, count: int) -> dict[int, list[str]]:
        """Wait until all agents are online and both have some; whose are whose, by the services' places."""
        async with asyncio.timeout(60):
            while True:
                found = await self.agents(0)
                by_id: dict[int, list[str]] = {}
                for one in found.values():
                    if one["state"] == "online":
                        by_id.setdefault(one["replica"], []).append(one["id"])
                if sum(map(len, by_id.values())) == count and len(by_id) == 2:
                    return {
                        place: by_id[service.registry.replicas.my_id or 0]
                        for place, service in enumerate(self.services)
                    }
                await asyncio.sleep(0.1)


@asynccontextmanager
async def pair(folder: Path, count: int = 4, handler: str = "echo") -> AsyncIterator[Pair]:
    """Two supervisors that run ``count`` agents together."""
    (folder / SECRET_FILE).write_text(SECRET)
    agents_dir = handlers_folder(folder, HANDLERS)
    async with AsyncExitStack() as ending:
        sandbox = await ending.enter_async_context(Sandbox())
        url = ending.enter_context(postgres.new_database())
        made = Pair(sandbox, folder)
        for _ in range(2):
            settings = make_settings(
                folder, sandbox, registry_url=url, admin_token=TOKEN, lease_seconds=2, agents_dir=agents_dir
            )
            service = await Service.start(settings)
            ending.push_async_callback(service.stop, 1)
            made.services.append(service)
        for number in range(1, count + 1):
            identity = agent_id(number)
            sandbox.add_agent(identity, SECRET)
            record = AgentRecord(
                identity, handler, f"file:{folder / SECRET_FILE}", settings={"max_attempts": 1}, name=f"Agent {number}"
            )
            await made.services[0].registry.add_agent(record)
        yield made


async def test_either_shows_and_reaches_all_agents(tmp_path: Path) -> None:
    async with pair(tmp_path) as two:
        spread = await two.until_spread(4)
        theirs = spread[1][0]
        status, overview = await two.ask(0, "GET", "/api/v1/status")
        assert (status, overview["agents"], overview["unknown"]) == (200, {"online": 4}, 0)
        assert [one["online"] for one in overview["replicas"]] == [len(spread[0]), len(spread[1])]
        status, agent = await two.ask(0, "POST", f"{AGENTS}/{theirs}/pause")
        assert (status, agent["paused"]) == (200, True)
        async with asyncio.timeout(20):
            while (await two.agents(0))[theirs]["state"] != AgentState.PAUSED:
                await asyncio.sleep(0.05)
        assert (await two.ask(1, "POST", f"{AGENTS}/{theirs}/resume"))[0] == 200
        await two.until_spread(4)
        assert (await two.ask(0, "POST", f"{AGENTS}/{theirs}/reload"))[0] == 200


async def test_a_message_that_runs_on_one_is_cancelled_from_the_other(tmp_path: Path) -> None:
    async with pair(tmp_path, 2, "hanging") as two:
        spread = await two.until_spread(2)
        theirs = spread[1][0]
        user = await two.sandbox.user()
        await user.say(await user.open(theirs), "hello")
        journal = two.services[0].registry.journal
        async with asyncio.timeout(30):
            while not (running := await journal.messages(agent_id=theirs, states=[MessageState.RUNNING], limit=1)):
                await asyncio.sleep(0.05)
        _, agent = await two.ask(0, "GET", f"{AGENTS}/{theirs}")
        assert [one["message"] for one in agent["handling"]] == [running[0].id]
        status, message = await two.ask(0, "POST", f"{MESSAGES}/{running[0].id}/cancel")
        assert (status, message["state"]) == (200, "cancelled")
        async with asyncio.timeout(20):
            while (await two.ask(0, "GET", f"{AGENTS}/{theirs}"))[1]["handling"]:
                await asyncio.sleep(0.05)


async def test_a_dead_letter_of_one_is_replayed_from_the_other_at_once(tmp_path: Path) -> None:
    async with pair(tmp_path, 2, "failing") as two:
        spread = await two.until_spread(2)
        theirs = spread[1][0]
        user = await two.sandbox.user()
        await user.say(await user.open(theirs), "hello")
        journal = two.services[0].registry.journal
        async with asyncio.timeout(30):
            while not (dead := await journal.messages(agent_id=theirs, states=[MessageState.DEAD], limit=1)):
                await asyncio.sleep(0.05)
        number = dead[0].id
        assert (await two.ask(0, "POST", f"{MESSAGES}/{number}/replay"))[0] == 200
        async with asyncio.timeout(20):
            while True:
                _, message = await two.ask(0, "GET", f"{MESSAGES}/{number}")
                if (message["state"], message["replays"]) == ("dead", 1):
                    break
                await asyncio.sleep(0.05)
        body = {"action": "discard", "ids": [number, 10**6]}
        status, did = await two.ask(0, "POST", "/api/v1/bulk/messages", body)
        assert (status, did["matched"], did["done"], [*did["refused"]]) == (200, 2, 1, [str(10**6)])
        assert (await two.ask(0, "GET", f"{MESSAGES}/{number}"))[1]["state"] == "cancelled"


async def test_commands_show_and_reach_both(tmp_path: Path) -> None:
    async with pair(tmp_path) as two:
        spread = await two.until_spread(4)
        numbers = [service.registry.replicas.my_id for service in two.services]

        async def command(*args: str) -> str:
            environment = {
                **os.environ,
                "SUPERVISOR_REGISTRY_URL": two.services[0].settings.registry_url,
                "SUPERVISOR_ADMIN_TOKEN": TOKEN,
            }
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "supervisor", *args), env=environment, cwd=tmp_path, stdout=-1, stderr=-1
            )
            out, failed = await process.communicate()
            assert process.returncode == 0, failed.decode()
            assert TOKEN not in out.decode() + failed.decode()
            return out.decode()

        shown, table, logs = await asyncio.gather(
            command("replicas", "list", "--json"),
            command("status"),
            command("logs", "--json", "--lines", "500", "--grep", "state=online"),
        )
        found = [(one["id"], one["state"], one["online"]) for one in json.loads(shown)]
        assert found == [(number, "living", len(spread[place])) for place, number in enumerate(numbers)]
        assert [f"replica {number} living" in table for number in numbers] == [True, True]
        told = [json.loads(line) for line in logs.splitlines()]
        assert {one["agent"] for one in told if one["kind"] == "state"} == {*spread[0], *spread[1]}
        await command("replicas", "drain", str(numbers[1]))
        _, replicas = await two.ask(0, "GET", "/api/v1/replicas")
        assert [one["state"] for one in replicas] == ["living", "draining"]


async def test_each_has_figures_of_the_whole_registry(tmp_path: Path) -> None:
    async with pair(tmp_path, 2) as two:
        await two.until_spread(2)
        async with asyncio.timeout(30):
            while b'supervisor_replicas{state="living"} 2' not in (text := two.services[0].metrics.render("")[0]):
                await asyncio.sleep(0.1)
        assert b"supervisor_orphans 0" in text
        assert b'supervisor_registry_dead_rows{table="inbox_open"}' in text
        asked = {
            name for panel in closed(load("fleet")) for one in panel["targets"] for name in METRIC.findall(one["expr"])
        }
        assert {name for name in asked if b"\n" + name.encode() not in text} == set()
