"""Which wire carries the frames, with picows installed and without it, with a proxy and without one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from supervisor.core.clock import SystemClock
from supervisor.net import Session
from supervisor.platform.transport import Socket, choose_wire
from supervisor.platform.transport.choice import WireName
from supervisor.platform.transport.wires import Dial
from supervisor.platform.transport.wires.picows import PicowsWire
from supervisor.platform.transport.wires.socketio import SocketIOWire

PROXY = "http://user:password@127.0.0.1:3128"
#: Says which wire it is, in a Python that finds no picows.
WITHOUT_PICOWS = """
import sys
sys.modules["picows"] = None
from supervisor.core.errors import ConfigurationError
from supervisor.platform.transport import choose_wire
try:
    print(choose_wire(sys.argv[1]).__name__)
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("name", "proxy", "expected"),
    [
        ("auto", None, PicowsWire),
        ("picows", None, PicowsWire),
        ("socketio", None, SocketIOWire),
        ("auto", PROXY, SocketIOWire),
        ("picows", PROXY, SocketIOWire),
    ],
)
async def test_the_fast_wire_goes_straight_to_the_platform_only(
    name: WireName, proxy: str | None, expected: type
) -> None:
    dial = Dial("ws://127.0.0.1:1", "/socket.io", {}, {}, proxy, "/ws", {})
    session = await Session.open()
    made = []

    def make(dial: Dial, listener: Socket) -> object:
        made.append(choose_wire(name)(session, dial, listener))
        return made[-1]

    Socket(make, dial, agent_id="a", on_event=lambda *_: None, clock=SystemClock())  # type: ignore[arg-type]
    assert [type(wire) for wire in made] == [expected]
    await session.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("auto", "reference_wire"),
        ("socketio", "reference_wire"),
        ("picows", "SUPERVISOR_WIRE=picows needs the extra fast: pip install 'aiwm-supervisor[fast]'"),
    ],
)
def test_without_picows_the_reference_wire_is_taken_unless_picows_is_asked_for(name: str, said: str) -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_PICOWS, name], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(said)
