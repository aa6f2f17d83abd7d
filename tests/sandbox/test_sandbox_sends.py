"""Who may send what, what a refusal leaves behind, and payloads that are none.

See docs/protocol.md#7-findings, 8 to 10 and 12.
"""

import json
from typing import Any

import pytest

from tests.sandbox.conftest import AGENT, OTHER, PERSON, SECRET, Client

UNKNOWN = "f" * 24


async def conversation_with(client: Client, agent_id: str = AGENT) -> str:
    return await (await client.sandbox.user()).open(agent_id)


async def history(client: Client, conversation: str) -> list[Any]:
    where = "messages" if client.sandbox.config.profile == "v1" else "actions"
    _, rows = await client.ask("GET", f"/{where}/conversation/{conversation}/last/50", token=await client.token())
    return [row["content"] for row in rows]


async def test_a_viewer_can_never_reply_on_v1(v1: Client) -> None:
    v1.sandbox.add_agent(OTHER, SECRET, role="viewer")
    conversation = await conversation_with(v1, OTHER)
    socket = await v1.agent(OTHER)
    answer = await socket.call("message:send", {"conversationId": conversation, "role": "assistant", "content": "x"})
    assert answer == {"success": False, "error": "You do not have permission to create."}
    assert await history(v1, conversation) == []


async def test_a_viewer_may_send_on_v2(v2: Client) -> None:
    v2.sandbox.add_agent(OTHER, SECRET, role="viewer")
    conversation = await conversation_with(v2, OTHER)
    socket = await v2.agent(OTHER)
    answer = await socket.call("message:send", {"conversationId": conversation, "role": "assistant", "content": "x"})
    assert answer["success"]


async def test_the_role_is_the_tokens(v1: Client) -> None:
    socket = await v1.agent()
    v1.sandbox.agents[AGENT].role = "viewer"
    conversation = v1.sandbox.conversation_of(AGENT)
    message = {"conversationId": conversation, "role": "assistant", "content": "x"}
    assert (await socket.call("message:send", message))["success"], "until it asks for another token"
    again = await v1.agent()
    assert not (await again.call("message:send", message))["success"]


async def test_a_refused_send_may_have_been_stored_by_v1(v1: Client) -> None:
    """Stored first: the same ``_id`` again is then a duplicate of what nobody was shown."""
    socket = await v1.agent()
    conversation = v1.sandbox.conversation_of(AGENT)
    person = await v1.person()
    await person.call("conversation:join", {"conversationId": conversation})
    message = {"conversationId": conversation, "role": "assistant", "content": 5, "_id": "ab" * 12}
    refused = await socket.call("message:send", message)
    assert refused == {"success": False, "error": "content.substring is not a function"}
    again = await socket.call("message:send", {**message, "content": "5"})
    assert again["error"].startswith("E11000 duplicate key error")
    assert await person.events("message:new") == []
    assert await history(v1, conversation) == ["5"]
    malformed = await socket.call(
        "message:send", {**message, "conversationId": "nope", "content": "x", "_id": "cd" * 12}
    )
    assert malformed["error"].startswith("Cast to ObjectId failed")
    assert await history(v1, "nope") == ["x"]


async def test_v2_stores_before_it_refuses(v2: Client) -> None:
    socket = await v2.agent()
    conversation = await conversation_with(v2)
    base = {"role": "assistant", "content": "x"}
    for sent, error in (
        ({**base, "conversationId": conversation, "content": 5}, "content.substring is not a function"),
        ({**base, "conversationId": "nope"}, 'Cast to ObjectId failed for value "nope" (type string) at path "_id"'),
        ({**base, "conversationId": UNKNOWN}, f"Entity with ID {UNKNOWN} not found or access denied"),
    ):
        refused = await socket.call("message:send", sent)
        assert refused["error"].startswith(error)
        assert await history(v2, str(sent["conversationId"])) == [str(sent["content"])]
    assert await v2.sandbox.wait_until(lambda: v2.sandbox.messages(UNKNOWN), 5)
    [row] = (await v2.ask("GET", f"/conversations/agent/{AGENT}", token=await v2.token()))[1]
    assert row["totalMessages"] == 0, "the conversation never heard of it"


async def test_a_refusal_can_be_had_after_the_message_was_kept(client: Client) -> None:
    socket = await client.agent()
    conversation = await conversation_with(client)
    message = {"conversationId": conversation, "role": "assistant", "content": "x"}
    client.sandbox.faults.refuse_sends("Database is down", stored=True, times=1)
    assert (await socket.call("message:send", message))["error"] == "Database is down"
    assert await history(client, conversation) == ["x"]


async def test_what_an_agent_sends_as_a_user_is_stored_as_the_agents(v2: Client) -> None:
    socket = await v2.agent()
    conversation = await conversation_with(v2)
    await socket.call("message:send", {"conversationId": conversation, "role": "user", "content": "x"})
    _, [row] = await v2.ask("GET", f"/actions/conversation/{conversation}/last/1", token=await v2.token())
    assert row["actor"]["role"] == "agent"


async def test_v1_keeps_a_senders_name_status_and_time(v1: Client) -> None:
    socket = await v1.agent()
    kept = {"name": "Ada", "status": "delivered", "createdAt": "2026-01-02T03:04:05.678Z"}
    message = {"conversationId": v1.sandbox.conversation_of(AGENT), "role": "assistant", "content": "x", **kept}
    document = (await socket.call("message:send", message))["message"]
    assert {name: document[name] for name in kept} == kept
    bad = await socket.call("message:send", {**message, "role": "agent", "status": "lost", "createdAt": "soon"})
    assert bad["error"].startswith("Message validation failed: role: `agent` is not")
    assert "status: `lost` is not a valid enum value" in bad["error"], "all that is wrong is told"
    assert "createdAt: Cast to date failed" in bad["error"]


async def test_typing_with_nothing_makes_an_exception_and_no_ack(client: Client) -> None:
    socket = await client.agent()
    await socket.emit("message:typing", None)
    await socket.emit("message:typing")
    frames = await socket.barrier()
    wanted = f'42{socket.namespace},["exception",{{"status":"error","message":"Internal server error"}}]'
    assert frames == [wanted] * 2


async def test_other_events_with_nothing_are_acked_with_an_error(client: Client) -> None:
    socket = await client.agent()
    for event in ("conversation:join", "conversation:leave", "conversation:online", "message:read"):
        for payload, shown in (((None,), "null"), ((), "undefined")):
            answer = await socket.call(event, *payload)
            assert answer["success"] is False
            assert f"as it is {shown}" in answer["error"]


async def test_typing_without_a_conversation_goes_nowhere(client: Client) -> None:
    person = await client.person()
    socket = await client.agent()
    assert await socket.call("message:typing", {"isTyping": True}) == {"success": True}
    assert await person.events("agent:typing") == []


async def test_v2_joins_need_an_id_that_there_is(v2: Client) -> None:
    socket = await v2.agent()
    for conversation, error in (
        ("nope", "Invalid ID format nope"),
        (UNKNOWN, f"Entity with ID {UNKNOWN} not found or access denied"),
        (None, "Entity with ID undefined not found or access denied"),
    ):
        answer = await socket.call("conversation:join", {"conversationId": conversation})
        assert answer == {"success": False, "error": error}


async def test_v1_joins_whatever_it_is_told(v1: Client) -> None:
    socket = await v1.agent()
    for conversation in ("nope", UNKNOWN):
        answer = await socket.call("conversation:join", {"conversationId": conversation})
        assert answer == {"success": True, "conversationId": conversation}


async def test_an_agents_agent_connect_is_refused(v2: Client) -> None:
    socket = await v2.agent()
    wanted = {"success": False, "error": "Only authenticated users can emit agent:connect"}
    assert await socket.call("agent:connect", {"agentId": AGENT}) == wanted


async def test_anonymous_people_name_the_agent_they_talk_to(v2: Client) -> None:
    socket = await v2.agent()
    await socket.barrier()
    user = await v2.sandbox.user(PERSON, visiting=AGENT)
    conversation = await user.open(AGENT)
    online = await socket.event("presence:update")
    assert online.pop("timestamp")
    assert online == {
        "type": "anonymous",
        "userId": PERSON,
        "agentId": AGENT,
        "conversationId": conversation,
        "status": "online",
    }
    said = await user.say(conversation, "hello")
    assert (await socket.event("message:new"))["_id"] == said, "its connect puts the agent's sockets into the room"
    await user.typing(conversation)
    typing = await socket.event("user:typing")
    assert (typing["type"], typing["userId"], typing["agentId"]) == ("anonymous", PERSON, AGENT)
    await user.leave()
    offline = await socket.event("presence:update")
    assert (offline["type"], offline["userId"], "agentId" in offline) == ("anonymous", PERSON, False)
    [row] = (await v2.ask("GET", f"/conversations/agent/{AGENT}", token=await v2.token()))[1]
    assert row["userType"] == "anonymous"


async def test_anonymous_people_get_tokens_and_come_by_socket(v2: Client) -> None:
    editor = v2.sandbox.tokens.for_user("d" * 24)
    status, answer = await v2.ask("POST", f"/agents/{AGENT}/anonymous-token", {"anonymousId": PERSON}, token=editor)
    assert (status, answer["anonymousId"]) == (200, PERSON)
    person = await v2.connect(answer["token"])
    online = await person.event("presence:update")
    assert (online["type"], online["userId"]) == ("anonymous", PERSON)
    refused = await person.call("agent:connect", {"agentId": AGENT})
    assert refused["error"] == "Only authenticated users can emit agent:connect"
    assert (await v2.ask("GET", "/conversations", token=answer["token"]))[0] == 403


async def test_a_token_that_is_not_valid_yet_is_kicked(client: Client) -> None:
    token = client.sandbox.tokens.issue("agent", AGENT, role="editor", expires_in_seconds=100, not_before=1e11)
    socket = await client.connect(token)
    assert await socket.frame() == f"41{socket.namespace},"


async def test_a_deleted_agents_valid_token_still_connects(client: Client) -> None:
    """Nobody looks it up: only the token endpoint and the heartbeat do."""
    token = await client.token()
    client.sandbox.agents[AGENT].status = "deleted"
    socket = await client.connect(token)
    assert (await socket.event("presence:update"))["agentId"] == AGENT
    status, answer = await client.ask("POST", f"/agents/{AGENT}/connect", {"secret": SECRET})
    assert (status, answer["message"]) == (404, f"Agent with ID {AGENT} not found")


@pytest.mark.parametrize("payload", ["text", 5, [1]])
async def test_a_payload_that_is_no_object_has_no_fields(client: Client, payload: Any) -> None:
    socket = await client.agent()
    await socket.call("conversation:leave", {"conversationId": "x"})
    answer = await socket.call("message:send", payload)
    assert answer["error"].startswith("No conversation found. ")
    assert await socket.call("message:typing", payload) == {"success": True}
    assert json.dumps(answer)
