"""Messages over a connection of paper: who is told, when, and what stands between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import (
    AckTimeoutError,
    AlreadyStoredError,
    ConnectionLostError,
    PlatformError,
    SendRefusedError,
)
from supervisor.platform.connection import Connection
from supervisor.platform.hosts.facts import Way
from supervisor.platform.repeats import EQUAL_SECONDS
from supervisor.platform.transport import Socket
from supervisor.platform.transport.wires import Dial, Listener
from tests.support.connecting import AGENT, make_test_grant
from tests.support.paper_wire import OPEN, PaperWire
from tests.support.virtual import VirtualLoop, run

CONVERSATION, MESSAGE = "c" * 24, "1" * 24


class Line:
    """A connection whose platform answers each frame as told; ``told`` is what became of each message, in order."""

    def __init__(self, namespace: str, answers: dict[str, list[Any]]) -> None:
        self.told: list[object] = []
        self.sent: list[str] = []
        self._namespace = namespace
        self._answers = answers

    async def open(self) -> None:
        self.connection = connection = Connection(AGENT, on_event=lambda *_: None)
        namespace, answer = self._namespace, self._answer

        class Wire(PaperWire):
            def write(self, frame: bytes) -> bool:
                for said in answer(frame.decode()):
                    asyncio.get_running_loop().call_soon(self.bring, said)
                return super().write(frame)

        Wire.frames = (OPEN, f'40{namespace},{{"sid":"a"}}')

        def make(dial: Dial, listener: Listener) -> PaperWire:
            self.wire = Wire(None, dial, listener)
            return self.wire

        dial = Dial("ws://host:1", "/socket.io", {}, {}, None, namespace, {})
        socket = Socket(make, dial, agent_id=AGENT, on_event=connection.receive, clock=SystemClock())
        assert await socket.join("token", 5.0) is None
        connection.bind(socket, make_test_grant(), Way(namespace, "/socket.io"))

    def _answer(self, frame: str) -> list[str]:
        head, _, body = frame.partition("[")
        if not head.startswith(f"42{self._namespace},") or not head.partition(",")[2]:
            return []
        event = json.loads(f"[{body}")[0]
        self.sent.append(event)
        answers = self._answers.get(event, [])
        if not answers:
            return []
        return [f"43{self._namespace},{head.partition(',')[2]}{json.dumps([answers.pop(0)])}"]

    def send(self) -> None:
        body = json.dumps({"_id": MESSAGE, "conversationId": CONVERSATION, "content": "hi"}).encode()

        def then(known_as: str | None, error: PlatformError | None) -> None:
            self.told.append(known_as if error is None else error)

        self.connection.send_soon(MESSAGE, CONVERSATION, body, 5.0, then)


def play(script: Callable[[VirtualLoop, Line], Any], *, namespace: str = "/ws", **answers: list[Any]) -> None:
    async def live(loop: VirtualLoop) -> None:
        on = Line(namespace, {name.replace("_", ":"): each for name, each in answers.items()})
        await on.open()
        await script(loop, on)
        await on.connection.close()

    run(live)


def stored(known_as: str = MESSAGE) -> dict[str, Any]:
    return {"success": True, "message": {"_id": known_as}}


def refused(error: str) -> dict[str, Any]:
    return {"success": False, "error": error}


def test_a_message_goes_out_where_it_is_asked_for_and_makes_no_task() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        before = asyncio.all_tasks()
        on.send()
        assert on.sent == ["message:send"]
        assert asyncio.all_tasks() == before
        await loop.settle()
        assert on.told == ["k1"]

    play(script, message_send=[stored("k1")])


@pytest.mark.parametrize(
    ("error", "kind"),
    [("You do not have permission", SendRefusedError), (f"E11000 duplicate key {MESSAGE}", AlreadyStoredError)],
)
def test_a_refusal_is_told_for_what_it_is(error: str, kind: type[Exception]) -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        on.send()
        await loop.settle()
        assert [type(one) for one in on.told] == [kind]

    play(script, message_send=[refused(error)])


def test_one_that_is_in_no_conversation_joins_and_sends_once_more() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        on.send()
        await loop.settle()
        assert on.sent == ["message:send", "conversation:join", "message:send"]
        assert on.told == ["k2"]

    play(script, message_send=[refused("No conversation found"), stored("k2")], conversation_join=[{"success": True}])


def test_a_second_refusal_of_that_kind_is_told() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        on.send()
        await loop.settle()
        assert on.sent == ["message:send", "conversation:join", "message:send"]
        assert [type(one) for one in on.told] == [SendRefusedError]

    nowhere = refused("No conversation found")
    play(script, message_send=[nowhere, nowhere], conversation_join=[{"success": True}])


def test_a_join_that_is_refused_is_what_became_of_the_message() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        on.send()
        await loop.settle()
        assert on.sent == ["message:send", "conversation:join"]
        assert [type(one) for one in on.told] == [SendRefusedError]
        assert "not invited" in str(on.told[0])

    play(script, message_send=[refused("No conversation found")], conversation_join=[refused("not invited")])


def test_whoever_waits_for_a_join_is_told_when_the_connection_is_closed() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        on.send()
        await loop.settle()
        assert on.told == []
        await on.connection.close()
        await loop.settle()
        assert [type(one) for one in on.told] == [ConnectionLostError]

    play(script, message_send=[refused("No conversation found")])


def test_a_join_that_the_close_forestalls_is_told_too() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        on.send()
        await loop.settle()
        closing = asyncio.create_task(on.connection.close())
        await asyncio.sleep(0)
        on.wire.bring('43/ws,1[{"success":false,"error":"No conversation found"}]')
        await loop.settle()
        assert [type(one) for one in on.told] == [ConnectionLostError]
        await closing

    play(script)


def test_nobody_is_told_before_the_call_returns() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        on.connection.socket.abort()
        await loop.settle()
        on.send()
        assert on.told == []
        await loop.settle()
        assert [type(one) for one in on.told] == [ConnectionLostError]

    play(script)


async def test_one_that_is_not_bound_tells_so() -> None:
    connection, told = Connection(AGENT, on_event=lambda *_: None), asyncio.get_running_loop().create_future()
    connection.send_soon(MESSAGE, CONVERSATION, b"{}", 5.0, lambda _known_as, error: told.set_result(error))
    assert isinstance(await told, ConnectionLostError)


def test_a_waiting_caller_that_is_cancelled_leaves_nothing_to_tell() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        waiting = asyncio.create_task(on.connection.send(MESSAGE, CONVERSATION, b'{"content":"hi"}', 5.0))
        await loop.settle()
        waiting.cancel()
        await loop.settle()
        assert waiting.cancelled()
        on.wire.bring('43/ws,1[{"success":true}]')
        await loop.complete(on.connection.send(MESSAGE, CONVERSATION, b'{"content":"hi"}', 5.0))

    async def answered(loop: VirtualLoop, on: Line) -> None:
        with pytest.raises(AckTimeoutError):
            await script(loop, on)

    play(answered)


def test_at_the_agents_gateway_an_equal_message_waits_without_a_task() -> None:
    async def script(loop: VirtualLoop, on: Line) -> None:
        on.send()
        await loop.settle()
        before = asyncio.all_tasks()
        on.send()
        await loop.advance(EQUAL_SECONDS - 0.1)
        assert (on.sent, asyncio.all_tasks()) == (["message:send"], before)
        await loop.advance(0.2)
        assert on.told == ["k1", "k2"]

    play(script, namespace="/ws/agent", message_send=[stored("k1"), stored("k2")])
