"""Sends in flight on a socket of paper: each is told once what became of it, and all share one timer."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from typing import Any

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import AckTimeoutError, ConnectionLostError, PlatformError, SendRefusedError
from supervisor.platform.sends import ACKLESS_SENDS, Sends
from supervisor.platform.transport import Socket
from supervisor.platform.transport.wires import Dial, Listener
from supervisor.protocol.events import SendOutcome
from tests.support.paper_wire import PaperWire
from tests.support.virtual import VirtualLoop, run

AGENT, CONVERSATION = "a" * 24, "c" * 24


class Line:
    """The sends of a socket on a wire of paper; ``told`` is what became of each, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

        def make(dial: Dial, listener: Listener) -> PaperWire:
            self.wire = PaperWire(None, dial, listener)
            return self.wire

        dial = Dial("ws://host:1", "/socket.io", {}, {}, None, "/ws", {})
        self.socket = Socket(make, dial, agent_id=AGENT, on_event=self.receive, clock=SystemClock())
        self.sends = Sends(AGENT, ackless_grace_seconds=1)

    def receive(self, event: str, payload: object) -> None:
        if event in ("message:sent", "message:error"):
            self.sends.match_outcome(payload)

    def send(self, message_id: str, timeout: float = 15) -> None:
        """Its ack has the number of sends so far."""

        def told(outcome: SendOutcome | None, error: PlatformError | None) -> None:
            self.told.append((message_id, type(error) if outcome is None else outcome.message_id or outcome.success))

        self.sends.send(message_id, CONVERSATION, b'{"content":"hi"}', timeout, told)

    def ack(self, number: int, **answer: Any) -> None:
        said = "" if not answer else json.dumps({"success": True, "message": {"_id": answer["known_as"]}})
        self.wire.bring(f"43/ws,{number}[{said}]")

    def report(self, message_id: str) -> None:
        said = json.dumps({"success": True, "messageId": message_id})
        self.wire.bring(f'42/ws,["message:sent",{said}]')


async def line() -> Line:
    made = Line()
    assert await made.socket.join("token", 5) is None
    made.sends.bind(made.socket)
    return made


def test_each_is_told_in_the_moment_of_its_ack_and_once() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        on.send("m1")
        on.send("m2")
        on.ack(2, known_as="k2")
        assert on.told == [("m2", "k2")], "no turn of the loop lies between"
        on.ack(1, known_as="k1")
        on.ack(1, known_as="k1")
        on.wire.listener.broken()
        await loop.advance(60)
        assert on.told == [("m2", "k2"), ("m1", "k1")]

    run(live)


def test_each_is_late_after_its_own_time() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        on.send("long", 15)
        await loop.advance(1)
        on.send("short", 5)
        on.send("acked", 5)
        await loop.advance(4.9)
        on.ack(3, known_as="k3")
        assert on.told == [("acked", "k3")]
        await loop.advance(0.2)
        assert on.told[1:] == [("short", AckTimeoutError)]
        await loop.advance(8.8)
        assert len(on.told) == 2
        await loop.advance(0.2)
        assert on.told[2:] == [("long", AckTimeoutError)]
        on.ack(1, known_as="k1")
        assert len(on.told) == 3
        await on.socket.close()

    run(live)


async def test_a_hundred_sends_arm_one_timer() -> None:
    on, loop = await line(), asyncio.get_running_loop()
    armed: list[float] = []
    call_at = loop.call_at

    def counting(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        armed.append(when)
        return call_at(when, *args, **options)

    loop.call_at = counting  # type: ignore[assignment, method-assign]
    for number in range(100):
        on.send(f"m{number}")
        on.ack(number + 1, known_as="k")
    del loop.call_at
    assert len(on.told) == 100
    assert len(armed) == 1
    await on.socket.close()


@pytest.mark.parametrize(("seconds", "in_time"), [(0.9, True), (1.1, False)])
def test_an_ack_whose_words_were_said_otherwise_is_waited_for_a_little_longer(seconds: float, in_time: bool) -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        on.send("m1")
        await loop.advance(5)
        on.report("m1")
        assert on.told == []
        await loop.advance(seconds)
        on.ack(1, known_as="k1")
        assert on.told == [("m1", "k1" if in_time else "m1")]
        await on.socket.close()

    run(live)


def test_the_grace_never_makes_the_wait_longer() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        on.send("m1")
        await loop.advance(14.5)
        on.report("m1")
        await loop.advance(0.4)
        assert on.told == []
        await loop.advance(0.2)
        assert on.told == [("m1", "m1")]
        await on.socket.close()

    run(live)


@pytest.mark.parametrize("reported", [False, True])
def test_an_ack_without_words_leaves_the_event_its_grace(reported: bool) -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        on.send("m1")
        on.ack(1)
        await loop.advance(0.9)
        assert on.told == []
        if reported:
            on.report("m1")
        else:
            await loop.advance(0.2)
        assert on.told == [("m1", "m1" if reported else AckTimeoutError)]
        await on.socket.close()

    run(live)


def test_the_end_of_the_socket_tells_all_that_are_left_and_leaves_no_timer() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        on.send("waits")
        on.send("reported")
        on.send("wordless")
        on.report("reported")
        on.ack(3)
        on.wire.listener.broken()
        assert on.told == [], "nothing is told in the midst of the end"
        await loop.settle()
        assert sorted(on.told, key=str) == [
            ("reported", "reported"),
            ("waits", ConnectionLostError),
            ("wordless", AckTimeoutError),
        ]
        on.send("after")
        assert len(on.told) == 3
        await loop.settle()
        assert on.told[3:] == [("after", ConnectionLostError)]
        gone = weakref.ref(on.sends)
        del on
        await loop.settle()
        gc.collect()
        assert gone() is None

    run(live)


def test_one_that_is_too_large_is_refused_after_the_call_and_holds_nobody_up() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        on.socket.max_payload = 10
        on.send("m1")
        assert on.told == []
        await loop.settle()
        assert on.told == [("m1", SendRefusedError)]
        await loop.complete(on.sends.idle(1))
        await on.socket.close()

    run(live)


def test_without_acks_each_waits_for_the_one_before() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        for number in range(ACKLESS_SENDS):
            on.send(f"m{number}")
            on.report(f"m{number}")
            await loop.advance(1.1)
        begun = len(on.wire.written)
        for name in ("a", "b", "c"):
            on.send(name)
        assert len(on.wire.written) == begun + 1
        on.report("a")
        assert len(on.wire.written) == begun + 2
        # An ack after all: those that wait need not any more.
        on.ack(ACKLESS_SENDS + 2, known_as="b")
        assert len(on.wire.written) == begun + 3
        on.ack(ACKLESS_SENDS + 3, known_as="c")
        assert on.told[ACKLESS_SENDS:] == [("a", "a"), ("b", "b"), ("c", "c")]
        await on.socket.close()

    run(live)


def test_the_same_message_sent_again_ends_the_wait_for_the_first() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        on.send("m1")
        on.send("m1")
        assert on.told == [("m1", AckTimeoutError)]
        on.ack(1, known_as="old")
        on.ack(2, known_as="new")
        assert on.told[1:] == [("m1", "new")]
        await on.socket.close()

    run(live)


def test_a_caller_that_fails_keeps_nothing_from_the_others() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        complaints: list[str] = []
        loop.set_exception_handler(lambda _loop, context: complaints.append(str(context["exception"])))

        def fail(_outcome: SendOutcome | None, _error: PlatformError | None) -> None:
            raise ValueError("a defect")

        on.sends.send("broken", CONVERSATION, b"{}", 5, fail)
        on.send("late", 5)
        on.send("later", 6)
        await loop.advance(5.1)
        assert (on.told, complaints) == ([("late", AckTimeoutError)], ["a defect"])
        await loop.advance(1)
        assert on.told[1:] == [("later", AckTimeoutError)]
        on.sends.send("broken", CONVERSATION, b"{}", 5, fail)
        on.ack(4, known_as="k")
        assert on.socket.connected
        await on.socket.close()

    run(live)


def test_idle_is_when_the_last_one_is_told_or_its_time_is_up() -> None:
    async def live(loop: VirtualLoop) -> None:
        on = await line()
        await on.sends.idle(0)
        on.send("m1")
        idle = asyncio.create_task(on.sends.idle(5))
        await loop.settle()
        assert not idle.done()
        on.ack(1, known_as="k1")
        await loop.settle()
        assert idle.done()
        on.send("m2")
        late = asyncio.create_task(on.sends.idle(5))
        await loop.advance(5.1)
        assert late.done()
        await on.socket.close()

    run(live)
