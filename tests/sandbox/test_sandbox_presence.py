"""Where the platform finds an agent, and how it forgets one (docs/protocol.md#7-findings, 1)."""

from typing import Any

import pytest

from supervisor.sandbox.world.log import EventLog
from supervisor.sandbox.world.presence import PresenceSets
from tests.sandbox.conftest import AGENT, PERSON, Client, RawSocket, Start


async def begin(client: Client) -> str:
    """Somebody new begins a conversation with the agent and says something; its id."""
    user = await client.sandbox.user()
    conversation = await user.open(AGENT)
    await user.say(conversation, f"hello from {user.id}")
    return conversation


async def own_presence(socket: RawSocket) -> list[dict[str, Any]]:
    return [update for update in await socket.events("presence:update") if update.get("agentId") == AGENT]


async def test_v2_forgets_an_agent_that_stays_connected(start: Start) -> None:
    now = 0.0
    client = await start(profile="v2", forget_after_seconds=1.0, clock=lambda: now)
    socket = await client.agent()
    first = await begin(client)
    assert [message["conversationId"] for message in await socket.events("message:new")] == [first]
    now = 1.05
    await begin(client)
    assert await socket.events("message:new") == [], "deaf to new conversations"
    assert client.sandbox.is_online(AGENT), "and it looks healthy"
    known = await client.sandbox.user(client.sandbox.messages(first)[0].sender_id)
    await known.say(first, "still there?")
    assert (await socket.event("message:new"))["content"] == "still there?"


async def test_nothing_that_a_v2_agent_sends_renews_it(start: Start) -> None:
    now = 0.0
    client = await start(profile="v2", forget_after_seconds=0.3, clock=lambda: now)
    socket = await client.agent()
    conversation = await begin(client)
    token = await client.token()
    for later in (0.1, 0.2, 0.29, 0.31):
        now = later
        await socket.call("conversation:join", {"conversationId": conversation})
        await socket.call("message:send", {"conversationId": conversation, "role": "assistant", "content": "x"})
        assert (await client.ask("POST", "/agents/heartbeat", {"status": "idle"}, token=token))[0] == 201
    await begin(client)
    assert "hello" not in str(await socket.events("message:new"))


async def test_an_own_join_brings_the_own_presence_only_while_the_platform_knows_the_agent(v2: Client) -> None:
    socket = await v2.agent()
    conversation = await begin(v2)
    await socket.barrier()
    joined = {"success": True, "conversationId": conversation}
    await socket.emit("conversation:join", {"conversationId": conversation})
    assert [update["status"] for update in await own_presence(socket)] == ["online"]
    v2.sandbox.presence.forget(AGENT)
    await socket.emit("conversation:join", {"conversationId": conversation})
    frames = await socket.barrier()
    assert len(frames) == 1, "the ack and no presence"
    assert await socket.call("conversation:join", {"conversationId": conversation}) == joined


async def test_the_presence_at_a_join_is_the_joiners_alone(v2: Client) -> None:
    """As recorded; a connect is told to everybody."""
    socket, other = await v2.agent(), await v2.agent()
    user = await v2.sandbox.user(PERSON)
    conversation = await user.open(AGENT)
    for one in (socket, other):
        await one.barrier()
    user.received.clear()
    await socket.emit("conversation:join", {"conversationId": conversation})
    assert [update["status"] for update in await own_presence(socket)] == ["online"]
    assert await own_presence(other) == []
    assert [event for event, _ in user.received] == ["user:joined"]


async def test_a_redis_that_lost_its_data_forgets_everyone_at_once(v2: Client) -> None:
    socket = await v2.agent()
    v2.sandbox.presence.forget()
    await begin(v2)
    assert await socket.events("message:new") == []
    again = await v2.agent()
    conversation = await begin(v2)
    assert (await again.event("message:new"))["conversationId"] == conversation
    assert await socket.events("message:new") == [], "once forgotten only the new socket is found"


async def test_a_new_connect_renews_the_other_sockets_while_the_set_is_there(start: Start) -> None:
    now = 0.0
    client = await start(profile="v2", forget_after_seconds=2.0, clock=lambda: now)
    socket = await client.agent()
    now = 0.7
    second = await client.agent()
    await second.ws.close()
    await client.sandbox.wait_until(lambda: len(client.sandbox.sockets_of(AGENT)) == 1, 5)
    now = 2.05
    conversation = await begin(client)
    assert (await socket.event("message:new"))["conversationId"] == conversation


def test_a_set_expires_as_a_whole() -> None:
    now = 0.0
    sets = PresenceSets(EventLog(), expire_seconds=3600, clock=lambda: now)
    sets.add("a", "one")
    now = 3599
    sets.add("a", "two")
    now = 3600
    assert sets.sockets_of("a") == {"one", "two"}
    sets.remove("a", "two")
    assert sets.sockets_of("a") == {"one"}
    now = 3599 + 3600
    assert sets.sockets_of("a") == frozenset()
    sets.add("a", "three")
    assert sets.sockets_of("a") == {"three"}
    sets.replace("a", "four")
    assert sets.sockets_of("a") == {"four"}
    sets.remove("a", "four")
    assert sets.sockets_of("a") == frozenset()


async def test_each_closing_tells_offline_and_no_online_follows(client: Client) -> None:
    """Make before break leaves the portal with an agent that is offline until its next connect."""
    first, second = await client.agent(), await client.agent()
    await first.ws.close()
    await client.sandbox.wait_until(lambda: len(client.sandbox.sockets_of(AGENT)) == 1, 5)
    updates = await own_presence(second)
    assert [update["status"] for update in updates] == ["online", "offline"][-len(updates) :]
    assert updates[-1]["status"] == "offline"
    assert await own_presence(second) == []


async def test_a_join_of_a_v2_person_puts_the_agents_sockets_into_the_conversation(v2: Client) -> None:
    user = await v2.sandbox.user(PERSON)
    conversation = await user.open(AGENT)
    socket = await v2.agent()
    await user.say(conversation, "unheard")
    assert await socket.events("message:new") == []
    person = await v2.person()
    assert (await person.call("conversation:join", {"conversationId": conversation}))["success"]
    await user.say(conversation, "heard")
    assert (await socket.event("message:new"))["content"] == "heard"


async def test_a_v2_person_is_told_of_an_agent_that_is_found_and_of_no_other(v2: Client) -> None:
    person = await v2.person()
    await person.emit("agent:connect", {"agentId": AGENT})
    assert await own_presence(person) == []
    await v2.agent()
    await person.barrier()
    await person.emit("agent:connect", {"agentId": AGENT})
    assert [update["status"] for update in await own_presence(person)] == ["online"]


@pytest.mark.parametrize("path", ["/forget"])
async def test_agents_can_be_forgotten_over_http(v2: Client, path: str) -> None:
    await v2.agent()
    for body, forgotten in (({"agents": [AGENT]}, [AGENT]), ({}, "everyone")):
        answer = await v2.post(f"{v2.sandbox.base_url}/sandbox{path}", json=body)
        assert (answer.status, await answer.json()) == (200, {"forgotten": forgotten})
        assert v2.sandbox.presence.sockets_of(AGENT) == frozenset()
