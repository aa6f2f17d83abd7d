"""One replica asks another over real sockets: who proves itself is asked, and nobody else learns a thing."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.admin import AdminServer
from supervisor.core.clock import SystemClock
from supervisor.core.errors import AgentNotFoundError, SupervisorError
from supervisor.core.replicas import Replica
from supervisor.net import Session
from supervisor.peers import Doorkeeper, Gate, Key, NotThereError, Peers, PeerSilentError
from supervisor.peers.client import ANSWER_SECONDS, AT_ONCE, QUIET_SECONDS
from supervisor.peers.gate import QUESTION_BYTES
from supervisor.peers.signing import Question
from tests.support.clock import ManualClock

TOKEN = "t0ken-that-never-travels"
KEY = Key(TOKEN, "uuid")


class Answers:
    """What a replica of these tests can be asked, and what it was."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.open = 0

    async def echo(self, arguments: bytes) -> AsyncGenerator[bytes]:
        self.asked.append(arguments)
        yield arguments

    async def count(self, arguments: bytes) -> AsyncGenerator[bytes]:
        for number in range(msgspec.json.decode(arguments, type=int)):
            yield str(number).encode()
            await asyncio.sleep(0)

    async def fails(self, arguments: bytes) -> AsyncGenerator[bytes]:
        yield b"1"
        match arguments:
            case b'"agent"':
                raise AgentNotFoundError("a1")
            case b'"busy"':
                raise SupervisorError("not now")
        raise ZeroDivisionError

    async def hangs(self, arguments: bytes) -> AsyncGenerator[bytes]:
        self.open += 1
        try:
            yield b"1"
            await asyncio.Event().wait()
        finally:
            self.open -= 1


class Recorder:
    """Overhears all that comes to an app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def overhear() -> Message:
            message = await receive()
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.requests.append((scope["path"], headers, message.get("body", b"")))
            return message

        await self._app(scope, overhear, send)


@dataclass
class Other:
    """A replica that answers, and the way to it."""

    replica: Replica
    answers: Answers
    peers: Peers
    session: Session
    #: What came to it: paths, headers and bodies.
    heard: list[tuple[str, dict[str, str], bytes]]

    async def ask(self, name: str, arguments: object = None, **given: Any) -> list[Any]:
        return [msgspec.json.decode(piece) for piece in await self.peers.ask(self.replica, name, arguments, **given)]


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    server = AdminServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


@asynccontextmanager
async def other(
    *, me: int = 7, key: Key = KEY, asks_with: Key = KEY, clock: ManualClock | None = None
) -> AsyncIterator[Other]:
    """A replica and one that asks it, whose clocks are an hour apart."""
    app = Starlette(routes=[Route("/livez", lambda _: PlainTextResponse("alive"))])
    answers = Answers()
    given = {"echo": answers.echo, "count": answers.count, "fails": answers.fails, "hangs": answers.hangs}
    at: list[str] = []
    door = Doorkeeper(me, lambda: time.monotonic() + 3600, lambda: at[0])
    heard = Recorder(Gate(app, key, door, given))
    session = await Session.open()
    try:
        async with serving(heard) as url:
            at.append(url)
            peers = Peers(asks_with, session.http, clock or SystemClock())
            yield Other(Replica(me, url, host="there", pid=1), answers, peers, session, heard.requests)
    finally:
        await session.close()


async def test_a_replica_answers_who_has_the_key() -> None:
    async with other() as one:
        assert one.peers.heard_at(7) is None
        assert await one.ask("echo", {"a": [1, "é\n"]}) == [{"a": [1, "é\n"]}]
        assert await one.ask("count", 1000) == list(range(1000))
        heard = one.peers.heard_at(7)
        assert heard is not None
        assert abs(time.time() - heard) < 10
        one.peers.forget({8})
        assert one.peers.heard_at(7) is None


async def test_what_goes_wrong_there_is_told_here() -> None:
    async with other() as one:
        with pytest.raises(NotThereError):
            await one.ask("fails", "agent")
        with pytest.raises(SupervisorError, match="not now"):
            await one.ask("fails", "busy")
        with pytest.raises(SupervisorError, match="Replica 7 met an internal error; see its log"):
            await one.ask("fails", "otherwise")
        with pytest.raises(SupervisorError, match="another version"):
            await one.ask("unheard-of")
        # None of that is silence.
        assert await one.ask("echo", 1) == [1]


async def test_the_other_routes_go_by_untouched() -> None:
    async with other() as one, one.session.http.get(f"{one.replica.address}/livez") as answer:
        assert (answer.status, await answer.text()) == (200, "alive")


async def test_without_the_key_nothing_is_answered_and_nothing_asked() -> None:
    async with other(asks_with=Key("another", "uuid")) as one:
        with pytest.raises(PeerSilentError, match="it refuses the question; has it another SUPERVISOR_ADMIN_TOKEN"):
            await one.ask("echo", 1)
        assert one.answers.asked == []
        async with one.session.http.post(
            f"{one.replica.address}/replicas/echo", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as answer:
            assert answer.status == 403


async def test_another_incarnation_at_the_address_is_asked_nothing() -> None:
    async with other(me=8) as one:
        with pytest.raises(PeerSilentError):
            await one.peers.ask(replace(one.replica, id=7), "echo", 1)
        assert one.answers.asked == []


@dataclass
class Listener:
    """Something at an address that is no replica: what it was sent, and what it answers."""

    answer: Callable[[Scope, Receive, Send], Awaitable[None]]
    heard: list[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.heard.append(f"{scope['path']} {scope['headers']} {body!r}")
        await self.answer(scope, receive, send)


def redirect(target: str) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        where = [(b"location", (target + scope["path"]).encode())]
        await send({"type": "http.response.start", "status": 307, "headers": where})
        await send({"type": "http.response.body", "body": b""})

    return answer


async def nonsense(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(b"p" + b"0" * 64 + b'{"replica":7,"milliseconds":1,"questions":[]}\n')(scope, receive, send)


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("busy", 503)(scope, receive, send)


async def silence(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def floods(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    with contextlib.suppress(OSError):
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})


@pytest.mark.parametrize("answer", [nonsense, silence, floods], ids=lambda one: one.__name__)
async def test_who_cannot_prove_itself_learns_nothing_and_holds_nobody_up(
    answer: Callable[[Scope, Receive, Send], Awaitable[None]],
) -> None:
    listener = Listener(answer, [])
    async with other() as one, serving(listener) as url:
        impostor = replace(one.replica, address=url)
        began = time.monotonic()
        with pytest.raises(PeerSilentError, match=r"Replica 7 \(pid 1 on there\) does not answer at http"):
            await one.peers.ask(impostor, "echo", "what nobody else is to know")
        assert time.monotonic() - began < ANSWER_SECONDS + 3
        assert len(listener.heard) == 1
        assert listener.heard[0].startswith("/replicas/hello ")
        # Neither what was to be asked nor the token is in what it heard; and it is left alone for a while.
        assert "nobody else" not in listener.heard[0]
        assert TOKEN not in listener.heard[0]
        with pytest.raises(PeerSilentError):
            await one.peers.ask(impostor, "echo", 1)
        assert len(listener.heard) == 1


async def test_a_redirect_is_not_followed() -> None:
    async with other() as one:
        listener = Listener(redirect(one.replica.address), [])
        async with serving(listener) as url:
            with pytest.raises(PeerSilentError):
                await one.peers.ask(replace(one.replica, address=url), "echo", 1)
            assert (len(listener.heard), one.answers.asked) == (1, [])


async def test_a_question_that_was_overheard_is_not_answered_again() -> None:
    async with other() as one:
        await one.ask("echo", 1)
        path, headers, body = next(found for found in one.heard if found[0] == "/replicas/echo")
        for target, data in ((path, body), ("/replicas/count", body), (path, b"2"), (path + "?x", body)):
            async with one.session.http.post(one.replica.address + target, data=data, headers=headers) as answer:
                assert answer.status == 403
        assert one.answers.asked == [b"1"]


async def test_whoever_is_at_another_address_gets_no_answer_by_passing_questions_on() -> None:
    async with other() as one:
        passed: list[str] = []

        async def relay(scope: Scope, receive: Receive, send: Send) -> None:
            passed.append(scope["path"])
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            headers["host"] = one.replica.address.removeprefix("http://")
            async with one.session.http.post(one.replica.address + scope["path"], headers=headers) as answer:
                await PlainTextResponse(await answer.read(), answer.status)(scope, receive, send)

        async with serving(relay) as url:
            with pytest.raises(PeerSilentError, match="it refuses the question"):
                await one.peers.ask(replace(one.replica, address=url), "echo", 1)
        assert set(passed) == {"/replicas/hello"}
        assert one.answers.asked == []


async def test_one_that_was_silent_is_left_alone_for_a_moment_and_then_asked_again() -> None:
    clock = ManualClock()
    listener = Listener(refuses, [])
    async with other(clock=clock) as one, serving(listener) as url:
        silent = replace(one.replica, id=9, address=url)
        for _ in range(2):
            with pytest.raises(PeerSilentError, match="it answers 503"):
                await one.peers.ask(silent, "echo")
        assert len(listener.heard) == 1
        await clock.advance(QUIET_SECONDS)
        with pytest.raises(PeerSilentError):
            await one.peers.ask(silent, "echo")
        assert len(listener.heard) == 2
        # At a new address it is asked at once.
        with pytest.raises(PeerSilentError, match=r"does not answer at http://127\.0\.0\.1:9: "):
            await one.peers.ask(replace(silent, address="http://127.0.0.1:9"), "echo")
        with pytest.raises(PeerSilentError, match="says no address"):
            await one.peers.ask(replace(silent, address=""), "echo")


async def test_a_question_that_takes_too_long_leaves_nothing_behind() -> None:
    async with other() as one:
        await one.ask("echo")
        with pytest.raises(PeerSilentError, match="it took too long"):
            await one.ask("hangs", seconds=0.2)
        async with asyncio.timeout(10):
            while one.answers.open:
                await asyncio.sleep(0.01)


async def test_so_many_questions_at_once_and_no_more() -> None:
    async with other() as one:
        await one.ask("echo")
        asking = [asyncio.create_task(one.ask("hangs", seconds=1.0)) for _ in range(3 * AT_ONCE)]
        async with asyncio.timeout(10):
            while one.answers.open < AT_ONCE:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert one.answers.open == AT_ONCE
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(error, PeerSilentError) for error in found)


async def test_an_answer_without_an_end_is_followed_and_let_go() -> None:
    async with other() as one:
        following = one.peers.follow(one.replica, "hangs")
        assert await anext(following) == b"1"
        assert one.answers.open == 1
        await following.aclose()
        async with asyncio.timeout(10):
            while one.answers.open:
                await asyncio.sleep(0.01)
        assert [piece async for piece in one.peers.follow(one.replica, "count", 3)] == [b"0", b"1", b"2"]


async def test_one_whose_clock_was_held_up_is_greeted_anew() -> None:
    clock = ManualClock()
    async with other(clock=clock) as one:
        assert await one.ask("echo", 1) == [1]
        await clock.advance(60)
        assert await one.ask("echo", 2) == [2]


async def test_what_is_too_large_is_neither_asked_nor_taken() -> None:
    async with other() as one:
        with pytest.raises(SupervisorError, match="more than can be asked of replica 7 at once"):
            await one.ask("echo", "x" * QUESTION_BYTES)
        body = b"x" * (QUESTION_BYTES + 1)
        milliseconds = int((time.monotonic() + 3600) * 1000)
        header = Question.new(7, one.replica.address, milliseconds, "POST", "/replicas/echo", body).header(KEY)
        # Of a stranger nothing is read.
        for authorization, status in (("Bearer x", 403), (header, 413)):
            async with one.session.http.post(
                f"{one.replica.address}/replicas/echo",
                data=io.BytesIO(body),
                headers={"Authorization": authorization},
            ) as answer:
                assert answer.status == status
        assert one.answers.asked == []


def test_no_key_is_in_what_the_client_shows() -> None:
    async def shown() -> str:
        async with aiohttp.ClientSession() as http:
            return repr(vars(Peers(KEY, http, SystemClock())))

    assert TOKEN not in asyncio.run(shown())
