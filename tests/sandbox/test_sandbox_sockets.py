"""Sockets: transports, heartbeats, limits, identities, rooms and presence."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import socketio
import websockets

from tests.sandbox.conftest import AGENT, SECRET, Client, RawSocket, Start


async def test_the_open_packet_says_what_was_set(start: Start) -> None:
    client = await start(ping_interval_seconds=0.25, ping_timeout_seconds=1.5, max_payload_bytes=5000)
    socket = await client.socket()
    opened = json.loads((await socket.frame())[1:])
    assert opened.pop("sid")
    assert opened == {"upgrades": [], "pingInterval": 250, "pingTimeout": 1500, "maxPayload": 5000}


async def test_a_socket_that_answers_pings_stays(start: Start) -> None:
    client = await start(ping_interval_seconds=0.05, ping_timeout_seconds=5)
    socket = await client.socket()
    await socket.frame()
    for _ in range(3):
        assert (await socket.ws.receive(timeout=5)).data == "2"
        await socket.send("3")
    assert await socket.barrier() == []


async def test_a_socket_that_answers_no_ping_is_closed(start: Start) -> None:
    client = await start(ping_interval_seconds=0.05, ping_timeout_seconds=0.05)
    token = await client.token()
    socket = await client.connect(token)
    await socket.event("presence:update")
    assert (await socket.ws.receive(timeout=5)).data == "2"
    await client.sandbox.wait_until(lambda: not client.sandbox.is_online(AGENT), 5)
    assert await socket.closed() == 1000
    assert client.sandbox.events[-1].fields["reason"] == "ping timeout"


async def test_a_frame_above_the_limit_closes_with_1009(start: Start) -> None:
    client = await start(max_payload_bytes=2000)
    socket = await client.agent()
    await socket.send("42/ws," + json.dumps(["message:send", {"content": "x" * 1900}]))
    await socket.event("message:error")
    await socket.send("42/ws," + json.dumps(["message:send", {"content": "x" * 2000}]))
    assert await socket.closed() == 1009


async def test_long_polling_works(client: Client) -> None:
    sandbox = client.sandbox
    url = f"{sandbox.base_url}/socket.io/?EIO=4&transport=polling"
    opened = json.loads((await (await client.get(url)).text())[1:])
    assert opened["upgrades"] == ["websocket"]
    url += f"&sid={opened['sid']}"
    namespace = client.sandbox.config.declared_namespaces[-1]
    connect = f"40{namespace}," + json.dumps({"token": await client.token()})
    assert await (await client.post(url, data=connect)).text() == "OK"
    await sandbox.wait_until(lambda: sandbox.is_online(AGENT), 5)
    frames = (await (await client.get(url)).text()).split("\x1e")
    assert frames[0].startswith(f"40{namespace},")
    assert frames[1].startswith(f'42{namespace},["presence:update"')
    assert (await client.post(url, data="x" * 1_000_001)).status == 400
    assert not sandbox.is_online(AGENT)


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]])
async def test_the_usual_client_library_gets_on_with_it(client: Client, transports: list[str]) -> None:
    sio = socketio.AsyncClient(reconnection=False, handle_sigint=False)
    own: asyncio.Queue[Any] = asyncio.Queue()
    news: asyncio.Queue[Any] = asyncio.Queue()
    namespace = client.sandbox.config.declared_namespaces[-1]
    sio.on("presence:update", own.put, namespace=namespace)
    sio.on("message:new", news.put, namespace=namespace)
    await sio.connect(
        client.sandbox.base_url, auth={"token": await client.token()}, namespaces=[namespace], transports=transports
    )
    try:
        assert (await asyncio.wait_for(own.get(), 5))["agentId"] == AGENT
        assert sio.transport() == transports[-1]
        user = await client.sandbox.user()
        conversation = await user.open(AGENT)
        said = await user.say(conversation, "hello")
        assert (await asyncio.wait_for(news.get(), 5))["_id"] == said
        answer = {"conversationId": conversation, "role": "assistant", "content": "hi"}
        ack = await sio.call("message:send", answer, namespace=namespace)
        assert ack["success"]
        assert [reply.content for reply in await user.wait_for_reply(conversation, after=said)] == ["hi"]
    finally:
        await sio.disconnect()
    await client.sandbox.wait_until(lambda: not client.sandbox.is_online(AGENT), 5)


async def registered(client: Client, socket: RawSocket, auth: Any) -> bool:
    await socket.frame()
    await socket.send(f"40{socket.namespace}," + (json.dumps(auth) if auth is not None else ""))
    await socket.frame()
    return (await socket.frame()).startswith(f"42{socket.namespace},")


async def test_a_token_may_come_three_ways_and_auth_wins(client: Client) -> None:
    token = await client.token()
    bearer = {"Authorization": f"Bearer {token}"}
    assert await registered(client, await client.socket(headers=bearer), None)
    assert await registered(client, await client.socket(query=f"&token={token}"), None)
    assert await registered(client, await client.socket(headers={"Authorization": "Bearer x"}), {"token": token})
    assert not await registered(client, await client.socket(headers=bearer), {"token": "x"})
    assert [attempt.outcome for attempt in client.sandbox.connects] == ["accepted"] * 3 + ["refused"]


async def test_a_token_that_expires_while_connected_changes_nothing(client: Client) -> None:
    socket = await client.agent()
    assert client.sandbox.tokens.expire() == 1
    answer = await socket.call("conversation:online", {"conversationId": "0" * 24})
    assert answer == {"success": True, "onlineUsers": []}


async def test_a_second_connect_replaces_the_first(client: Client) -> None:
    socket = await client.agent()
    await socket.barrier()
    await socket.send(f"40{socket.namespace}," + json.dumps({"token": await client.token()}))
    while (await socket.event("presence:update"))["status"] != "online":
        pass
    assert len(client.sandbox.sockets_of(AGENT)) == 1


async def test_unknown_events_are_never_acked(client: Client) -> None:
    socket = await client.agent()
    await socket.emit("message:nwe", {"a": 1})
    await socket.emit("connect", {})
    assert await socket.barrier() == []


@pytest.mark.parametrize("frame", ["42/ws,{}", "42/ws,[]", "42/ws,[null]", "42/ws,1[NaN]", "42/ws,[", "4", "9", ""])
async def test_malformed_frames_close_the_socket(v1: Client, frame: str) -> None:
    socket = await v1.agent()
    await socket.send(frame)
    assert await socket.closed() == 1000
    await v1.sandbox.wait_until(lambda: not v1.sandbox.is_online(AGENT), 5)


async def test_binary_without_an_event_closes_the_socket(v1: Client) -> None:
    socket = await v1.agent()
    await socket.ws.send_bytes(b"\x00\x01")
    assert await socket.closed() == 1000


async def test_text_that_is_not_utf8_closes_with_1007(v1: Client) -> None:
    async with websockets.connect(v1.socket_url) as socket:
        await socket.send(b"42/ws,[\xff]", text=True)
        await asyncio.wait_for(socket.wait_closed(), 5)
        assert socket.close_code == 1007


async def test_too_deep_a_payload_closes_the_socket(client: Client) -> None:
    socket = await client.agent()
    deep = "[" * 5000 + "]" * 5000
    await socket.send(f'42{socket.namespace},["message:send",{{"content":"x","metadata":{deep}}}]')
    assert await socket.closed() == 1000


async def test_binary_attachments_arrive_as_buffers(v2: Client) -> None:
    socket = await v2.agent()
    user = await v2.sandbox.user()
    conversation = await user.open(AGENT)
    message = {
        "conversationId": conversation,
        "role": "assistant",
        "content": "x",
        "file": {"_placeholder": True, "num": 0},
    }
    await socket.send("451-/ws/chat,7" + json.dumps(["message:send", message]))
    await socket.ws.send_bytes(b"\x01\xff")
    assert (await socket.ack(7))["message"]["file"] == {"type": "Buffer", "data": [1, 255]}


async def test_a_client_may_leave_the_namespace(client: Client) -> None:
    socket = await client.agent()
    await socket.send(f"41{socket.namespace},")
    await socket.emit("conversation:online", {"conversationId": "0" * 24})
    assert await socket.barrier() == []
    assert not client.sandbox.is_online(AGENT)


async def test_a_client_may_close_the_engine(client: Client) -> None:
    socket = await client.agent()
    await socket.send("1")
    assert await socket.closed() == 1000
    assert not client.sandbox.is_online(AGENT)


async def test_frames_sent_right_after_an_upgrade_are_not_lost(client: Client) -> None:
    base = f"{client.sandbox.base_url}/socket.io/?EIO=4"
    opened = json.loads((await (await client.get(f"{base}&transport=polling")).text())[1:])
    ws = await client.http.ws_connect(f"{base}&transport=websocket&sid={opened['sid']}")
    await ws.send_str("2probe")
    assert (await ws.receive(timeout=5)).data == "3probe"
    namespace = client.sandbox.config.declared_namespaces[-1]
    token = json.dumps({"token": await client.token()})
    await asyncio.gather(ws.send_str("5"), ws.send_str(f"40{namespace},{token}"))
    assert (await ws.receive(timeout=5)).data == "6"
    assert (await ws.receive(timeout=5)).data.startswith(f"40{namespace},")
    await client.sandbox.wait_online(AGENT)
    await ws.close()


async def test_a_failed_upgrade_leaves_polling_alive(client: Client) -> None:
    base = f"{client.sandbox.base_url}/socket.io/?EIO=4"
    opened = json.loads((await (await client.get(f"{base}&transport=polling")).text())[1:])
    sid = opened["sid"]
    for frames in (["hello"], ["2probe", "6"]):
        ws = await client.http.ws_connect(f"{base}&transport=websocket&sid={sid}")
        for frame in frames:
            await ws.send_str(frame)
        while not ws.closed and (await ws.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
            pass
        await ws.close()
    url = f"{base}&transport=polling&sid={sid}"
    await client.post(url, data="40{}")
    assert '40{"sid":' in await (await client.get(url)).text()


async def test_lone_surrogates_travel_as_escapes(client: Client) -> None:
    socket = await client.agent()
    user = await client.sandbox.user()
    conversation = await user.open(AGENT)
    content = "\ud800 and 👋"
    await user.say(conversation, content)
    assert (await socket.event("message:new"))["content"] == content


async def test_two_sockets_of_an_agent_get_the_same_message(client: Client) -> None:
    first, second = await client.agent(), await client.agent()
    assert len(client.sandbox.sockets_of(AGENT)) == 2
    user = await client.sandbox.user()
    said = await user.say(await user.open(AGENT), "hello")
    assert (await first.event("message:new"))["_id"] == said
    assert (await second.event("message:new"))["_id"] == said


async def test_offline_is_told_even_while_another_socket_lives(client: Client) -> None:
    first, second = await client.agent(), await client.agent()
    await second.barrier()
    await first.ws.close()
    update = await second.event("presence:update")
    assert update.pop("timestamp")
    assert update == {"type": "agent", "agentId": AGENT, "status": "offline"}
    assert client.sandbox.is_online(AGENT)


async def test_v1_puts_the_agent_back_into_its_conversation(v1: Client) -> None:
    user = await v1.sandbox.user()
    conversation = await user.open(AGENT)
    token = await v1.token()
    for _ in range(2):
        socket = await v1.connect(token)
        assert (await socket.event("presence:update"))["conversationId"] == conversation
        said = await user.say(conversation, "hello")
        assert (await socket.event("message:new"))["_id"] == said
        await socket.ws.close()
        await v1.sandbox.wait_until(lambda: not v1.sandbox.is_online(AGENT), 5)


async def test_v2_puts_the_agent_into_a_conversation_on_join_or_agent_connect(v2: Client) -> None:
    user = await v2.sandbox.user()
    conversation = await user.open(AGENT)
    socket = await v2.agent()
    await user.say(conversation, "unheard")
    assert await socket.events("message:new") == []
    assert (await socket.call("conversation:join", {"conversationId": conversation}))["success"]
    said = await user.say(conversation, "heard")
    assert (await socket.event("message:new"))["_id"] == said

    other_user = await v2.sandbox.user()
    other = await other_user.open(AGENT)
    assert other != conversation
    said = await other_user.say(other, "heard too")
    message = await socket.event("message:new")
    assert (message["_id"], message["conversationId"]) == (said, other)
    third = await user.open(AGENT, another=True)
    assert len({conversation, other, third}) == 3


async def test_presence_reaches_every_socket(client: Client) -> None:
    """With many sockets the broadcast is written together with later ones; it must still all arrive."""
    number = 100
    ids = [f"{index:024x}" for index in range(number)]
    for agent_id in ids:
        client.sandbox.add_agent(agent_id, SECRET)
    sockets = [await client.connect(client.sandbox.tokens.for_agent(agent_id)) for agent_id in ids]
    await client.sandbox.wait_online(*ids)
    for index, socket in enumerate(sockets):
        heard: list[str] = []
        while ids[-1] not in heard:
            heard.append((await socket.event("presence:update"))["agentId"])
        assert [agent_id for agent_id in heard if agent_id in ids[index:]] == ids[index:]


async def test_a_stopped_sandbox_drops_everyone_and_returns_on_the_same_port(client: Client) -> None:
    sandbox = client.sandbox
    socket = await client.agent()
    port, conversation = sandbox.port, await (await sandbox.user()).open(AGENT)
    await sandbox.stop()
    with pytest.raises((ConnectionError, aiohttp.ClientError)):
        await socket.barrier()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(sandbox.base_url)
    assert not sandbox.is_online(AGENT)
    await sandbox.start()
    assert sandbox.port == port
    await client.agent()
    assert await (await sandbox.user()).open(AGENT) != conversation or sandbox.config.profile == "v1"
