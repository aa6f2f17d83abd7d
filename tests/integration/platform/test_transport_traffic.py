"""Events in and out of an open connection: order, acks, and frames that are not what they should be."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from supervisor.core.errors import AckTimeoutError, ConnectionLostError, SendRefusedError, Verdict
from supervisor.platform.transport import MALFORMED
from tests.support.connecting import AGENT, OpenTransport, Received, connect, received_from, sending
from tests.support.gateway import Peer, eventually, gateway, recorded

OTHER = "aaaaaaaaaaaaaaaaaaaa0002"


async def join(peer: Peer) -> None:
    await peer.join()


async def test_a_call_returns_the_acks_first_argument(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.answer(lambda event, payload: {"event": event, "payload": payload})

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        payload = {"conversationId": "c", "text": 'ü 👋 "\\'}
        assert await socket.call("message:typing", payload, 5) == {"event": "message:typing", "payload": payload}
        encoded = b'{"content" : "kept as it is"}'
        answer = await socket.call("message:send", encoded, 5)
        assert answer == {"event": "message:send", "payload": {"content": "kept as it is"}}
        assert server.peers[0].frames[-1] == '42/ws,2["message:send",{"content" : "kept as it is"}]'


@pytest.mark.parametrize(("body", "expected"), [("[]", None), ("[null]", None), ("[1,2]", 1), ('["x"]', "x")])
async def test_an_ack_of_any_shape(transport: OpenTransport, body: str, expected: object) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.receive()
        await peer.send(f"43/ws,1{body}")

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        assert await socket.call("any", {}, 5) == expected


async def test_acks_find_their_calls_in_any_order(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        frames = [await peer.receive() for _ in range(50)]
        for frame in reversed(frames):
            head, _, body = frame.partition("[")
            await peer.send(f"43{head[2:]}" + json.dumps([json.loads("[" + body)[1]["n"]]))

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        answers = await asyncio.gather(*(socket.call("echo", {"n": n}, 5) for n in range(50)))
        assert answers == list(range(50))


async def test_an_ack_that_never_comes_and_one_that_comes_late(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.receive()
        await peer.receive()
        # The first's ack, too late, twice; an ack of nothing; then the second's.
        await peer.send('43/ws,1["late"]', '43/ws,1["again"]', "43/ws,999[]", '43/ws,2["good"]')

    events = Received()
    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events)
        with pytest.raises(AckTimeoutError, match=r"message:send was not acknowledged within 0\.1 s"):
            await socket.call("message:send", {}, 0.1)
        assert await socket.call("message:send", {}, 5) == "good"
        assert socket.connected
        assert events == []


async def test_an_ack_that_cannot_be_read_fails_its_call_at_once(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.receive()
        await peer.send("43/ws,1{}")

    events = Received()
    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events)
        with pytest.raises(AckTimeoutError, match="cannot be read"):
            await socket.call("message:send", {}, 60)
        assert events == [(MALFORMED, "bad_ack")]


async def test_the_ack_of_a_cancelled_call_is_nobodys(transport: OpenTransport) -> None:
    events = Received()
    async with gateway(join) as server, transport() as made:
        socket = await connect(made, server, events)
        calls = [asyncio.create_task(socket.call("any", {}, 60)) for _ in range(20)]
        await eventually(lambda: len(server.peers[0].frames) == 21)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await server.peers[0].send(*(f"43/ws,{number}[]" for number in range(1, 21)))
        await server.peers[0].send('42/ws,["end",{}]')
        await eventually(lambda: "end" in events.names)
        assert events.names == ["end"]
        # Cancelled and lost in the same turn of the loop: no exception may stay unretrieved.
        last = asyncio.create_task(socket.call("any", {}, 60))
        await eventually(lambda: len(server.peers[0].frames) == 22)
        socket.abort()
        last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await last


async def test_a_frame_larger_than_the_server_takes_is_not_sent(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.open(maxPayload=1000)
        await peer.connect_frame()
        await peer.send('40/ws,{"sid":"s"}')
        await peer.answer(lambda _event, payload: len(payload["content"]))

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        with pytest.raises(SendRefusedError, match="the platform allows 1,000") as failure:
            await socket.call("message:send", {"content": "x" * 1000}, 5)
        assert failure.value.verdict is Verdict.REJECT
        socket.emit("message:send", {"content": "x" * 1000})
        assert socket.dropped_emits == 1
        # The largest that fits does fit.
        room = 1000 - len('42/ws,2["message:send",{"content":""}]')
        assert await socket.call("message:send", {"content": "x" * room}, 5) == room


async def test_a_large_message_passes_both_ways(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.answer(lambda _event, payload: payload)

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        payload = {"content": "é👋" * 150_000}
        assert await socket.call("echo", payload, 10) == payload


async def test_emits_and_calls_arrive_in_the_order_in_which_they_were_made(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.answer(lambda _event, _payload: None)

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        for number in range(20):
            socket.emit("message:typing", {"n": number, "isTyping": True})
            await socket.call("message:send", {"n": number}, 5)
            socket.emit("message:typing", {"n": number, "isTyping": False})
        await eventually(lambda: len(server.peers[0].frames) == 61)
        seen = [json.loads("[" + frame.partition("[")[2]) for frame in server.peers[0].frames[1:]]
        kinds = [(payload["n"], payload.get("isTyping")) for _, payload in seen]
        assert kinds == [(n, typing) for n in range(20) for typing in (True, None, False)]


async def test_emits_and_calls_on_a_lost_connection(transport: OpenTransport) -> None:
    async with gateway(join) as server, transport() as made:
        socket = await connect(made, server)
        await socket.close()
        socket.emit("message:typing", {})
        with pytest.raises(ConnectionLostError, match="closed by us"):
            await socket.call("message:send", {}, 60)


async def test_what_a_stuck_network_does_not_take_is_bounded(transport: OpenTransport) -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.join()
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()
        await release.wait()
        peer.request.transport.resume_reading()
        await peer.answer(lambda _event, _payload: "taken")

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        for _ in range(5000):
            socket.emit("message:typing", {"filler": "x" * 4000})
        assert socket.dropped_emits > 0
        assert transport.wires[-1].buffered_bytes < 300_000
        with pytest.raises(AckTimeoutError):
            await socket.call("message:send", {"filler": "x" * 100_000}, 0.2)
        release.set()
        assert await socket.call("message:send", {}, 5) == "taken"


async def test_emits_that_find_the_buffer_full_neither_wait_nor_complain_when_the_connection_is_lost(
    transport: OpenTransport,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        assert peer.request.transport is not None
        peer.request.transport.pause_reading()
        await peer.send("2")
        await asyncio.sleep(60)

    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server)
        filler = b'{"x":"' + b"y" * 100_000 + b'"}'
        call = asyncio.create_task(socket.call("message:send", filler, 60))
        # Turns of the loop between them let the network take what it can.
        while socket.dropped_emits < 20:
            socket.emit("message:typing", filler)
            await asyncio.sleep(0)
        # Large enough to wait for the same emptier buffer as an emit was left without waiting.
        late = asyncio.create_task(socket.call("message:send", {"x": "y" * 900_000}, 60))
        await asyncio.sleep(0)
        assert not late.done()
        socket.emit("message:typing", {})
        server.peers[0].abort()
        async with asyncio.timeout(2):
            assert await socket.closed == "transport error"
        for lost in (call, late):
            with pytest.raises(ConnectionLostError):
                await lost


async def test_events_come_in_order_however_they_are_packed(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        for start in range(0, 3000, 100):
            await peer.send_at_once(*(f'42/ws,["message:new",{{"n":{n}}}]' for n in range(start, start + 100)))
        await peer.send('42/ws,["end",{}]')

    events = Received()
    async with gateway(script) as server, transport() as made:
        await connect(made, server, events)
        await eventually(lambda: "end" in events.names)
    assert [payload["n"] for _, payload in events[:-1]] == list(range(3000))


async def test_no_task_is_made_for_an_event(transport: OpenTransport) -> None:
    made_tasks = 0

    def counting(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
        nonlocal made_tasks
        made_tasks += 1
        return asyncio.Task(coro, loop=loop, **more)

    release, events = asyncio.Event(), Received()

    async def script(peer: Peer) -> None:
        await peer.join()
        await release.wait()
        await peer.send(*(f'42/ws,["message:new",{{"n":{n}}}]' for n in range(1000)))

    async with gateway(script) as server, transport() as made:
        await connect(made, server, events)
        loop = asyncio.get_running_loop()
        loop.set_task_factory(counting)
        release.set()
        while len(events) < 1000:
            await asyncio.sleep(0.005)
        loop.set_task_factory(None)
    assert made_tasks < 10


async def test_an_event_without_an_argument_and_one_with_several(transport: OpenTransport) -> None:
    events, _ = await received_from(
        transport, '42/ws,["bare"]', '42/ws,["many",1,2]', '42/ws,["exception",{"status":"error"}]'
    )
    assert events == [("bare", None), ("many", 1), ("exception", {"status": "error"})]


async def test_an_event_for_which_the_platform_wants_an_ack_gets_one(transport: OpenTransport) -> None:
    async with gateway(sending('42/ws,17["message:new",{"a":1}]')) as server, transport() as made:
        events = Received()
        await connect(made, server, events)
        await eventually(lambda: "43/ws,17[]" in server.peers[0].frames)
        assert events[0] == ("message:new", {"a": 1})


async def test_a_receiver_that_fails_does_not_cost_the_connection(
    transport: OpenTransport, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def failing(event: str, payload: object) -> None:
        seen.append(event)
        raise RuntimeError("defect")

    events = Received()
    events.received = failing  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        async with gateway(sending('42/ws,["first",{}]')) as server, transport() as made:
            socket = await connect(made, server, events)
            await eventually(lambda: seen == ["first", "end"])
            assert socket.connected
    assert f"agent {AGENT}: the receiver of first failed" in caplog.text


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("part", ["conversation", "refused-sends"])
async def test_every_recorded_frame_comes_through(transport: OpenTransport, version: str, part: str) -> None:
    frames = [frame for frame in recorded(f"{version}-{part}.jsonl") if frame.startswith("42")]
    assert frames
    namespace = frames[0][2:].partition(",")[0]

    async def script(peer: Peer) -> None:
        await peer.join(namespace)
        await peer.send(*frames, f'42{namespace},["end",{{}}]')

    events = Received()
    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events, namespace=namespace)
        await eventually(lambda: "end" in events.names)
    expected = [json.loads(frame.partition(",")[2]) for frame in frames]
    foreign = [e for e in expected if e[0] == "presence:update" and AGENT not in json.dumps(e)]
    assert [list(event) for event in events[:-1]] == [e for e in expected if e not in foreign]
    assert socket.noise.dropped == len(foreign)


async def test_foreign_presences_are_counted_and_own_ones_delivered(transport: OpenTransport) -> None:
    def presence(**fields: str | None) -> str:
        return '42/ws,["presence:update",' + json.dumps({"status": "online", **fields}, separators=(",", ":")) + "]"

    events, socket = await received_from(
        transport,
        presence(type="agent", agentId=OTHER),
        '42/ws,["presence:update",not even json',
        presence(type="agent", agentId=AGENT),
        presence(type="user", userId="u", agentId=AGENT),
        presence(type="user", userId="u", agentId=None),
    )
    assert [payload["type"] for _, payload in events] == ["agent", "user"]
    assert all(payload["agentId"] == AGENT for _, payload in events)
    assert socket.noise.dropped == 3
