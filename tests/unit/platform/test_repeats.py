"""Equal messages: where the platform drops one that follows within 5 s, the next one waits; nothing is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import AckTimeoutError
from supervisor.platform.connection import Connection
from supervisor.platform.hosts.facts import Way
from supervisor.platform.repeats import EQUAL_SECONDS, Repeats
from supervisor.platform.transport import Socket
from supervisor.platform.transport.wires import Dial, Listener
from tests.support.connecting import AGENT, make_test_grant
from tests.support.paper_wire import OPEN, PaperWire
from tests.support.virtual import VirtualLoop, run

CONVERSATION = "c" * 24
Answer = Callable[[str, dict[str, Any]], list[str]]


class Gateway:
    """A gateway on paper that drops repetitions as the agents' one does: its key lives 5 s, whatever becomes of a send.

    Attributes:
        stored: what it has kept, with the time.
        fails: how many sends it refuses after it has set their key.
    """

    def __init__(self, loop: VirtualLoop, namespace: str = "/ws/agent") -> None:
        self._loop = loop
        self._namespace = namespace
        self._until: dict[str, float] = {}
        self.stored: list[tuple[float, dict[str, Any]]] = []
        self.fails = 0

    def answer(self, frame: str) -> list[str]:
        """What it says to a frame."""
        head, _, body = frame.partition("[")
        if not head.startswith(f"42{self._namespace},"):
            return []
        _, said = json.loads(f"[{body}")
        ack = f"43{self._namespace},{head.partition(',')[2]}"
        key = json.dumps([said.get(name) for name in ("conversationId", "role", "type", "content")])
        if self._until.get(key, -1.0) > self._loop.time():
            return [
                f'42{self._namespace},["message:sent",{{"success":true,"messageId":"dedup"}}]',
                f'{ack}[{{"success":true}}]',
            ]
        self._until[key] = self._loop.time() + 5.0
        if self.fails:
            self.fails -= 1
            return [f'{ack}[{{"success":false,"error":"Database is down"}}]']
        self.stored.append((self._loop.time(), said))
        return [f'{ack}[{{"success":true}}]']

    async def connection(self, repeats: Repeats) -> Connection:
        """A connection to it."""
        connection = Connection(AGENT, on_event=lambda *_: None, repeats=repeats)
        frames = (OPEN, f'40{self._namespace},{{"sid":"a"}}')
        gateway = self

        class Wire(PaperWire):
            def write(self, frame: bytes) -> bool:
                for said in gateway.answer(frame.decode()):
                    asyncio.get_running_loop().call_soon(self.bring, said)
                return super().write(frame)

        Wire.frames = frames

        def make(dial: Dial, listener: Listener) -> PaperWire:
            return Wire(None, dial, listener)

        dial = Dial("ws://host:1", "/socket.io", {}, {}, None, self._namespace, {})
        socket = Socket(make, dial, agent_id=AGENT, on_event=connection.receive, clock=SystemClock())
        assert await socket.join("token", 5.0) is None
        connection.bind(socket, make_test_grant(), Way(self._namespace, "/socket.io"))
        return connection


def body(content: str, **fields: Any) -> bytes:
    """A message as it is given to a connection."""
    message = {"role": "assistant", "content": content, "conversationId": CONVERSATION, "_id": "1" * 24, **fields}
    return json.dumps(message).encode()


def test_equal_answers_are_kept_apart_and_all_of_them_arrive() -> None:
    async def live(loop: VirtualLoop) -> None:
        gateway = Gateway(loop)
        connection = await gateway.connection(Repeats())
        for content in ("Yes.", "Yes.", "No."):
            await loop.complete(connection.send("1" * 24, CONVERSATION, body(content), 5.0))
        assert [(at, said["content"]) for at, said in gateway.stored] == [
            (0.0, "Yes."),
            (EQUAL_SECONDS, "Yes."),
            (EQUAL_SECONDS, "No."),
        ]
        await connection.close()

    run(live)


def test_a_send_that_failed_is_repeated_only_when_the_platform_takes_it_again() -> None:
    async def live(loop: VirtualLoop) -> None:
        gateway, repeats = Gateway(loop), Repeats()
        gateway.fails = 1
        first = await gateway.connection(repeats)
        with pytest.raises(Exception, match="Database is down"):
            await loop.complete(first.send("1" * 24, CONVERSATION, body("Yes."), 5.0))
        await first.close()
        # On another connection of the agent: the key is the agent's.
        second = await gateway.connection(repeats)
        await loop.complete(second.send("1" * 24, CONVERSATION, body("Yes."), 5.0))
        assert [at for at, _ in gateway.stored] == [EQUAL_SECONDS]
        await second.close()

    run(live)


def test_what_was_dropped_all_the_same_is_in_doubt_and_not_delivered() -> None:
    async def live(loop: VirtualLoop) -> None:
        gateway = Gateway(loop)
        gateway.fails = 1
        # Another process of ours sent it a moment ago: this one remembers nothing.
        before = await gateway.connection(Repeats())
        with pytest.raises(Exception, match="Database is down"):
            await loop.complete(before.send("1" * 24, CONVERSATION, body("Yes."), 5.0))
        connection = await gateway.connection(Repeats())
        with pytest.raises(AckTimeoutError, match="repetition"):
            await loop.complete(connection.send("1" * 24, CONVERSATION, body("Yes."), 5.0))
        assert gateway.stored == []
        await before.close()
        await connection.close()

    run(live)


def test_elsewhere_nothing_waits() -> None:
    async def live(loop: VirtualLoop) -> None:
        gateway = Gateway(loop, "/ws/chat")
        connection = await gateway.connection(Repeats())
        await loop.complete(connection.send("1" * 24, CONVERSATION, body("Yes."), 5.0))
        # This one would drop it; what counts is that it was asked at once.
        with pytest.raises(AckTimeoutError, match="repetition"):
            await loop.complete(connection.send("1" * 24, CONVERSATION, body("Yes."), 5.0))
        assert loop.time() == 0.0
        await connection.close()

    run(live)


def test_what_is_past_is_forgotten() -> None:
    repeats = Repeats()
    repeats.sent(body("a"), 0.0)
    assert repeats.wait_seconds(body("a", _id="2" * 24, latency=3), 1.0) == EQUAL_SECONDS - 1
    for other in (body("b"), body("a", type="thinking"), body("a", conversationId="d" * 24)):
        assert repeats.wait_seconds(other, 1.0) == 0.0
    assert repeats.wait_seconds(body("a"), EQUAL_SECONDS) == 0.0
