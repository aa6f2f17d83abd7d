"""A socket above its wire: silence, calls and ends, whatever carries the frames."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from supervisor.core.clock import SystemClock
from supervisor.core.errors import AckTimeoutError, ConnectError, ConnectionLostError, Verdict
from supervisor.platform.transport import Socket
from supervisor.platform.transport.wires import AnsweredError, Dial, Listener
from tests.support.paper_wire import OPEN, PaperWire
from tests.support.virtual import VirtualLoop, run

AGENT, TOKEN = "aaaaaaaaaaaaaaaaaaaa0001", "secret-token"


class Line:
    """A socket on a wire of paper."""

    def __init__(self, **wire: Any) -> None:
        self.events: list[tuple[str, object]] = []

        def make(dial: Dial, listener: Listener) -> PaperWire:
            made = PaperWire(None, dial, listener)
            for name, value in wire.items():
                setattr(made, name, value)
            self.wire = made
            return made

        dial = Dial("ws://host:1", "/socket.io", {}, {}, None, "/ws", {"token": TOKEN})
        self.socket = Socket(
            make, dial, agent_id=AGENT, on_event=lambda *event: self.events.append(event), clock=SystemClock()
        )

    async def join(self, timeout: float = 5.0) -> ConnectError | None:
        return await self.socket.join(TOKEN, timeout)


async def joined() -> Line:
    made = Line()
    assert await made.join() is None
    return made


async def test_it_is_open_once_the_namespace_is_acked() -> None:
    line = await joined()
    assert (line.socket.connected, line.socket.sid, line.socket.max_payload) == (True, "abc", 1_000_000)
    assert line.wire.written == ['40/ws,{"token":"secret-token"}']
    assert TOKEN not in repr(line.socket)


@pytest.mark.parametrize("late", [0.0, 44.9])
def test_a_server_that_pings_in_time_is_not_silent(late: float) -> None:
    async def live(loop: VirtualLoop) -> None:
        line = await joined()
        for _ in range(10):
            await loop.advance(late)
            line.wire.bring("2")
        await loop.advance(44.9)
        assert line.socket.connected
        await line.socket.close()

    run(live)


def test_a_server_that_sends_no_ping_is_silent_whatever_else_it_sends() -> None:
    async def live(loop: VirtualLoop) -> None:
        line = await joined()
        call = asyncio.create_task(line.socket.call("message:send", {}, 600))
        for _ in range(9):
            await loop.advance(5.1)
            line.wire.bring('42/ws,["message:new",{}]', "6")
        assert line.socket.closed.result() == "ping timeout"
        assert line.wire.hung_up
        with pytest.raises(ConnectionLostError, match="ping timeout"):
            await call

    run(live)


def test_a_server_that_is_silent_before_the_ack_is_given_up() -> None:
    async def live(loop: VirtualLoop) -> None:
        line = Line(frames=(OPEN,))
        joining = asyncio.create_task(line.join(timeout=600))
        await loop.advance(46)
        failure = joining.result()
        assert failure is not None
        assert failure.reason == "host ended the connection before the namespace was joined: ping timeout"

    run(live)


def test_an_end_leaves_no_timer() -> None:
    async def live(loop: VirtualLoop) -> None:
        line = await joined()
        line.socket.abort()
        gone = weakref.ref(line.socket)
        del line
        await loop.settle()
        gc.collect()
        assert gone() is None

    run(live)


async def test_a_cancelled_call_leaves_nothing_behind() -> None:
    line, loop = await joined(), asyncio.get_running_loop()
    made: weakref.WeakSet[asyncio.Future[Any]] = weakref.WeakSet()
    create = loop.create_future

    def remembering() -> asyncio.Future[Any]:
        future = create()
        made.add(future)
        return future

    loop.create_future = remembering  # type: ignore[method-assign]
    calls = [asyncio.create_task(line.socket.call("any", {}, 60)) for _ in range(20)]
    await asyncio.sleep(0)
    assert len(made) == 20
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    del loop.create_future
    calls.clear()
    del call
    # The outcomes are on their way for one more turn of the loop.
    await asyncio.sleep(0)
    gc.collect()
    assert len(made) == 0


async def test_an_ack_that_never_comes_leaves_nothing_to_answer() -> None:
    line = await joined()
    with pytest.raises(AckTimeoutError):
        await line.socket.call("any", {}, 0.01)
    line.wire.bring('43/ws,1["late"]')
    assert line.events == []


ENDS = {
    "server disconnect": lambda wire: wire.bring("41/ws,"),
    "refused": lambda wire: wire.bring('44/ws,{"message":"late"}'),
    "transport close": lambda wire: wire.listener.closed_by_peer(1000),
    "server restart": lambda wire: wire.listener.closed_by_peer(1012),
    "payload too large": lambda wire: wire.listener.closed_by_peer(1009),
    "transport error": lambda wire: wire.listener.broken(),
    "frame too large": lambda wire: wire.listener.broken(1009),
    "protocol error": lambda wire: wire.listener.broken(1002),
}


@pytest.mark.parametrize("reason", ENDS)
async def test_every_end_has_one_reason_and_hangs_up(reason: str) -> None:
    line = await joined()
    ENDS[reason](line.wire)
    line.wire.listener.broken()
    line.wire.listener.closed_by_peer(None)
    assert line.socket.closed.result() == reason
    assert line.wire.hung_up
    assert not line.socket.connected
    await line.socket.close()
    assert line.socket.closed.result() == reason
    assert line.wire.written == ['40/ws,{"token":"secret-token"}'], "goodbye is said by whoever goes"


async def test_closing_says_goodbye_in_the_namespace_and_in_the_engine() -> None:
    line = await joined()
    await line.socket.close()
    assert line.wire.written[1:] == ["41/ws,", "1"]
    assert (line.wire.hung_up, line.socket.closed.result()) == (True, "closed by us")


@pytest.mark.parametrize(
    ("wire", "reason", "verdict"),
    [
        (
            {"frames": ()},
            "no word of a Socket.IO server (Engine.IO's OPEN packet) from host within 0.01 s",
            Verdict.RETRY,
        ),
        ({"frames": (OPEN,)}, "no ack of CONNECT to the namespace from host within 0.01 s", Verdict.RETRY),
        (
            {"frames": (OPEN, "40/ws,", "41/ws,")},
            "host disconnected the agent right after it connected (a bad token, or an ill platform)",
            Verdict.REAUTHENTICATE,
        ),
        (
            {"frames": (OPEN, '44/ws,{"message":"bad secret-token"}')},
            "the platform refused the connection: bad …",
            Verdict.RETRY,
        ),
        (
            {"frames": ("x",)},
            "host is not a Socket.IO server there (it sent something else instead of Engine.IO's OPEN packet); "
            "are WS_URL and WS_PATH right?",
            Verdict.RETRY,
        ),
        ({"trouble": AnsweredError(401, {})}, "host answered 401 to the upgrade", Verdict.REAUTHENTICATE),
    ],
)
async def test_an_attempt_that_comes_to_nothing_says_why(wire: dict[str, Any], reason: str, verdict: Verdict) -> None:
    line = Line(**wire)
    failure = await line.join(timeout=0.01)
    assert failure is not None
    assert (failure.reason, failure.verdict) == (reason, verdict)
    assert not line.socket.connected


async def test_signals_are_dropped_while_too_much_waits_for_the_network() -> None:
    line = await joined()
    line.wire.buffered_bytes = 256 * 1024 + 1
    line.socket.emit("message:typing", {})
    assert (line.socket.dropped_emits, line.wire.written[1:]) == (1, [])
    line.wire.buffered_bytes = 0
    line.socket.emit("message:typing", {})
    assert line.wire.written[1:] == ['42/ws,["message:typing",{}]']
