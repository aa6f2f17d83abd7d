"""Who changed an agent over the admin API: the token's kind and the address; the way back, and what a reader sees."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, stack

A1 = agent_id(1)
PATH = f"/api/v1/agents/{A1}"


async def ask(fleet: Stack, method: str, path: str, body: Any = None, token: str = "full") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    url = fleet.service.admin_url + path
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body, headers=headers) as answer:
        assert SECRET not in await answer.text()
        return answer.status, await answer.json() if answer.content_type == "application/json" else None


async def test_changes_tell_who_made_them_and_are_undone(tmp_path: Path) -> None:
    given: dict[str, Any] = {"admin_token": SecretStr("full"), "admin_read_token": SecretStr("read")}
    async with stack(tmp_path, **given) as fleet:
        fleet.sandbox.add_agent(A1, SECRET)
        new = {"id": A1, "handler": "echo", "secret": f"file:{fleet.folder / SECRET_FILE}", "name": "Ada"}
        assert (await ask(fleet, "POST", "/api/v1/agents", new))[0] == 201
        await fleet.online()
        assert (await ask(fleet, "PATCH", PATH, {"name": "Grace"}))[0] == 200
        status, events = await ask(fleet, "GET", f"{PATH}/history")
        rows = [event for event in events if event["subject"] == "row"]
        assert (status, [event["action"] for event in rows]) == (200, ["changed", "added"])
        assert rows[0]["actor"] == {"kind": "api", "address": "full access by token from 127.0.0.1"}
        assert (rows[0]["before"]["name"], rows[0]["after"]["name"]) == ("Ada", "Grace")

        status, hidden = await ask(fleet, "GET", f"{PATH}/history", token="read")
        assert (status, {event["after"] for event in hidden}) == (200, {None})
        assert (await ask(fleet, "POST", f"{PATH}/rollback", {"to": 1}, token="read"))[0] == 403
        status, back = await ask(fleet, "POST", f"{PATH}/rollback", {"to": rows[1]["id"]})
        assert (status, back["name"]) == (200, "Ada")
        for body, code in (({"to": 10_000}, 409), ({"to": 0}, 422), ({"to": "1"}, 422), ({}, 422)):
            assert (await ask(fleet, "POST", f"{PATH}/rollback", body))[0] == code

        assert (await ask(fleet, "POST", f"{PATH}/restore"))[0] == 409
        assert (await ask(fleet, "DELETE", PATH))[0] == 204
        status, restored = await ask(fleet, "POST", f"{PATH}/restore")
        assert (status, restored["name"]) == (200, "Ada")
        assert (await ask(fleet, "POST", f"/api/v1/agents/{agent_id(2)}/restore"))[0] == 404
        assert (await ask(fleet, "GET", f"/api/v1/agents/{agent_id(2)}/history"))[0] == 404
        await fleet.online()


async def test_the_whole_fleets_history_and_what_can_be_restored(tmp_path: Path) -> None:
    given: dict[str, Any] = {"admin_token": SecretStr("full"), "admin_read_token": SecretStr("read")}
    async with stack(tmp_path, **given) as fleet:
        for number in (1, 2):
            await fleet.add(number, name=f"Agent {number}")
        assert (await ask(fleet, "DELETE", PATH))[0] == 204
        _, events = await ask(fleet, "GET", "/api/v1/history?limit=2")
        assert [(event["agent_id"], event["action"]) for event in events] == [(A1, "removed"), (agent_id(2), "added")]
        _, older = await ask(fleet, "GET", f"/api/v1/history?before_id={events[-1]['id']}", token="read")
        assert [(event["agent_id"], event["action"], event["after"]) for event in older] == [(A1, "added", None)]
        assert (await ask(fleet, "GET", "/api/v1/history?limit=0"))[0] == 422
        _, [removal] = await ask(fleet, "GET", "/api/v1/removals", token="read")
        assert (removal["agent_id"], removal["name"], removal["handler"]) == (A1, "Agent 1", "echo")
        assert removal["until"] - removal["removed_at"] == 86_400
        assert (await ask(fleet, "POST", f"{PATH}/restore"))[0] == 200
        assert await ask(fleet, "GET", "/api/v1/removals") == (200, [])


async def test_raw_sql_is_seen_while_a_supervisor_runs(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add(1)
        await fleet.online()
        with closing(sqlite3.connect(fleet.service.registry.where)) as database:
            database.execute("UPDATE agents SET name = 'Raw'")
            database.commit()

        async with asyncio.timeout(30):
            while not await seen(fleet, identity):
                await asyncio.sleep(0.05)


async def seen(fleet: Stack, identity: str) -> bool:
    """Whether the history has a change that nobody told of."""
    events = await fleet.service.registry.history.of(identity, 5)
    return ("sql", "changed") in {(event.actor.kind, event.action) for event in events}
