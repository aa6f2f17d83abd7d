"""R34: whoever else is connected to the admin port, health is answered within a second."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from supervisor.admin import AdminServer
from supervisor.admin.crowd import MOST, Crowd
from supervisor.admin.events import MAX_STREAMS
from tests.support.admin_api import ADMIN_TOKEN
from tests.support.reliability import Case
from tests.support.stack import stack

TOKEN = f"Authorization: Bearer {ADMIN_TOKEN}\r\n"
#: What each kind of visitor says at once, and then piece by piece.
KINDS: dict[str, tuple[str, str]] = {
    "idle": ("", ""),
    "half a request line": ("GET /li", ""),
    "slow heads": ("GET /livez HTTP/1.1\r\nHost: localhost\r\n", "X-More: x\r\n"),
    "half a body without a token": ("POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{", "x"),
    "half a body": (f"POST /api/v1/agents HTTP/1.1\r\nHost: localhost\r\n{TOKEN}Content-Length: 9000\r\n\r\n", "x"),
    "chunks without end": (
        f"POST /api/v1/agents HTTP/1.1\r\nHost: localhost\r\n{TOKEN}Transfer-Encoding: chunked\r\n\r\n",
        "1\r\nx\r\n",
    ),
    "answers that nobody reads": ("GET /static/console.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2, ""),
    "followers with a token": (f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{TOKEN}\r\n", ""),
}


class Visitors:
    """Many connections of one kind, which say what they have to and read nothing."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._address = (where.hostname, where.port)
        self.sockets: list[socket.socket] = []

    async def come(self, count: int, first: str) -> None:
        """Connect, and say the first words."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            one = socket.socket()
            one.setblocking(False)
            self.sockets.append(one)
            await loop.sock_connect(one, self._address)
            self._say(one, first)

    def more(self, piece: str) -> None:
        """All that are still there say a little more."""
        for one in self.sockets:
            self._say(one, piece)

    def _say(self, one: socket.socket, text: str) -> None:
        try:
            one.send(text.encode())
        except OSError:
            # Cut off: nothing is owed to it.
            return

    def ended(self) -> int:
        """How many were cut or closed by the server; reads what there is."""
        return sum(_is_over(one) for one in self.sockets)

    def cut(self) -> bool:
        """Whether the server is through with all of them, by the state that the system tells; reads nothing."""
        established = 1
        return all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != established for one in self.sockets)

    def leave(self) -> None:
        """Close all of them."""
        for one in self.sockets:
            one.close()
        self.sockets.clear()


def _is_over(one: socket.socket) -> bool:
    try:
        while one.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


async def probe(url: str, path: str = "/livez") -> float:
    """Ask for health on a connection of its own, as an orchestrator does; the seconds that it took."""
    where = urlsplit(url)
    began = time.monotonic()
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        with closing(writer):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
    return time.monotonic() - began


async def play(folder: Path, figures: Case, count: int) -> None:
    """Each kind of visitor in turn, and all of them together; health is asked for while they come and once they are."""
    async with stack(folder, admin_token=SecretStr(ADMIN_TOKEN)) as fleet:
        await fleet.add(1)
        await fleet.online(1)
        url = fleet.service.admin_url
        visitors = Visitors(url)
        for first, more in KINDS.values():
            coming = asyncio.create_task(visitors.come(count, first))
            figures.recovered(await probe(url))
            await coming
            for _ in range(2):
                visitors.more(more)
                figures.recovered(await probe(url))
            figures.recovered(await probe(url, "/readyz"))
            figures.faults += len(visitors.sockets)
            if first is not KINDS["half a request line"][0]:
                # Half of the kinds stay, so that kinds meet.
                visitors.leave()
        visitors.leave()
        figures.recovered(await probe(url))
    assert figures.slowest_recovery < 1.0


async def test_r34_health_is_answered_whoever_is_connected(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await play(tmp_path, case("R34"), MOST + 8)


@pytest.mark.soak
async def test_r34_health_is_answered_beside_2000_connections(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await play(tmp_path, case("R34 2000"), 2000)


async def test_r34_500_followers_with_one_token(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R34 followers")
    async with stack(tmp_path, admin_token=SecretStr(ADMIN_TOKEN)) as fleet:
        url = fleet.service.admin_url
        visitors = Visitors(url)
        for _ in range(10):
            await visitors.come(50, KINDS["followers with a token"][0])
            figures.recovered(await probe(url))
        figures.faults = 500
        answers = [b""] * 500
        async with asyncio.timeout(20):
            while not all(answers):
                answers = [said or _heard(one) for said, one in zip(answers, visitors.sockets, strict=True)]
                await asyncio.sleep(0.02)
        following = [one for said, one in zip(answers, visitors.sockets, strict=True) if b" 200 " in said[:20]]
        refused = [said for said in answers if b" 503 " in said[:20]]
        assert (len(following), len(refused)) == (MAX_STREAMS, 500 - MAX_STREAMS)
        assert all(b"retry-after: " in said for said in refused)
        assert not any(_is_over(one) for one in following), "those that follow are cut for nobody"
        visitors.leave()
    assert figures.slowest_recovery < 1.0


def _heard(one: socket.socket) -> bytes:
    try:
        return one.recv(1 << 16)
    except BlockingIOError:
        return b""


@asynccontextmanager
async def small(crowd: Crowd) -> AsyncIterator[str]:
    """A server whose every answer is more than a connection holds unread."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000000")]})
        await send({"type": "http.response.body", "body": b"x" * 20_000_000})

    server = AdminServer(app, "127.0.0.1", 0, crowd=crowd)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("first", "more"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("GET / HTTP/1.1\r\n", "X: x\r\n", id="a head that grows"),
        pytest.param("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", id="an answer that is not read"),
    ],
)
async def test_r34_what_takes_too_long_is_cut(first: str, more: str, case: Callable[[str], Case]) -> None:
    figures = case("R34 slow")
    async with small(Crowd(head_seconds=0.2, read_seconds=0.2)) as url:
        visitors = Visitors(url)
        began = time.monotonic()
        await visitors.come(5, first)
        async with asyncio.timeout(10):
            while not visitors.cut():
                visitors.more(more)
                await asyncio.sleep(0.05)
        figures.faults, figures.slowest_recovery = 5, time.monotonic() - began
        visitors.leave()


async def test_r34_who_connects_finds_room_and_the_oldest_without_a_request_goes() -> None:
    crowd = Crowd(most=8)
    async with small(crowd) as url:
        busy, idle, late = Visitors(url), Visitors(url), Visitors(url)
        await busy.come(4, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle.come(4, "")
        async with asyncio.timeout(10):
            while len(crowd) < 8:
                await asyncio.sleep(0.01)
            await late.come(3, "")
            while idle.ended() < 3:
                await asyncio.sleep(0.01)
        assert [_is_over(one) for one in idle.sockets] == [True, True, True, False]
        assert (late.ended(), len(crowd)) == (0, 8)
        for visitors in (busy, idle, late):
            visitors.leave()
