"""The Python side: people, waiting, subscriptions, settings."""

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from supervisor.sandbox import RefusedError, Sandbox
from tests.sandbox.conftest import AGENT, OTHER, SECRET, Client


async def test_a_conversation_from_both_sides(client: Client) -> None:
    socket = await client.agent()
    user = await client.sandbox.user()
    conversation = await user.open(AGENT)
    said = await user.say(conversation, "hello", attachments=["https://files.example/a.pdf"])
    heard = await socket.event("message:new")
    assert (heard["_id"], heard["content"], heard["attachments"]) == (said, "hello", ["https://files.example/a.pdf"])

    await user.typing(conversation)
    typing = await socket.event("user:typing")
    assert (typing["type"], typing["userId"], typing["isTyping"]) == ("user", user.id, True)

    base = {"conversationId": conversation, "role": "assistant"}
    await socket.call("message:typing", {"conversationId": conversation, "isTyping": True})
    await socket.call("message:send", {**base, "content": "thinking", "type": "thinking"})
    waiting = asyncio.create_task(user.wait_for_reply(conversation, after=said, count=2))
    await socket.call("message:send", {**base, "content": "one"})
    await socket.call("message:send", {**base, "content": "two"})
    assert [reply.content for reply in await waiting] == ["thinking", "one", "two"]
    assert [message.content for message in client.sandbox.messages(conversation)] == ["hello", "thinking", "one", "two"]
    assert [name for name, _ in user.received if name == "agent:typing"] == ["agent:typing"]
    online = await socket.call("conversation:online", {"conversationId": conversation})
    assert online["onlineUsers"] == [user.id]
    await user.leave()
    gone = await socket.event("presence:update")
    assert (gone["userId"], gone["status"]) == (user.id, "offline")


async def test_waiting_in_vain_says_what_came(client: Client) -> None:
    user = await client.sandbox.user()
    conversation = await user.open(AGENT)
    said = await user.say(conversation, "hello")
    with pytest.raises(TimeoutError, match=f"1 answers wanted within 0.05 s of message {said}"):
        await user.wait_for_reply(conversation, after=said, timeout=0.05)
    with pytest.raises(TimeoutError, match=f"1 agents still offline .*{AGENT}"):
        await client.sandbox.wait_online(timeout=0.05)


async def test_people_are_refused_as_at_a_socket(client: Client) -> None:
    user = await client.sandbox.user()
    with pytest.raises(RefusedError, match="Path `content` is required"):
        await user.say(await user.open(AGENT), "")
    with pytest.raises(LookupError, match="add_agent"):
        await user.open(OTHER)


async def test_events_can_be_followed(client: Client) -> None:
    with client.sandbox.log.subscribe() as events:
        socket = await client.agent()
        kinds = []
        async for event in events:
            kinds.append(event.kind)
            if event.kind == "online":
                assert event.agent_id == AGENT
                break
        assert kinds == ["token_request", "secret_checked", "token_answer", "open", "connect", "online"]
        await socket.call("message:read", {"conversationId": "0" * 24, "messageId": "1" * 24})
        assert (await anext(events)).fields == {"conversation_id": "0" * 24, "message_id": "1" * 24}
    await client.token()
    assert client.sandbox.events[-1].kind == "token_answer"


async def test_wait_until_returns_what_was_found(client: Client) -> None:
    waiting = asyncio.create_task(client.sandbox.wait_until(lambda: client.sandbox.sockets_of(AGENT), 5))
    await client.agent()
    assert await waiting == client.sandbox.sockets_of(AGENT)
    assert client.sandbox.is_online(AGENT)


async def test_raw_frames_reach_the_agent(client: Client) -> None:
    socket = await client.agent()
    assert client.sandbox.emit(AGENT, "message:new", {"role": 5}) == 1
    assert await socket.event("message:new") == {"role": 5}
    assert client.sandbox.send_raw(AGENT, f'42{socket.namespace},{{"not":"an array"}}') == 1
    assert await socket.frame() == f'42{socket.namespace},{{"not":"an array"}}'
    assert client.sandbox.send_raw(AGENT, b"\x00\xff") == 1
    assert (await socket.ws.receive(timeout=5)).data == b"\x00\xff"
    assert client.sandbox.send_raw(OTHER, "42x") == 0


async def test_addresses(client: Client) -> None:
    sandbox = client.sandbox
    assert sandbox.base_url == f"http://127.0.0.1:{sandbox.port}"
    assert sandbox.api_url == f"{sandbox.base_url}/dev/aiwm"
    assert sandbox.ws_url == f"ws://127.0.0.1:{sandbox.port}{sandbox.config.declared_namespaces[-1]}"


async def test_an_own_engine_path_and_namespace() -> None:
    async with Sandbox(
        engine_path="/dev/aiwm/chat/socket.io", namespaces=("/dev/aiwm/chat",), rest_prefix=""
    ) as sandbox:
        assert sandbox.ws_url.endswith("/dev/aiwm/chat")
        assert sandbox.api_url == sandbox.base_url
        async with aiohttp.ClientSession() as http:
            sandbox.add_agent(AGENT, SECRET)
            socket = await Client(sandbox, http).agent()
            assert socket.namespace == "/dev/aiwm/chat"


def test_agents_never_show_their_secret() -> None:
    agent = Sandbox().add_agent(AGENT, "very-secret")
    assert "very-secret" not in repr(agent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"profile": "v4"}, "profile must be v1, v2 or v3"),
        ({"stage": "iv"}, "stage must be i, ii or iii"),
        ({"profile": "v3", "namespaces": ("/ws",)}, "stage iii has the root namespace"),
        ({"forget_after_seconds": 0}, "forget_after_seconds must be above 0"),
        ({"rest_prefix": "dev"}, "rest_prefix must start with /"),
        ({"engine_path": "/x/"}, "engine_path must start with / and not end with it"),
        ({"engine_path": ""}, "engine_path must not be empty"),
        ({"namespaces": ("/", "/ws")}, "root namespace cannot be declared"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sandbox(**settings)


def test_agent_ids_are_checked() -> None:
    with pytest.raises(ValueError, match="24 hex digits"):
        Sandbox().add_agent("ada", SECRET)


@pytest.mark.parametrize("turns", range(4))
async def test_a_start_that_is_cancelled_leaves_nothing_open(turns: int) -> None:
    async def run() -> None:
        async with Sandbox():
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_taken_port_is_an_error(client: Client) -> None:
    with pytest.raises(OSError, match="in use"):
        await Sandbox(port=client.sandbox.port).start()


async def test_two_that_want_one_port_at_once_do_not_share_it() -> None:
    """Bound but not yet listening, both would have had it, and the later one would have been deaf."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = Sandbox(port=port), Sandbox(port=port)
    outcomes = await asyncio.gather(first.start(), second.start(), return_exceptions=True)
    await asyncio.gather(first.stop(), second.stop())
    assert [type(outcome) for outcome in outcomes].count(OSError) == 1
