"""Frames that are not what Socket.IO promises: reported, and the connection lives on."""

from __future__ import annotations

import pytest

from supervisor.platform.transport import MALFORMED
from tests.support.connecting import OpenTransport, Received, connect, received_from, sending
from tests.support.gateway import Peer, eventually, gateway

OTHER = "aaaaaaaaaaaaaaaaaaaa0002"


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("42/ws,", "not_an_array"),
        ("42/ws,{}", "not_an_array"),
        ('42/ws,"x"', "not_an_array"),
        ("42/ws,null", "not_an_array"),
        ("42/ws,[]", "no_event_name"),
        ("42/ws,[1]", "no_event_name"),
        ("42/ws,[null,{}]", "no_event_name"),
        ('42/ws,["message:new"', "bad_json"),
        ('42/ws,["message:new",{"a":1e999}]', "bad_json"),
        ('42/ws,["message:new",{"a":NaN}]', "bad_json"),
        ('42/ws,["message:new",{}]trailing', "bad_json"),
        ('42/ws,1234567890123456789012["message:new",{}]', "bad_json"),
        ('42/ws,["message:new",' + "[" * 50_000 + "]" * 50_000 + "]", "too_deep"),
        ('42/ws,["__malformed__","spoofed"]', "reserved_event"),
        ('42["message:new",{}]', "unknown_packet"),
        ('42/ws/chat,["message:new",{}]', "unknown_packet"),
        ('43/ws,["message:new"]', "ack_without_id"),
        ("43/ws,", "ack_without_id"),
        ('451-/ws,["x",{"_placeholder":true,"num":0}]', "unknown_packet"),
        ('461-/ws,1[{"_placeholder":true,"num":0}]', "unknown_packet"),
        ('40/ws,{"sid":"again"}', "second_connect"),
        ("40/other,{}", "unknown_packet"),
        ("41/other,", "unknown_packet"),
        ("4", "unknown_packet"),
        ("49/ws,[]", "unknown_packet"),
        ("", "unknown_packet"),
        ("0{}", "unknown_packet"),
        ("3", "unknown_packet"),
        ("5", "unknown_packet"),
        ("7", "unknown_packet"),
        ("x", "unknown_packet"),
        ("bAAAA", "unknown_packet"),
        ("2" + "x" * 1000, "unknown_packet"),
        ("\x00\u202e", "unknown_packet"),
    ],
)
async def test_a_malformed_frame_is_reported_and_the_connection_lives_on(
    transport: OpenTransport, frame: str, reason: str
) -> None:
    events, _ = await received_from(transport, '42/ws,["before",{}]', frame, '42/ws,["after",{}]')
    assert events == [("before", {}), (MALFORMED, reason), ("after", {})]


async def test_other_namespaces_on_the_root_namespace_are_foreign(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join("/")
        await peer.send('42/ws,["x"]', "41/ws,", '42["end"]')

    events = Received()
    async with gateway(script) as server, transport() as made:
        socket = await connect(made, server, events, namespace="/")
        await eventually(lambda: "end" in events.names)
        assert socket.connected
    assert events == [(MALFORMED, "foreign_namespace"), (MALFORMED, "unknown_packet"), ("end", None)]


async def test_binary_frames_are_reported(transport: OpenTransport) -> None:
    async def script(peer: Peer) -> None:
        await peer.join()
        await peer.ws.send_bytes(b"\x00\x01")
        await peer.send('451-/ws,["x",{"_placeholder":true,"num":0}]')
        await peer.ws.send_bytes(b"attachment")
        await peer.send('42/ws,["end",{}]')

    events = Received()
    async with gateway(script) as server, transport() as made:
        await connect(made, server, events)
        await eventually(lambda: "end" in events.names)
    assert events[:-1] == [(MALFORMED, "binary_frame"), (MALFORMED, "unknown_packet"), (MALFORMED, "binary_frame")]


async def test_half_a_surrogate_pair_does_not_cost_the_message(transport: OpenTransport) -> None:
    events, _ = await received_from(
        transport,
        r'42/ws,["message:new",{"content":"a\ud83db \ude00 \ud83d\ude00 \\ud83d \ud83d\\"}]',
        r'42/ws,["\udfff",{"\uD800":"\\\ud800"}]',
    )
    assert events == [
        ("message:new", {"content": "a\ufffdb \ufffd 😀 \\ud83d \ufffd\\"}),
        ("\ufffd", {"\ufffd": "\\\ufffd"}),
    ]


async def test_engine_noops_and_pings_are_no_events(transport: OpenTransport) -> None:
    async with gateway(sending("6", "2", "2probe")) as server, transport() as made:
        events = Received()
        await connect(made, server, events)
        await eventually(lambda: "end" in events.names)
        await eventually(lambda: server.peers[0].frames[1:] == ["3", "3probe"])
        assert events.names == ["end"]
