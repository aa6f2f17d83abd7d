"""v3: what agents send (docs/protocol.md#8-third-generation). Read, not run."""

import json
from typing import Any

from tests.sandbox.conftest import AGENT, PERSON, Client, Start


async def talk(client: Client) -> str:
    """A conversation that somebody has begun."""
    return await (await client.sandbox.user(PERSON)).open(AGENT)


async def test_a_send_is_acked_without_the_message(gateway: Client) -> None:
    socket = await gateway.agent()
    conversation = await talk(gateway)
    await socket.barrier()
    message: dict[str, Any] = {"conversationId": conversation, "role": "assistant", "content": "hi", "_id": "ab" * 12}
    message |= {"usage": {"promptTokens": 1}, "participantId": AGENT}
    ack_id = await socket.emit("message:send", message)
    sent = await socket.event("message:sent")
    assert await socket.ack(ack_id) == {"success": True}
    [stored] = gateway.sandbox.messages(conversation)
    assert (sent["messageId"], sent["success"]) == (stored.id, True)
    assert stored.id != "ab" * 12
    assert not {"usage", "participantId"} & stored.document.keys()


async def test_the_own_reply_comes_back_in_stage_iii(v3: Client) -> None:
    socket = await v3.agent()
    person = await v3.person()
    conversation = await v3.talk(person)
    await socket.barrier()
    await socket.emit("message:send", {"conversationId": conversation, "role": "assistant", "content": "hi"})
    [back] = await socket.events("message:new")
    assert back.pop("_id") == v3.sandbox.messages(conversation)[0].id
    assert back == {
        "conversationId": conversation,
        "role": "assistant",
        "type": "message",
        "content": "hi",
        "agentId": AGENT,
        "platform": "portal",
        "isFinal": True,
    }
    assert (await person.event("message:new"))["content"] == "hi"


async def test_it_does_not_in_stage_ii(start: Start) -> None:
    client = await start(profile="v3", stage="ii")
    socket = await client.agent()
    conversation = await talk(client)
    await socket.barrier()
    await socket.emit("message:send", {"conversationId": conversation, "role": "assistant", "content": "hi"})
    assert await socket.events("message:new") == []


async def test_parts_keep_their_type_and_other_types_are_ordinary_messages(v3: Client) -> None:
    socket = await v3.agent()
    conversation = await talk(v3)
    for kind in ("thinking", "tool_use", "tool_result", "system", "tool_call", "error"):
        message = {"conversationId": conversation, "role": "assistant", "content": kind, "type": kind}
        assert await socket.call("message:send", message) == {"success": True}
    shown = [(stored.document["type"], stored.document["isFinal"]) for stored in v3.sandbox.messages(conversation)]
    parts = [(kind, False) for kind in ("thinking", "tool_use", "tool_result", "system")]
    assert shown == [*parts, ("message", True), ("message", True)]


async def test_attachments_and_sources_are_stored_and_not_shown_live(v3: Client) -> None:
    socket = await v3.agent()
    person = await v3.person()
    conversation = await v3.talk(person)
    file = {"type": "document", "url": "https://f.example/a.pdf", "filename": "a.pdf"}
    source = {"type": "web", "content": "a page", "url": "https://f.example"}
    message = {"conversationId": conversation, "role": "assistant", "content": "see"}
    await socket.call("message:send", {**message, "attachments": [file], "sources": [source]})
    assert "attachments" not in await person.event("message:new")
    [stored] = v3.sandbox.messages(conversation)
    assert (stored.attachments, stored.sources) == ([file], [source])


async def test_a_refused_send_has_only_an_ack(gateway: Client) -> None:
    socket = await gateway.agent()
    await socket.barrier()
    for message, error in (
        ({"role": "assistant", "content": "x"}, "conversationId is required"),
        ({"conversationId": "f" * 24, "role": "assistant", "content": "x"}, "Entity with ID"),
        ({"conversationId": "f" * 24, "role": "assistant", "content": ""}, "Action validation failed"),
    ):
        ack_id = await socket.emit("message:send", message)
        [frame] = await socket.barrier()
        assert frame.startswith(f"{socket.prefix('43')}{ack_id}[")
        answer = json.loads(frame.removeprefix(f"{socket.prefix('43')}{ack_id}"))
        assert answer[0]["success"] is False
        assert answer[0]["error"].startswith(error)


async def test_equal_content_within_five_seconds_is_dropped_and_acked(gateway: Client) -> None:
    socket = await gateway.agent()
    conversation = await talk(gateway)
    message = {"conversationId": conversation, "role": "assistant", "content": "ok"}
    assert await socket.call("message:send", message) == {"success": True}
    await socket.barrier()
    ack_id = await socket.emit("message:send", message)
    assert (await socket.event("message:sent"))["messageId"] == "dedup"
    assert await socket.ack(ack_id) == {"success": True}
    assert await socket.call("message:send", {**message, "type": "system"}) == {"success": True}
    assert [stored.type for stored in gateway.sandbox.messages(conversation)] == [None, "system"]


async def test_a_send_that_failed_is_swallowed_when_it_is_repeated_too_soon(start: Start) -> None:
    """The key is set before it is stored: whoever resends waits six seconds."""
    now = 0.0
    v3 = await start(profile="v3", clock=lambda: now)
    socket = await v3.agent()
    conversation = await talk(v3)
    message = {"conversationId": conversation, "role": "assistant", "content": "ok"}
    v3.sandbox.faults.refuse_sends("Database is down", times=1)
    assert (await socket.call("message:send", message))["success"] is False
    now = 4.9
    assert await socket.call("message:send", message) == {"success": True}
    assert v3.sandbox.messages(conversation) == []
    now = 5.1
    assert await socket.call("message:send", message) == {"success": True}
    assert len(v3.sandbox.messages(conversation)) == 1


async def test_channel_send_is_published_and_no_more(gateway: Client) -> None:
    socket = await gateway.agent()
    where = {"connectionId": "c", "channelId": "d"}
    for what in ({"content": "hi"}, {"embed": {"title": "t"}}, {"file": {"fileUrl": "https://f.example/a"}}):
        answer = await socket.call("channel:send", {**where, **what})
        assert answer == {"success": True, **where}
    published = [event.fields["payload"] for event in gateway.sandbox.events if event.kind == "channel_send"]
    assert [list(payload)[-1] for payload in published] == ["content", "embed", "file"]
    for bad in ({"content": "hi"}, where):
        assert (await socket.call("channel:send", bad))["success"] is False
