"""What a service manager hears of us, over real sockets: a supervisor's whole life, and a manager that fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.sandbox import Sandbox
from supervisor.service.systemd import ServiceManager
from tests.support.processes import supervisor_process

#: A handler that is busy until it is let go.
BUSY = """
import asyncio

async def on_message(message, ctx):
    mark("started")
    while not marked("go"):
        await asyncio.sleep(0.01)
    return "done"
"""


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def hears(self, wanted: str) -> bool:
        """Whether a line that begins so has come by now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard += self._socket.recv(65_536).decode().split("\n")
        return any(line.startswith(wanted) for line in self.heard)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@aiwm-supervisor-{os.getpid()}"
    made = Manager(address)
    yield made
    made.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what


@pytest.mark.parametrize("manager", ["path"], indirect=True)
async def test_a_supervisor_is_ready_pings_tells_of_its_agents_and_says_that_it_stops(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    handlers = {"busy": BUSY}
    async with Sandbox(port=0) as sandbox, supervisor_process(tmp_path, sandbox, handlers, drain_seconds=50) as running:
        agent = await running.add(1, "busy")
        await running.start()
        assert not manager.hears("READY=1"), "nothing is ready before it has started"
        await running.until(lambda: manager.hears("STATUS=1 of 1 agents online"), "the status")
        assert manager.heard[0] == "READY=1"
        user = await sandbox.user()
        await user.say(await user.open(agent), "take your time")
        await running.until(lambda: running.marks("started"), "the handler to run")
        assert not manager.hears("STOPPING=1")
        running.signal(signal.SIGTERM)
        await running.until(lambda: manager.hears("STOPPING=1"), "the drain")
        assert "EXTEND_TIMEOUT_USEC=60000000" in manager.heard, "the drain and what closing may take"
        pings = manager.heard.count("WATCHDOG=1")
        await running.until(
            lambda: manager.hears("") and manager.heard.count("WATCHDOG=1") > pings, "pings in the drain"
        )
        assert manager.hears("STATUS=1 of 1 agents online; draining") or manager.hears("STATUS=0 of 1 agents online")
        running.mark("go")
        assert await running.end() == 0


async def test_a_loop_that_stands_still_stops_pinging(manager: Manager) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "90000"})
    task = asyncio.create_task(told.keep_posted(lambda: "well"))
    try:
        await until(lambda: manager.hears("WATCHDOG=1"), "the first ping")
        manager.heard.clear()
        _stand_still(0.3)
        assert not manager.hears("WATCHDOG=1"), "no thread pings in the loop's place"
        await until(lambda: manager.hears("WATCHDOG=1"), "the loop goes on")
    finally:
        task.cancel()


def _stand_still(seconds: float) -> None:
    """Hold the event loop up, as a handler does that blocks."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as nobody:
        nobody.bind(("127.0.0.1", 0))
        nobody.settimeout(seconds)
        with pytest.raises(TimeoutError):
            nobody.recv(1)


async def test_the_status_is_sent_when_it_changes_in_one_line(manager: Manager) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000"})
    says = ["first\nSTOPPING=1 " + "x" * 1000]
    task = asyncio.create_task(told.keep_posted(lambda: says[0]))
    try:
        await until(lambda: manager.hears("") and manager.heard.count("WATCHDOG=1") >= 3, "three pings")
        [status] = [line for line in manager.heard if line.startswith("STATUS=")]
        assert status.startswith("STATUS=first STOPPING=1 x")
        assert len(status) < 400
        assert not manager.hears("STOPPING=1")
        says[0] = "second"
        await until(lambda: manager.hears("STATUS=second"), "the change")
    finally:
        task.cancel()


async def test_a_status_that_cannot_be_made_ends_no_pings(
    manager: Manager, log: Callable[[], list[dict[str, Any]]]
) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000"})

    def status() -> str:
        raise RuntimeError("no status today")

    task = asyncio.create_task(told.keep_posted(status))
    try:
        await until(lambda: manager.hears("") and manager.heard.count("WATCHDOG=1") >= 3, "three pings")
    finally:
        task.cancel()
    assert manager.hears("STATUS=running; its state cannot be read")
    assert [line["event"] for line in log()].count("status_line_failed") == 1


async def test_a_manager_that_goes_away_is_told_of_once_and_does_no_harm(
    tmp_path: Path, log: Callable[[], list[dict[str, Any]]]
) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    told.ready()
    told.stopping(1)
    lines = [line for line in log() if line["event"] == "service_manager_not_told"]
    assert [line["reason"] for line in lines] == ["No such file or directory"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
async def test_where_nobody_can_listen_nothing_is_sent(environ: dict[str, str]) -> None:
    told = ServiceManager(environ)
    assert not told.listens
    told.ready()
    await asyncio.wait_for(told.keep_posted(lambda: pytest.fail("nobody asked")), 1)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_where_the_manager_says_so(environ: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager(environ).watchdog_seconds == seconds
