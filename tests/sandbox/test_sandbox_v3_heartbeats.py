"""v3: heartbeats and commands (docs/protocol.md#8-third-generation). Read, not run."""

from typing import Any

import pytest

from tests.sandbox.conftest import AGENT, PERSON, Client, Start


async def talk(client: Client) -> str:
    """A conversation that somebody has begun."""
    return await (await client.sandbox.user(PERSON)).open(AGENT)


async def test_a_heartbeat_is_acked_and_brings_work(gateway: Client) -> None:
    socket = await gateway.agent()
    assert await socket.call("agent:heartbeat", {"status": "busy"}) == {"success": True}
    work = gateway.sandbox.works.assign(AGENT, "sweep")
    unwilling: dict[str, Any]
    for unwilling in ({"mcpConnected": False}, {"availableFunctions": []}):
        assert await socket.call("agent:heartbeat", {"status": "idle", **unwilling}) == {"success": True}
    assert (await socket.call("agent:heartbeat", {"status": "idle"}))["work"]["id"] == work.id


async def test_undone_work_puts_the_agent_to_sleep_and_its_people_are_to_be_skipped(gateway: Client) -> None:
    socket = await gateway.agent()
    person = await gateway.person()
    message = {"conversationId": await gateway.talk(person), "role": "user"}
    work = gateway.sandbox.works.assign(AGENT, "sweep")
    for _ in range(4):
        assert "work" in await socket.call("agent:heartbeat", {"status": "idle"})
    assert await socket.call("agent:heartbeat", {"status": "idle"}) == {"success": True}
    await person.call("message:send", {**message, "content": "anybody?"})
    assert (await socket.event("message:new"))["skipAgent"] is True
    gateway.sandbox.works.finish(work.id)
    await gateway.post(f"{gateway.sandbox.base_url}/sandbox/agents/{AGENT}/wake")
    await person.call("message:send", {**message, "content": "hello?"})
    assert "skipAgent" not in await socket.event("message:new")


async def test_sleep_by_heartbeat_and_who_ends_it(gateway: Client) -> None:
    socket = await gateway.agent()
    refused = await socket.call("agent:heartbeat", {"status": "sleep"})
    assert refused["success"] is False
    assert refused["error"].startswith("sleep field is required")
    sleep = {"reason": "told to", "since": "2026-01-01T00:00:00.000Z"}
    assert await socket.call("agent:heartbeat", {"status": "sleep", "sleep": sleep}) == {"success": True}
    agents = gateway.sandbox.agents
    assert agents[AGENT].status == "sleep"
    await socket.call("agent:heartbeat", {"status": "idle"})
    assert agents[AGENT].asleep is False, "a sleep without an end"
    for until, after in (("2026-01-02T00:00:00.000Z", "idle"), ("2999-01-01T00:00:00.000Z", "sleep")):
        await socket.call("agent:heartbeat", {"status": "sleep", "sleep": {**sleep, "until": until}})
        await socket.call("agent:heartbeat", {"status": "idle"})
        assert agents[AGENT].status == after


async def test_refused_heartbeats_say_why(gateway: Client) -> None:
    socket = await gateway.agent()
    gateway.sandbox.agents[AGENT].status = "suspended"
    answer = await socket.call("agent:heartbeat", {"status": "idle"})
    assert (answer["success"], answer["error"]) == (False, "Agent is suspended. Heartbeat rejected.")
    gateway.sandbox.agents[AGENT].status = "deleted"
    assert (await socket.call("agent:heartbeat", {"status": "idle"}))["error"].endswith("not found")


async def test_a_fresh_token_comes_when_less_than_an_hour_is_left(start: Start) -> None:
    for seconds, comes in ((3500, True), (3700, False)):
        client = await start(profile="v3", expires_in_seconds=seconds)
        socket = await client.agent()
        asked = len(client.sandbox.token_requests)
        answer = await socket.call("agent:heartbeat", {"status": "busy"})
        assert ("token" in answer) is comes
        if comes:
            assert client.sandbox.tokens.verify(answer["token"]).id == AGENT
        assert len(client.sandbox.token_requests) == asked, "no bcrypt"


async def test_stage_i_gives_no_tokens(start: Start) -> None:
    client = await start(profile="v3", stage="i", expires_in_seconds=60)
    socket = await client.agent()
    assert await socket.call("agent:heartbeat", {"status": "busy"}) == {"success": True}


async def test_a_changed_instruction_comes_with_a_heartbeat(v3: Client) -> None:
    v3.sandbox.agents[AGENT].instruction = {"id": "i", "systemPrompt": "Be kind."}
    socket = await v3.agent()
    assert "instruction" not in await socket.call("agent:heartbeat", {"status": "busy"})
    v3.sandbox.agents[AGENT].instruction = {"id": "i", "systemPrompt": "Be brief."}
    answer = await socket.call("agent:heartbeat", {"status": "busy"})
    assert answer["instruction"] == {"id": "i", "systemPrompt": "Be brief."}


@pytest.mark.parametrize(("stage", "renews"), [("i", False), ("ii", False), ("iii", True)])
async def test_only_the_newest_gateways_heartbeat_renews(start: Start, stage: str, renews: bool) -> None:
    now = 0.0
    client = await start(profile="v3", stage=stage, forget_after_seconds=1.0, clock=lambda: now)
    socket = await client.agent()
    for later in (0.4, 0.8, 1.2):
        now = later
        await socket.call("agent:heartbeat", {"status": "busy"})
    assert bool(client.sandbox.presence.sockets_of(AGENT)) is renews


async def test_each_connect_and_heartbeat_makes_its_socket_the_only_one_that_is_found(v3: Client) -> None:
    first = await v3.agent()
    [found] = v3.sandbox.presence.sockets_of(AGENT)
    second = await v3.agent()
    [newer] = v3.sandbox.presence.sockets_of(AGENT)
    assert newer != found
    await first.call("agent:heartbeat", {"status": "busy"})
    assert v3.sandbox.presence.sockets_of(AGENT) == {found}
    await second.call("agent:heartbeat", {"status": "busy"})
    assert v3.sandbox.presence.sockets_of(AGENT) == {newer}


async def test_commands_reach_every_socket_and_are_not_acked(v3: Client) -> None:
    sockets = [await v3.agent(), await v3.agent()]
    url = f"{v3.sandbox.base_url}/sandbox/agents/{AGENT}/command"
    answer = await v3.post(url, json={"type": "stop", "conversationId": "0" * 24, "reason": "enough"})
    assert await answer.json() == {"sockets": 2}
    for socket in sockets:
        wanted = {"type": "stop", "conversationId": "0" * 24, "reason": "enough"}
        assert await socket.event("agent:command") == wanted
    assert v3.sandbox.emit(AGENT, "agent:command", {"type": "dance"}) == 2
    assert await sockets[0].event("agent:command") == {"type": "dance"}


async def test_what_inspect_is_answered_with_is_a_message_of_type_system(v3: Client) -> None:
    socket = await v3.agent()
    conversation = await talk(v3)
    report = {"conversationId": conversation, "role": "assistant", "type": "system", "content": "{}"}
    assert await socket.call("message:send", report) == {"success": True}
    assert v3.sandbox.messages(conversation)[-1].type == "system"
