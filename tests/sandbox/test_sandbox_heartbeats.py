"""Heartbeats and farewells by REST, and the work they bring (docs/protocol.md#7-findings, 5)."""

from typing import Any

import pytest

from tests.sandbox.conftest import AGENT, OTHER, SECRET, Client, Start

SUSPENDED = "Agent is suspended. Heartbeat rejected."


async def beat(client: Client, path: str = "/agents/heartbeat", **body: Any) -> tuple[int, Any]:
    token = client.sandbox.tokens.for_agent(AGENT)
    return await client.ask("POST", path, body or {"status": "idle"}, token=token)


async def test_v1s_path_has_the_id_and_nothing_comes_back(v1: Client) -> None:
    v1.sandbox.works.assign(AGENT, "sweep")
    for status in ("online", "busy", "idle"):
        assert await beat(v1, f"/agents/{AGENT}/heartbeat", status=status) == (201, {"success": True})
    code, answer = await beat(v1, "/agents/heartbeat")
    assert (code, answer["message"]) == (404, "Cannot POST /agents/heartbeat")


async def test_v2_takes_both_paths(v2: Client) -> None:
    for path in ("/agents/heartbeat", f"/agents/{AGENT}/heartbeat"):
        for body in ({"status": "idle"}, {"status": "busy", "metrics": {"load": 1}}):
            assert await beat(v2, path, **body) == (201, {"success": True})
    assert v2.sandbox.agents[AGENT].status == "busy"
    status, answer = await beat(v2, status="online")
    assert (status, answer["message"]) == (400, "Validation failed")


async def test_only_an_idle_agent_is_handed_a_work(v2: Client) -> None:
    work = v2.sandbox.works.assign(AGENT, "sweep the floor")
    assert await beat(v2, status="busy") == (201, {"success": True})
    status, answer = await beat(v2, status="idle")
    assert status == 201
    assert answer["work"] == {
        "id": work.id,
        "title": "sweep the floor",
        "type": "task",
        "status": "todo",
        "priorityLevel": 1,
    }
    assert work.id in answer["systemMessage"]
    assert answer["systemTask"] == {"type": "work", "id": work.id, "title": "sweep the floor"}
    assert (await beat(v2))[1]["work"]["id"] == work.id, "until it is done"
    v2.sandbox.works.finish(work.id)
    assert await beat(v2) == (201, {"success": True})


async def test_reminders_come_while_there_is_no_work(v2: Client) -> None:
    reminder = v2.sandbox.works.remind(AGENT, "call Ann")
    work = v2.sandbox.works.assign(AGENT, "sweep")
    assert "reminders" not in (await beat(v2))[1]["systemTask"]
    v2.sandbox.works.finish(work.id)
    answer = (await beat(v2))[1]
    told = [{"id": reminder.id, "content": "call Ann"}]
    assert answer["systemTask"] == {"type": "reminders", "reminders": told}
    assert "call Ann" in answer["systemMessage"]
    v2.sandbox.works.reminded(reminder.id)
    assert await beat(v2) == (201, {"success": True})


async def test_suspended_and_deleted_agents_are_told_so(v2: Client) -> None:
    v2.sandbox.agents[AGENT].status = "suspended"
    status, answer = await beat(v2)
    assert (status, answer["message"]) == (400, SUSPENDED)
    v2.sandbox.agents[AGENT].status = "deleted"
    status, answer = await beat(v2)
    assert (status, answer["message"]) == (404, f"Agent with ID {AGENT} not found")
    assert (await v2.ask("POST", "/agents/heartbeat", {"status": "idle"}))[0] == 401


async def test_v2_is_patient_with_undone_work(v2: Client) -> None:
    v2.sandbox.works.assign(AGENT, "sweep")
    for _ in range(6):
        assert "work" in (await beat(v2))[1]


async def test_a_farewell_makes_a_v2_agent_inactive_and_closes_nothing(v2: Client) -> None:
    await v2.agent()
    assert v2.sandbox.agents[AGENT].status == "idle", "by its token"
    assert await beat(v2, "/agents/disconnect", reason="bye") == (201, {"success": True})
    assert v2.sandbox.agents[AGENT].status == "inactive"
    assert v2.sandbox.is_online(AGENT)
    assert v2.sandbox.log.events[-1].fields == {"reason": "bye"}
    assert (await beat(v2, f"/agents/{AGENT}/disconnect", reason="again"))[0] == 201


async def test_v1s_farewell_changes_nothing(v1: Client) -> None:
    status = v1.sandbox.agents[AGENT].status
    assert await beat(v1, f"/agents/{AGENT}/disconnect", reason="bye") == (201, {"success": True})
    assert v1.sandbox.agents[AGENT].status == status


async def test_v3_puts_an_agent_to_sleep_that_does_not_do_its_work(v3: Client) -> None:
    v3.sandbox.works.assign(AGENT, "sweep")
    for _ in range(4):
        assert "work" in (await beat(v3))[1]
    agent = v3.sandbox.agents[AGENT]
    assert agent.status == "sleep"
    assert agent.sleep is not None
    assert agent.sleep.until is not None
    assert round((agent.sleep.until - agent.sleep.since) / 60) == 240
    assert await beat(v3) == (201, {"success": True}), "asleep it is handed nothing"
    assert v3.sandbox.agents[AGENT].status == "sleep", "an idle heartbeat does not end a sleep that has an end"


@pytest.mark.parametrize("said", [{"mcpConnected": False}, {"availableFunctions": []}])
async def test_v3_hands_nothing_to_an_agent_without_tools(v3: Client, said: dict[str, Any]) -> None:
    v3.sandbox.works.assign(AGENT, "sweep")
    assert await beat(v3, status="idle", **said) == (201, {"success": True})


async def test_works_over_http(start: Start) -> None:
    client = await start(profile="v3")
    base = f"{client.sandbox.base_url}/sandbox"
    answer = await client.post(f"{base}/agents/{AGENT}/works", json={"title": "sweep", "priorityLevel": 2})
    work = await answer.json()
    assert (answer.status, work["priorityLevel"]) == (201, 2)
    assert (await beat(client))[1]["work"] == work
    async with client.http.delete(f"{base}/works/{work['id']}") as gone:
        assert gone.status == 204
    async with client.http.delete(f"{base}/works/{work['id']}") as gone:
        assert gone.status == 404
    answer = await client.post(f"{base}/agents/{AGENT}/reminders", json={"content": "call Ann"})
    reminder = await answer.json()
    assert (await beat(client))[1]["systemTask"]["reminders"] == [reminder]
    for status in (204, 404):
        async with client.http.delete(f"{base}/reminders/{reminder['id']}") as gone:
            assert gone.status == status
    for action, shown in (("sleep", "sleep"), ("wake", "idle")):
        answer = await client.post(f"{base}/agents/{AGENT}/{action}", json={})
        assert await answer.json() == {"status": shown}
    assert (await client.post(f"{base}/agents/{OTHER}/works", json={"title": "x"})).status == 404


async def test_stop_and_start(v2: Client) -> None:
    """Suspended is checked before the secret, and nothing that is open is closed."""
    client = v2
    person = client.sandbox.tokens.for_user("c" * 24)
    token = await client.token()
    socket = await client.agent()
    client.sandbox.agents[AGENT].status = "busy"
    assert (await client.ask("POST", f"/agents/{AGENT}/stop", {}, token=person))[0] == 400
    client.sandbox.agents[AGENT].status = "idle"
    stopped = await client.ask("POST", f"/agents/{AGENT}/stop", {}, token=person)
    assert stopped == (200, {"success": True, "status": "suspended"})
    checked = len([event for event in client.sandbox.events if event.kind == "secret_checked"])
    for secret in (SECRET, "wrong"):
        status, answer = await client.ask("POST", f"/agents/{AGENT}/connect", {"secret": secret})
        assert (status, answer["message"]) == (401, "Agent is suspended")
    assert len([event for event in client.sandbox.events if event.kind == "secret_checked"]) == checked
    assert (await socket.call("conversation:online", {"conversationId": "0" * 24}))["success"], "open sockets stay"
    again = await client.connect(token)
    assert (await again.event("presence:update"))["agentId"] == AGENT, "and a valid token still connects"
    started = await client.ask("POST", f"/agents/{AGENT}/start", {}, token=person)
    assert started == (200, {"success": True, "status": "inactive"})
    assert (await client.ask("POST", f"/agents/{AGENT}/start", {}, token=person))[0] == 400
    await client.token()
    assert client.sandbox.agents[AGENT].status == "idle"
    assert (await client.ask("POST", f"/agents/{OTHER}/stop", {}, token=person))[0] == 404


async def test_stop_and_start_over_the_sandboxes_own_side(client: Client) -> None:
    await client.agent()
    base = f"{client.sandbox.base_url}/sandbox/agents/{AGENT}"
    for action, status in (("stop", "suspended"), ("start", "inactive")):
        shown = await (await client.post(f"{base}/{action}")).json()
        assert (shown["status"], shown["online"]) == (status, True)


async def test_a_suspended_agents_valid_token_still_connects(client: Client) -> None:
    token = await client.token()
    client.sandbox.agents[AGENT].status = "suspended"
    socket = await client.connect(token)
    assert (await socket.event("presence:update"))["agentId"] == AGENT
    assert client.sandbox.is_online(AGENT)
