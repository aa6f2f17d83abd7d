"""The same done to many at once, and what is known of agents beside their states, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from supervisor.core.states import AgentState, MessageState
from tests.support.journaling import add
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, agent_id, stack

FAILS = 'async def on_message(message, ctx):\n    raise RuntimeError("no key")\n'
MODEL = '''"""Says what it cost."""
from supervisor.handler import Reply, Usage

SETTINGS = {"city": {"type": "string", "description": "Whose weather."}}


async def on_message(message, ctx):
    return Reply("well", usage=Usage(100, 20, "m"))
'''


@asynccontextmanager
async def asking(fleet: Stack) -> AsyncIterator[Any]:
    async with aiohttp.ClientSession() as session:

        async def ask(method: str, path: str, **given: Any) -> Any:
            async with session.request(method, fleet.service.admin_url + path, **given) as answer:
                return answer.status, await answer.json()

        yield ask


async def test_many_agents_at_once(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet, asking(fleet) as ask:
        ids = [await fleet.add(number) for number in (1, 2, 3)]
        await fleet.online(3)
        many = {"action": "pause", "ids": [*ids[:2], ids[0], "nobody"]}
        status, said = await ask("POST", "/api/v1/bulk/agents", json=many)
        assert (status, said) == (
            200,
            {
                "matched": 3,
                "done": 2,
                "refused": {"nobody": "No agent nobody is registered; see: supervisor agents list"},
            },
        )
        for identity in ids[:2]:
            await fleet.state(identity, AgentState.PAUSED)
        assert fleet.service.control.status(ids[2]).state is AgentState.ONLINE
        await ask("POST", "/api/v1/bulk/agents", json={"action": "resume", "ids": ids})
        await fleet.online(3)
        _, said = await ask("POST", "/api/v1/bulk/agents", json={"action": "reload", "ids": [*ids, "nobody"]})
        assert (said["done"], list(said["refused"])) == (3, ["nobody"])
        _, said = await ask("POST", "/api/v1/bulk/agents", json={"action": "remove", "ids": ids[1:]})
        assert said == {"matched": 2, "done": 2, "refused": {}}
        assert [one.id for one in await fleet.service.registry.agents()] == ids[:1]
        malformed: list[Any] = [
            {"action": "explode", "ids": []},
            {"action": "pause"},
            {"action": "pause", "ids": [], "where": {}},
            {"action": "pause", "where": {"name": "all"}},
            {"action": "pause", "ids": "all"},
            [],
        ]
        for odd in malformed:
            assert (await ask("POST", "/api/v1/bulk/agents", json=odd))[0] == 422


async def test_all_agents_that_match_and_only_as_many_as_expected(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet, asking(fleet) as ask:
        ids = [await fleet.add(n, name=f"Agent {n}", labels={"team": "a" if n < 3 else "b"}) for n in (1, 2, 3)]
        await fleet.online(3)

        async def many(action: str, **given: Any) -> Any:
            return await ask("POST", "/api/v1/bulk/agents", json={"action": action, **given})

        where = {"labels": ["team=a"], "states": ["online"], "handlers": ["echo"]}
        assert await many("pause", where=where, dry_run=True) == (200, {"matched": 2, "done": 0, "refused": {}})
        status, said = await many("pause", where=where, expected=3)
        assert (status, said["error"]) == (409, "2 match by now, not 3; nothing was done")
        assert {one.state for one in fleet.service.control.statuses()} == {AgentState.ONLINE}
        assert await many("pause", where=where, expected=2) == (200, {"matched": 2, "done": 2, "refused": {}})
        for identity in ids[:2]:
            await fleet.state(identity, AgentState.PAUSED)
        assert (await many("pause", where=where, dry_run=True))[1]["matched"] == 0
        assert (await many("pause", where={"text": "AGENT 3"}, dry_run=True))[1]["matched"] == 1
        assert (await many("resume", where={}))[1] == {"matched": 3, "done": 3, "refused": {}}
        assert (await many("pause", where={"states": ["asleep"]}))[0] == 400


async def test_all_messages_that_match(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet, asking(fleet) as ask:
        identity = await fleet.add(1)
        journal = fleet.service.registry.journal
        for number in range(1, 551):
            row = await add(journal, f"k{number}", agent=identity, claim=True)
            await journal.settle(row, MessageState.DEAD, error="no key")

        async def many(action: str, **given: Any) -> Any:
            return await ask("POST", "/api/v1/bulk/messages", json={"action": action, **given})

        where = {"agent_id": identity, "states": ["dead"]}
        assert await many("discard", where=where, dry_run=True) == (200, {"matched": 550, "done": 0, "refused": {}})
        assert (await many("discard", where=where, expected=500))[0] == 409
        assert await many("discard", where=where, expected=550) == (200, {"matched": 550, "done": 550, "refused": {}})
        assert (await many("discard", where={}, dry_run=True))[1]["matched"] == 0, "dead letters, unless it is said"
        cancelled = {"agent_id": identity, "states": ["cancelled"]}
        assert (await many("discard", where=cancelled, dry_run=True))[1]["matched"] == 550


async def test_many_messages_at_once(tmp_path: Path) -> None:
    agents_dir = handlers_folder(tmp_path, {"fails": FAILS})
    async with stack(tmp_path, agents_dir=agents_dir) as fleet, asking(fleet) as ask:
        identity = await fleet.add(1, "fails", settings={"max_attempts": 1})
        await fleet.online()
        for text in ("one", "two", "three"):
            await fleet.ask(identity, text)
        _, dead = await ask("GET", "/api/v1/messages")
        numbers = [one["id"] for one in dead]
        _, said = await ask("POST", "/api/v1/bulk/messages", json={"action": "discard", "ids": [numbers[0], 999]})
        assert (said["done"], list(said["refused"])) == (1, ["999"])
        (agents_dir / "fails.py").write_text("async def on_message(message, ctx):\n    return 'well'\n")
        await fleet.service.control.reload(identity)
        await fleet.until(lambda: not fleet.service.control.status(identity).failing)
        _, said = await ask("POST", "/api/v1/bulk/messages", json={"action": "replay", "ids": numbers})
        assert (said["done"], list(said["refused"])) == (2, [str(numbers[0])])
        journal = fleet.service.registry.journal
        await fleet.until(lambda: fleet.service.control.status(identity).inbox.dead == 0)
        async for _ in polled():
            if len(await journal.messages(agent_id=identity, states=[MessageState.DONE])) == 2:
                break
        _, said = await ask("POST", "/api/v1/bulk/messages", json={"action": "cancel", "ids": numbers})
        assert (said["done"], len(said["refused"])) == (0, 3)


async def polled() -> AsyncIterator[None]:
    """As often as it takes."""
    async with asyncio.timeout(20):
        while True:
            yield
            await asyncio.sleep(0.02)


async def test_what_agents_did_used_and_may_use(tmp_path: Path) -> None:
    agents_dir = handlers_folder(tmp_path, {"fails": FAILS, "model": MODEL})
    async with stack(tmp_path, agents_dir=agents_dir) as fleet, asking(fleet) as ask:
        well = await fleet.add(1, "model")
        ill = await fleet.add(2, "fails", settings={"max_attempts": 1})
        await fleet.online(2)
        await fleet.ask(well, "hello")
        await fleet.ask(ill, "hello")
        await fleet.until(lambda: any(one.answered for one in fleet.service.control.insight.activity(well)))
        _, minutes = await ask("GET", f"/api/v1/agents/{well}/activity")
        assert total(minutes, "received", "answered", "failed", "input_tokens", "output_tokens") == [1, 1, 0, 100, 20]
        assert 0 < max(one["latency_seconds"] for one in minutes) < 30
        assert total((await ask("GET", f"/api/v1/agents/{ill}/activity"))[1], "received", "failed") == [1, 1]
        _, conversations = await ask("GET", f"/api/v1/agents/{well}/conversations")
        assert len(conversations) == 1
        _, handlers = await ask("GET", "/api/v1/handlers")
        known = {one["name"]: one for one in handlers}
        assert (known["model"]["about"], known["model"]["settings"]) == ("Says what it cost.", ["city"])
        assert known["model"]["settings_schema"]["city"] == {"type": "string", "description": "Whose weather."}
        assert (known["fails"]["settings"], known["fails"]["settings_schema"]) == (None, {})
        _, schema = await ask("GET", "/api/v1/settings-schema")
        said = {name: one.get("x-deployment") for name, one in schema["properties"].items()}
        assert said["max_attempts"] == "SUPERVISOR_MAX_ATTEMPTS"
        assert said["concurrency"] == "SUPERVISOR_AGENT_CONCURRENCY"
        assert said["budget_tokens"] is None, "the fleet's budget is another one"
        for path in ("activity", "conversations"):
            assert (await ask("GET", f"/api/v1/agents/{agent_id(9)}/{path}"))[0] == 404


def total(minutes: list[dict[str, Any]], *names: str) -> list[int]:
    return [sum(one[name] for one in minutes) for name in names]


async def test_usage_of_some_days(tmp_path: Path) -> None:
    agents_dir = handlers_folder(tmp_path, {"model": MODEL})
    async with stack(tmp_path, agents_dir=agents_dir) as fleet, asking(fleet) as ask:
        identity = await fleet.add(1, "model")
        await fleet.online()
        await fleet.ask(identity, "hello")
        fleet.service.registry.journal.usage.write()
        async for _ in polled():
            _, used = await ask("GET", f"/api/v1/usage?agent_id={identity}&days=2")
            if used:
                break
        assert [(one["model"], one["input_tokens"], one["output_tokens"]) for one in used] == [("m", 100, 20)]
        assert (await ask("GET", "/api/v1/usage?days=0"))[0] == 422


async def test_the_doctor_is_asked_over_the_api(tmp_path: Path) -> None:
    agents_dir = handlers_folder(tmp_path, {"fails": FAILS})
    async with stack(tmp_path, agents_dir=agents_dir) as fleet, asking(fleet) as ask:
        identity = await fleet.add(1, "fails", settings={"max_attempts": 1})
        await fleet.online()
        await fleet.ask(identity, "hello")
        _, found = await ask("POST", "/api/v1/doctor")
        assert ("health", "fail", "failing: RuntimeError: no key", 7) in {
            (one["check"], one["level"], one["text"], one["exit_code"]) for one in found
        }
        own = {one["check"]: one for one in found if not one["agent"] and one["level"] == "ok"}
        assert {"settings", "handlers", "registry", "supervisor", "descriptors"} <= set(own)
        assert own["registry"]["text"].endswith("supervisor.db holds 1 agent")
        assert "fails" in own["handlers"]["text"]
        _, found = await ask("POST", f"/api/v1/doctor?agent_id={identity}")
        assert {"row", "token", "connect"} <= {one["check"] for one in found}
        assert (await ask("POST", f"/api/v1/doctor?agent_id={agent_id(9)}"))[0] == 404
