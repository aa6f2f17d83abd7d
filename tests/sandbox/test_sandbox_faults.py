"""Every fault switch, over real sockets."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import websockets

from supervisor.sandbox.world.faults import Cookies, Handshake
from tests.sandbox.conftest import AGENT, OTHER, SECRET, Client, Start


async def say(client: Client) -> tuple[str, dict[str, Any]]:
    """A conversation that the agent is in, and a message it may send there."""
    conversation = await (await client.sandbox.user()).open(AGENT)
    return conversation, {"conversationId": conversation, "role": "assistant", "content": "x"}


async def test_handshakes_can_be_refused(client: Client) -> None:
    client.sandbox.faults.handshake("refuse", status=502)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await client.socket()
    assert caught.value.status == 502
    client.sandbox.faults.clear()
    await client.agent()


async def test_the_socket_can_close_before_open(client: Client) -> None:
    client.sandbox.faults.handshake("close", times=2)
    for _ in range(2):
        socket = await client.socket()
        assert await socket.closed() == 1011
    assert client.sandbox.faults.struck["handshake"] == 2
    assert client.sandbox.faults.active() == {}
    await client.agent()


async def test_open_can_be_withheld(client: Client) -> None:
    client.sandbox.faults.handshake("silent")
    socket = await client.socket()
    with pytest.raises(TimeoutError):
        await socket.frame(timeout=0.1)


async def test_the_connection_can_be_reset_before_the_handshake(client: Client) -> None:
    client.sandbox.faults.handshake("reset")
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await client.socket()


async def test_polling_handshakes_fail_too(client: Client) -> None:
    client.sandbox.faults.handshake("refuse", status=429, times=1)
    answer = await client.get(f"{client.sandbox.base_url}/socket.io/?EIO=4&transport=polling")
    assert answer.status == 429


async def test_a_connect_can_be_kicked_with_a_good_token(client: Client) -> None:
    client.sandbox.faults.connect("kick", times=1)
    token = await client.token()
    socket = await client.connect(token)
    assert await socket.frame() == f"41{socket.namespace},"
    assert client.sandbox.connects[-1].outcome == "kick"
    assert not client.sandbox.is_online(AGENT)
    again = await client.connect(token)
    await client.sandbox.wait_online(AGENT)
    assert not again.ws.closed


async def test_a_connect_can_be_refused_with_a_message(client: Client) -> None:
    client.sandbox.faults.connect("error", message="Token expired")
    socket = await client.socket()
    await socket.frame()
    await socket.send(f"40{socket.namespace}," + json.dumps({"token": await client.token()}))
    assert await socket.frame() == f'44{socket.namespace},{{"message":"Token expired"}}'


async def test_a_connect_can_stay_unanswered_or_reset(client: Client) -> None:
    token = json.dumps({"token": await client.token()})
    client.sandbox.faults.connect("silent", times=1)
    socket = await client.socket()
    await socket.frame()
    await socket.send(f"40{socket.namespace},{token}")
    assert await socket.barrier() == []
    client.sandbox.faults.connect("reset", times=1)
    await socket.send(f"40{socket.namespace},{token}")
    await socket.closed()
    assert client.sandbox.faults.struck["connect"] == 2


@pytest.mark.parametrize("mode", ["refuse", "error", "replace"])
async def test_an_agent_may_be_allowed_one_socket(client: Client, mode: Any) -> None:
    client.sandbox.add_agent(OTHER, SECRET)
    client.sandbox.faults.second_socket(mode, agents=[AGENT])
    first = await client.agent()
    await client.agent(OTHER), await client.agent(OTHER)
    token = json.dumps({"token": await client.token()})
    await first.barrier()
    second = await client.socket()
    await second.frame()
    await second.send(f"40{second.namespace},{token}")
    if mode == "error":
        assert await second.frame() == f'44{second.namespace},{{"message":"Agent is already connected"}}'
    else:
        assert (await second.frame()).startswith(f"40{second.namespace},")
    if mode == "replace":
        assert (await second.event("presence:update"))["status"] == "online"
        assert f"41{first.namespace}," in await first.barrier()
    else:
        assert client.sandbox.connects[-1].outcome == ("kick" if mode == "refuse" else "error")
        assert f"41{first.namespace}," not in await first.barrier()
    if mode == "refuse":
        assert await second.frame() == f"41{second.namespace},"
    assert len(client.sandbox.sockets_of(AGENT)) == 1
    assert len(client.sandbox.sockets_of(OTHER)) == 2
    assert client.sandbox.faults.struck["second_socket"] == 1


async def test_an_agent_without_a_socket_gets_its_one(client: Client) -> None:
    client.sandbox.faults.second_socket()
    first = await client.agent()
    await first.ws.close()
    await client.sandbox.wait_until(lambda: not client.sandbox.is_online(AGENT), 5)
    again = await client.agent()
    await again.send(f"40{again.namespace}," + json.dumps({"token": await client.token()}))
    assert (await again.barrier())[0].startswith(f"40{again.namespace},"), "the same socket is no second one"
    assert client.sandbox.faults.struck["second_socket"] == 0


async def test_every_answer_can_set_a_cookie(client: Client) -> None:
    client.sandbox.faults.cookies()
    url = f"{client.sandbox.api_url}/agents/{AGENT}/connect"
    answer = await client.post(url, json={"secret": SECRET}, headers={"Cookie": "affinity=node-0"})
    assert answer.headers["Set-Cookie"] == "affinity=node-1; Path=/"
    async with websockets.connect(client.socket_url, additional_headers={"Cookie": "affinity=node-1"}) as socket:
        assert socket.response is not None
        assert socket.response.headers["Set-Cookie"] == "affinity=node-2; Path=/"
        await socket.recv()
    cookies = [event.fields["cookie"] for event in client.sandbox.events if event.kind in ("token_request", "open")]
    assert cookies == ["affinity=node-0", "affinity=node-1"]


async def test_the_connect_ack_and_the_presence_can_be_late(client: Client) -> None:
    client.sandbox.faults.delay(connect_ack_seconds=0.15, presence_seconds=0.15)
    loop = asyncio.get_running_loop()
    began = loop.time()
    socket = await client.connect()
    acked = loop.time()
    assert acked - began >= 0.14
    await socket.event("presence:update")
    assert loop.time() - acked >= 0.14


async def test_the_presence_can_be_missing(client: Client) -> None:
    client.sandbox.add_agent(OTHER, SECRET)
    client.sandbox.faults.no_presence(agents=[AGENT])
    deaf = await client.connect()
    await client.agent(OTHER)
    assert not client.sandbox.is_online(AGENT)
    assert (await deaf.event("presence:update"))["agentId"] == OTHER


async def test_the_presence_can_reach_everybody_but_the_socket_that_connects(client: Client) -> None:
    first = await client.agent()
    client.sandbox.faults.presence_elsewhere()
    second = await client.connect()
    assert (await first.event("presence:update"))["agentId"] == AGENT
    assert [frame for frame in await second.barrier() if "presence:update" in frame] == []


async def test_acks_can_be_lost(client: Client) -> None:
    socket = await client.agent()
    conversation, message = await say(client)
    await socket.call("conversation:join", {"conversationId": conversation})
    client.sandbox.faults.drop_acks(times=1)
    await socket.emit("message:send", message)
    names = [json.loads(frame.partition(",")[2])[0] for frame in await socket.barrier()]
    assert names == ["message:new", "message:sent"]
    client.sandbox.faults.drop_acks(confirmations=True)
    await socket.emit("message:send", message)
    names = [json.loads(frame.partition(",")[2])[0] for frame in await socket.barrier()]
    assert names == ["message:new"]
    assert (await socket.call("conversation:online", {"conversationId": conversation}))["success"]
    client.sandbox.faults.clear()
    assert (await socket.call("message:send", message))["success"]


async def test_acks_can_have_odd_forms(client: Client) -> None:
    socket = await client.agent()
    _, message = await say(client)
    forms: dict[Any, str] = {"empty": "[]", "null": "[null]", "word": '["received"]', "node": '[null,{"success":true'}
    for form, expected in forms.items():
        client.sandbox.faults.odd_acks(form, times=1)
        begin = f"{socket.prefix('43')}{await socket.emit('message:send', message)}["
        [acked] = [frame for frame in await socket.barrier() if frame.startswith(begin)]
        assert acked.removeprefix(begin[:-1]).startswith(expected)
    assert client.sandbox.faults.struck["odd_acks"] == len(forms)


async def test_acks_can_be_late(client: Client) -> None:
    socket = await client.agent()
    _, message = await say(client)
    client.sandbox.faults.delay(event_ack_seconds=0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await socket.call("message:send", message)
    assert loop.time() - began >= 0.09


async def test_a_hang_swallows_everything_both_ways(client: Client) -> None:
    client.sandbox.add_agent(OTHER, SECRET)
    hung, well = await client.agent(), await client.agent(OTHER)
    conversation, message = await say(client)
    await hung.barrier()
    client.sandbox.faults.hang(agents=[AGENT])
    await hung.emit("message:send", message)
    client.sandbox.emit(AGENT, "message:new", {})
    assert (await well.call("conversation:online", {"conversationId": conversation}))["success"]
    with pytest.raises(TimeoutError):
        await hung.frame(timeout=0.1)
    assert client.sandbox.messages(conversation) == []
    assert not hung.ws.closed
    client.sandbox.faults.clear()
    await hung.closed()
    await client.agent()


async def test_a_hang_ends_in_a_ping_timeout_on_the_server_and_no_close(start: Start) -> None:
    client = await start(ping_interval_seconds=0.1, ping_timeout_seconds=0.1)
    socket = await client.agent()
    client.sandbox.faults.hang()
    await client.sandbox.wait_until(lambda: not client.sandbox.is_online(AGENT), 5)
    with pytest.raises(TimeoutError):
        await socket.frame(timeout=0.05)
    late = await client.socket()
    with pytest.raises(TimeoutError):
        await late.frame(timeout=0.05)


async def test_sends_can_be_refused(client: Client) -> None:
    socket = await client.agent()
    conversation, message = await say(client)
    client.sandbox.faults.refuse_sends(times=1)
    refusal = {"success": False, "error": "You do not have permission to create."}
    assert await socket.call("message:send", message) == refusal
    user = await client.sandbox.user("c" * 24)
    if client.sandbox.config.profile == "v1":
        client.sandbox.faults.refuse_sends("nobody may")
        await user.say(await user.open(AGENT), "people still may")
        client.sandbox.faults.clear()
    assert (await socket.call("message:send", message))["success"]
    assert client.sandbox.messages(conversation)[-1].content == "x"


@pytest.mark.parametrize(("when", "stored"), [("before_store", 0), ("after_store", 1)])
async def test_the_connection_can_break_around_the_store(client: Client, when: Any, stored: int) -> None:
    socket = await client.agent()
    conversation, message = await say(client)
    client.sandbox.faults.cut_sends(when, times=1)
    ack_id = await socket.emit("message:send", message)
    with pytest.raises((ConnectionError, aiohttp.ClientError)):
        await socket.ack(ack_id)
    assert len(client.sandbox.messages(conversation)) == stored
    assert not client.sandbox.is_online(AGENT)


async def test_sends_in_flight_together_can_be_stored_in_another_order(client: Client) -> None:
    socket = await client.agent()
    conversation, message = await say(client)
    client.sandbox.faults.shuffle_sends(0.05)
    ids = [await socket.emit("message:send", {**message, "content": text}) for text in ("a", "b", "c")]
    for ack_id in reversed(ids):
        assert (await socket.ack(ack_id))["success"]
    assert [stored.content for stored in client.sandbox.messages(conversation)] == ["c", "b", "a"]
    assert (await socket.call("message:send", {**message, "content": "alone"}))["success"]
    assert client.sandbox.faults.struck["shuffle_sends"] == 1


async def test_the_platform_can_kick_at_expiry(start: Start) -> None:
    client = await start(expires_in_seconds=0.3)
    client.sandbox.faults.kick_at_expiry()
    socket = await client.agent()
    while not (frame := await socket.frame()).startswith("41"):
        pass
    assert frame == "41/ws,"
    assert not client.sandbox.is_online(AGENT)


async def test_a_kick_gives_no_reason_and_leaves_the_engine_open(client: Client) -> None:
    client.sandbox.add_agent(OTHER, SECRET)
    socket, other = await client.agent(), await client.agent(OTHER)
    await socket.barrier()
    assert client.sandbox.kick(AGENT) == 1
    assert await socket.barrier() == [f"41{socket.namespace},"]
    assert (await other.event("presence:update"))["status"] == "offline"
    assert client.sandbox.kick() == 1


async def test_connections_can_be_reset(client: Client) -> None:
    socket = await client.agent()
    assert client.sandbox.cut(AGENT) == 1
    await socket.closed()
    assert not client.sandbox.is_online(AGENT)


async def test_tokens_can_expire_at_once(client: Client) -> None:
    token = await client.token()
    assert client.sandbox.tokens.expire(OTHER) == 0
    assert client.sandbox.tokens.expire(AGENT) == 1
    for _ in range(2):
        socket = await client.connect(token)
        assert await socket.frame() == f"41{socket.namespace},"
    await client.agent()
    first, again, other = client.sandbox.connects
    assert (first.outcome, again.outcome, other.outcome) == ("refused", "refused", "accepted")
    assert first.token_id == again.token_id != other.token_id
    await client.connect("not.a.token")
    assert client.sandbox.connects[-1].token_id == ""


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_the_token_endpoint_can_fail(client: Client, status: int) -> None:
    client.sandbox.faults.rest("token", status=status, retry_after="7", times=1)
    url = f"{client.sandbox.api_url}/agents/{AGENT}/connect"
    answer = await client.post(url, json={"secret": SECRET})
    assert answer.status == status
    assert answer.headers["Retry-After"] == "7"
    body = await answer.json()
    assert body["statusCode"] == status
    assert body["path"] == f"/agents/{AGENT}/connect"
    assert (await client.post(url, json={"secret": SECRET})).status == 201
    assert [request.status for request in client.sandbox.token_requests] == [status, 201]
    assert all((request.over_at or 0) >= request.at for request in client.sandbox.token_requests)


async def test_the_token_endpoint_can_talk_nonsense(client: Client) -> None:
    url = f"{client.sandbox.api_url}/agents/{AGENT}/connect"
    for mode, status, kind in (
        ("html", 502, "text/html"),
        ("ok_html", 200, "text/html"),
        ("empty", 201, "application/json"),
    ):
        client.sandbox.faults.rest("token", mode, status=502)  # type: ignore[arg-type]
        answer = await client.post(url, json={"secret": SECRET})
        assert (answer.status, answer.content_type) == (status, kind)
        assert "accessToken" not in await answer.text()


async def test_the_token_endpoint_can_reset_and_hang(client: Client) -> None:
    url = f"{client.sandbox.api_url}/agents/{AGENT}/connect"
    client.sandbox.faults.rest("token", "reset")
    with pytest.raises(aiohttp.ClientError):
        await client.post(url, json={"secret": SECRET})
    client.sandbox.faults.rest("token", "hang")
    with pytest.raises(TimeoutError):
        await client.post(url, json={"secret": SECRET}, timeout=aiohttp.ClientTimeout(total=0.1))
    assert [request.status for request in client.sandbox.token_requests] == [None, None]


async def test_rest_faults_choose_agents_and_targets(client: Client) -> None:
    client.sandbox.add_agent(OTHER, SECRET)
    client.sandbox.faults.rest("token", agents=[OTHER])
    assert (await client.post(f"{client.sandbox.api_url}/agents/{OTHER}/connect")).status == 503
    token = await client.token()
    client.sandbox.faults.rest("history", status=500)
    history = f"{client.sandbox.api_url}/messages/conversation/{'0' * 24}"
    bearer = {"Authorization": f"Bearer {token}"}
    assert (await client.get(history, headers=bearer)).status == 500
    await client.token()
    client.sandbox.faults.rest("all", status=500, agents=[OTHER])
    assert (await client.get(history, headers=bearer)).status == 200


@pytest.mark.parametrize("path", ["messages", "actions"])
async def test_the_history_can_be_missing(client: Client, path: str) -> None:
    client.sandbox.faults.rest("history", status=404)
    history = f"{client.sandbox.api_url}/{path}/conversation/{'0' * 24}"
    answer = await client.get(history, headers={"Authorization": f"Bearer {await client.token()}"})
    assert (answer.status, (await answer.json())["message"]) == (404, f"Cannot GET /{path}/conversation/{'0' * 24}")


async def test_rest_answers_can_be_late(client: Client) -> None:
    client.sandbox.faults.delay(rest_seconds=0.1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await client.token()
    assert loop.time() - began >= 0.09


async def test_only_some_rest_answers_can_be_late(client: Client) -> None:
    client.sandbox.faults.delay(rest_seconds=30, rest_target="history")
    await client.token()
    history = f"{client.sandbox.api_url}/messages/conversation/{'0' * 24}"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.get(history, headers={"Authorization": f"Bearer {await client.token()}"})
    assert [event.fields["target"] for event in client.sandbox.events if event.kind == "delayed"] == ["history"]


async def test_a_restart_drops_everyone_for_a_while(client: Client) -> None:
    socket = await client.agent()
    restart = asyncio.create_task(client.sandbox.restart(down_seconds=0.1))
    await socket.closed()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(client.sandbox.base_url)
    await restart
    await client.agent()


async def test_handshake_faults_cannot_choose_agents(client: Client) -> None:
    for switch in (Handshake, Cookies):
        with pytest.raises(ValueError, match="nobody has said who they are"):
            client.sandbox.faults.set(switch(agents=[AGENT]))


async def test_a_shuffle_still_settles_when_the_socket_goes_away(client: Client) -> None:
    socket = await client.agent()
    conversation, message = await say(client)
    client.sandbox.faults.shuffle_sends(0.02)
    await socket.emit("message:send", message)
    await client.sandbox.wait_until(lambda: client.sandbox.messages(conversation), 5)
    await socket.ws.close()
    await client.sandbox.wait_until(lambda: not client.sandbox.is_online(AGENT), 5)
