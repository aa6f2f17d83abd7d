"""People on Discord, Telegram and their like (docs/protocol.md#7-findings, 3 and 4)."""

from typing import Any

import pytest

from tests.sandbox.conftest import AGENT, OTHER, Client, Start


async def test_v2s_first_message_comes_before_the_agent_is_in_the_room_and_the_history_has_it(v2: Client) -> None:
    socket = await v2.agent()
    person = v2.sandbox.bridge.person("discord", "ann#1")
    conversation = person.say(AGENT, "first")
    assert await socket.events("message:new") == []
    person.say(AGENT, "second")
    message = await socket.event("message:new")
    assert message.pop("orgId")
    assert message == {
        "conversationId": conversation,
        "role": "user",
        "content": "second",
        "externalUsername": "ann#1",
    }, "no _id"
    status, rows = await v2.ask("GET", f"/actions/conversation/{conversation}/last/10", token=await v2.token())
    assert (status, [row["content"] for row in rows]) == (200, ["first", "second"])
    assert rows[0]["actor"]["externalUsername"] == "ann#1"
    [row] = (await v2.ask("GET", f"/conversations/agent/{AGENT}", token=await v2.token()))[1]
    assert (row["_id"], row["userType"], row["totalMessages"]) == (conversation, "anonymous", 2)


async def test_the_first_message_can_be_heard_too(start: Start) -> None:
    """One of six seen was."""
    client = await start(profile="v2", first_bridged_lost=False)
    socket = await client.agent()
    client.sandbox.bridge.person("telegram").say(AGENT, "first")
    assert (await socket.event("message:new"))["content"] == "first"


async def test_an_agent_that_was_forgotten_hears_none_of_them(v2: Client) -> None:
    socket = await v2.agent()
    v2.sandbox.presence.forget()
    person = v2.sandbox.bridge.person()
    person.say(AGENT, "one"), person.say(AGENT, "two")
    assert await socket.events("message:new") == []


async def test_v2_sends_out_whatever_has_the_role_assistant(v2: Client) -> None:
    socket = await v2.agent()
    person = v2.sandbox.bridge.person()
    base = {"conversationId": person.say(AGENT, "hello"), "role": "assistant"}
    call = {"id": "c", "type": "mcp_tool", "function": {"name": "f", "arguments": "{}"}}
    for message in (
        {"content": "hm", "type": "thinking"},
        {"content": "calling", "type": "tool_call", "toolCalls": [call]},
        {"content": "42", "role": "tool", "type": "tool_result"},
        {"content": "answer"},
    ):
        assert (await socket.call("message:send", {**base, **message}))["success"]
    assert person.received == ["hm", "calling", "answer"]


async def test_after_a_restart_of_the_bridge_replies_go_nowhere_until_the_person_writes_again(v2: Client) -> None:
    socket = await v2.agent()
    person = v2.sandbox.bridge.person()
    reply = {"conversationId": person.say(AGENT, "hello"), "role": "assistant"}
    v2.sandbox.bridge.restart()
    assert (await socket.call("message:send", {**reply, "content": "lost"}))["success"]
    person.say(AGENT, "hello?")
    assert (await socket.call("message:send", {**reply, "content": "found"}))["success"]
    assert person.received == ["found"]


async def test_v3s_have_an_id_and_say_who_and_where(start: Start) -> None:
    client = await start(profile="v3", stage="i")
    socket = await client.agent()
    photo = {
        "type": "image",
        "url": "https://t.example/1.jpg",
        "filename": "1.jpg",
        "mimeType": "image/jpeg",
        "size": 9,
    }
    page = {"app": "crm", "label": "Invoice", "resourceType": "invoice"}
    person = client.sandbox.bridge.person("telegram", "ann")
    conversation = person.say(AGENT, "look", attachments=[photo], references=[page], fullname="Ann A.")
    message = await socket.event("message:new")
    assert message["_id"] == client.sandbox.messages(conversation)[0].id
    assert message["platform"] == "telegram"
    assert message["attachments"] == [photo]
    assert message["references"] == [page]
    named = {"externalUsername", "externalUserId", "channelId", "connectionId", "fullname"}
    assert named <= message.keys()


async def test_stage_iii_delivers_them_twice_with_the_same_id(v3: Client) -> None:
    socket = await v3.agent()
    v3.sandbox.bridge.person("zalo").say(AGENT, "hello")
    first, second = await socket.event("message:new"), await socket.event("message:new")
    assert first == second
    assert await socket.events("message:new") == []


async def test_v3_sends_out_what_has_no_type_or_is_a_message_or_of_the_system(v3: Client) -> None:
    socket = await v3.agent()
    person = v3.sandbox.bridge.person()
    base = {"conversationId": person.say(AGENT, "hello"), "role": "assistant"}
    for kind in ("thinking", "tool_use", "tool_result", "system", "message", None):
        message: dict[str, Any] = {**base, "content": str(kind)}
        assert await socket.call("message:send", message if kind is None else {**message, "type": kind})
    assert person.received == ["system", "message", "None"]


async def test_v1_has_no_bridge_and_nobody_writes_to_nobody(v1: Client, v2: Client) -> None:
    with pytest.raises(ValueError, match="v1 has no bridge"):
        v1.sandbox.bridge.person().say(AGENT, "hello")
    with pytest.raises(LookupError, match="add_agent"):
        v2.sandbox.bridge.person().say(OTHER, "hello")


async def test_bridged_people_over_http(v2: Client, v1: Client) -> None:
    socket = await v2.agent()
    url = f"{v2.sandbox.base_url}/sandbox/bridge"
    said = {"agentId": AGENT, "content": "hello", "platform": "telegram", "username": "ann"}
    answers = [await v2.post(f"{url}/messages", json=said) for _ in range(2)]
    first, second = [await answer.json() for answer in answers]
    assert first == second, "the same name is the same person"
    reply = {**first, "role": "assistant", "content": "hi"}
    assert (await socket.call("message:send", reply))["success"]
    assert await (await v2.get(f"{url}/telegram/ann")).json() == {"received": ["hi"]}
    assert (await v2.post(f"{url}/restart")).status == 204
    assert (await socket.call("message:send", {**reply, "content": "lost"}))["success"]
    assert await (await v2.get(f"{url}/telegram/ann")).json() == {"received": ["hi"]}
    assert (await v2.get(f"{url}/telegram/bob")).status == 404
    assert (await v1.post(f"{v1.sandbox.base_url}/sandbox/bridge/messages", json=said)).status == 409
