"""v3: where agents connect, and what they are put into (docs/protocol.md#8-third-generation). Read, not run."""

import json
import time

import pytest

from tests.sandbox.conftest import AGENT, OTHER, PERSON, SECRET, Client, Start


async def talk(client: Client) -> str:
    """A conversation that somebody has begun."""
    return await (await client.sandbox.user(PERSON)).open(AGENT)


async def test_stage_iii_has_agents_and_people_at_paths_of_their_own(v3: Client) -> None:
    assert v3.sandbox.ws_url == f"ws://127.0.0.1:{v3.sandbox.port}/agent"
    assert v3.socket_url.split("?")[0].endswith("/agent/socket.io/")
    await v3.agent()
    await v3.person()
    nowhere = await v3.get(f"{v3.sandbox.base_url}/socket.io/?EIO=4&transport=polling")
    assert nowhere.status == 404


async def test_stage_iii_can_be_reached_directly(start: Start) -> None:
    client = await start(profile="v3", engine_path="/socket.io")
    assert client.sandbox.ws_url == f"ws://127.0.0.1:{client.sandbox.port}"
    await client.agent()


async def test_stage_iii_declares_the_root_only(v3: Client) -> None:
    socket = await v3.socket("/ws/agent")
    await socket.frame()
    for namespace in ("/ws/agent", "/ws/chat", "/chat"):
        await socket.send(f"40{namespace}," + json.dumps({"token": await v3.token()}))
        assert await socket.frame() == f'44{namespace},{{"message":"Invalid namespace"}}'


async def test_v3s_root_verifies_and_kicks(v3: Client) -> None:
    socket = await v3.connect("not a token")
    assert await socket.frame() == "41"


@pytest.mark.parametrize("stage", ["i", "ii"])
async def test_the_root_of_earlier_stages_is_as_deaf_as_before(start: Start, stage: str) -> None:
    client = await start(profile="v3", stage=stage)
    socket = await client.connect("not a token", namespace="/")
    await socket.emit("agent:heartbeat", {"status": "busy"})
    assert await socket.barrier() == []


async def test_stage_i_has_heartbeats_and_the_own_presence_on_ws_chat(start: Start) -> None:
    client = await start(profile="v3", stage="i")
    assert client.sandbox.ws_url.endswith("/ws/chat")
    socket = await client.agent()
    assert await socket.call("agent:heartbeat", {"status": "busy"}) == {"success": True}
    conversation = await talk(client)
    assert (await socket.call("conversation:join", {"conversationId": conversation}))["success"]
    typing = {"conversationId": conversation, "isTyping": False}
    assert await socket.call("message:typing", typing) == {"success": True}


async def test_stage_ii_has_the_agents_gateway_beside_ws_chat(start: Start) -> None:
    client = await start(profile="v3", stage="ii")
    assert client.sandbox.ws_url.endswith("/ws/agent")
    await client.agent()
    await client.person()


async def test_other_types_than_engineer_are_kicked(gateway: Client) -> None:
    gateway.sandbox.add_agent(OTHER, SECRET, type="assistant")
    namespace = "/ws/agent" if gateway.sandbox.config.stage == "ii" else "/"
    socket = await gateway.connect(await gateway.token(OTHER), namespace=namespace)
    assert await socket.frame() == socket.prefix("41")
    person = await gateway.connect(gateway.sandbox.tokens.for_user(PERSON), namespace=namespace)
    assert await person.frame() == person.prefix("41")


async def test_it_joins_by_itself_what_changed_within_a_day(gateway: Client) -> None:
    recent = await talk(gateway)
    other = await gateway.sandbox.user()
    old = await other.open(AGENT)
    gateway.sandbox.conversations[old].updated_at = time.time() - 86_500
    socket = await gateway.agent()
    user = await gateway.sandbox.user(PERSON)
    await user.open(AGENT)
    await user.say(recent, "hello")
    assert (await socket.event("message:new"))["conversationId"] == recent
    gateway.sandbox.presence.forget()
    await other.say(old, "nobody hears")
    assert await socket.events("message:new") == []


async def test_a_person_who_connects_brings_the_agent_into_an_older_one(gateway: Client) -> None:
    person = await gateway.person()
    conversation = await gateway.talk(person)
    gateway.sandbox.conversations[conversation].updated_at = time.time() - 86_500
    socket = await gateway.agent()
    assert await gateway.talk(person) == conversation
    await person.call("message:send", {"conversationId": conversation, "role": "user", "content": "hello"})
    assert (await socket.event("message:new"))["content"] == "hello"


async def test_it_knows_no_join_leave_online_and_read(gateway: Client) -> None:
    socket = await gateway.agent()
    conversation = await talk(gateway)
    await socket.barrier()
    for event in ("conversation:join", "conversation:leave", "conversation:online", "message:read"):
        await socket.emit(event, {"conversationId": conversation})
    assert await socket.barrier() == []


async def test_typing_is_acked_by_the_newest_only(gateway: Client) -> None:
    socket = await gateway.agent()
    conversation = await talk(gateway)
    await socket.barrier()
    ack_id = await socket.emit("message:typing", {"conversationId": conversation, "isTyping": True})
    frames = await socket.barrier()
    newest = gateway.sandbox.config.stage == "iii"
    assert frames == ([f'43{ack_id}[{{"success":true}}]'] if newest else [])
