"""v3: people's process, and agents who come there (docs/protocol.md#8-third-generation). Read, not run."""

from typing import Any

from supervisor.sandbox.world.config import PEOPLE_PATH
from tests.sandbox.conftest import AGENT, OTHER, PERSON, SECRET, Client


async def test_peoples_process_registers_an_agent_without_a_word(v3: Client) -> None:
    """No own presence: an ack is the proof."""
    socket = await v3.connect(await v3.token(), path=PEOPLE_PATH)
    await v3.sandbox.wait_online(AGENT)
    assert await socket.events("presence:update") == []
    assert await socket.call("agent:heartbeat", {"status": "busy"}) == {"success": True}
    refused = await socket.call(
        "message:send", {"conversationId": await conversation_of_another(v3), "role": "assistant", "content": "x"}
    )
    assert refused == {"success": False, "error": "You must join the conversation before sending messages."}
    user = await v3.sandbox.user(PERSON)
    await user.say(await user.open(AGENT), "hello")
    assert (await socket.event("message:new"))["content"] == "hello"


async def conversation_of_another(client: Client) -> str:
    client.sandbox.add_agent(OTHER, SECRET)
    return await (await client.sandbox.user()).open(OTHER)


async def test_the_alias_registers_and_delivers_and_never_acks(v3: Client) -> None:
    socket = await v3.connect(await v3.token(), namespace="/ws/chat", path=PEOPLE_PATH)
    await v3.sandbox.wait_online(AGENT)
    user = await v3.sandbox.user(PERSON)
    conversation = await user.open(AGENT)
    await user.say(conversation, "hello")
    assert (await socket.event("message:new"))["content"] == "hello"
    await socket.barrier()
    for event, payload in (
        ("agent:heartbeat", {"status": "busy"}),
        ("message:typing", {"conversationId": conversation, "isTyping": False}),
        ("message:send", {"conversationId": conversation, "role": "assistant", "content": "x"}),
        ("conversation:join", {"conversationId": conversation}),
    ):
        await socket.emit(event, payload)
    assert await socket.barrier() == []
    assert [message.content for message in v3.sandbox.messages(conversation)] == ["hello"]


async def test_attachment_objects_of_people_are_passed_on(v3: Client) -> None:
    socket = await v3.agent()
    person = await v3.person()
    widget = {"name": "a.txt", "type": "text/plain", "size": 2, "data": "aGk="}
    message: dict[str, Any] = {"conversationId": await v3.talk(person), "role": "user", "content": "see"}
    await person.call("message:send", {**message, "attachments": [widget]})
    assert (await socket.event("message:new"))["attachments"] == [widget]
