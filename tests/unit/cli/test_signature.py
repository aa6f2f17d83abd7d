"""A command signs each request to a replica that has proved itself, and asks nobody else a thing."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from supervisor.admin import AdminServer
from supervisor.cli.signature import Signature, UnprovenError
from supervisor.peers import Doorkeeper, Gate, Key
from supervisor.peers.gate import is_signed
from supervisor.peers.signing import WINDOW_SECONDS, Question
from supervisor.store import LockInfo

TOKEN, UUID = "t0ken-that-never-travels", "uuid"
AN_HOUR = 3600.0


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    server = AdminServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


async def signed(request: Request) -> PlainTextResponse:
    """Says whether a request was signed, and what came with it."""
    return PlainTextResponse(f"{is_signed(request.scope)} {(await request.body()).decode()}")


@asynccontextmanager
async def replica() -> AsyncIterator[str]:
    """Replica 7, whose clock is an hour ahead; its address."""
    at: list[str] = []
    door = Doorkeeper(7, lambda: time.monotonic() + AN_HOUR, lambda: at[0])
    app = Starlette(routes=[Route("/api/{rest:path}", signed, methods=["GET", "POST"])])
    async with serving(Gate(app, Key(TOKEN, UUID), door, {})) as url:
        at.append(url)
        yield url


async def headers(
    address: str, path: str = "/api/v1/status", *, token: str = TOKEN, number: int = 7, uuid: str = UUID
) -> dict[str, str]:
    """What a command says that asks a replica."""
    who = LockInfo(address=address, number=number, registry_uuid=uuid)
    signature = Signature(token, who, urllib.request.build_opener(), 5.0)
    return await asyncio.to_thread(signature.headers, "GET", path)


async def send(url: str, given: dict[str, str], *, method: str = "GET", body: bytes = b"") -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.request(method, url, headers=given, data=body) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/events?last=1&grep=a+b", "/api/v1/agents/a%20b"])
async def test_a_request_is_let_by_once_as_it_was_signed(path: str) -> None:
    async with replica() as url:
        given = await headers(url, path)
        assert TOKEN not in str(given)
        # What is changed is not what was signed.
        assert (await send(url + path, given, method="POST"))[0] == HTTPStatus.FORBIDDEN
        assert (await send(url + "/api/v1/replicas", given))[0] == HTTPStatus.FORBIDDEN
        given = await headers(url, path)
        assert (await send(url + path, given, body=b"x"))[0] == HTTPStatus.FORBIDDEN
        given = await headers(url, path)
        assert await send(url + path, given) == (HTTPStatus.OK, "True ")
        status, why = await send(url + path, given)
        assert (status, "This was asked before" in why) == (HTTPStatus.FORBIDDEN, True)


async def test_what_is_signed_with_a_body_is_let_by_with_it() -> None:
    async with replica() as url:
        milliseconds = int((time.monotonic() + AN_HOUR) * 1000)
        question = Question.new(7, url, milliseconds, "POST", "/api/x", b"body")
        given = {"Authorization": question.header(Key(TOKEN, UUID))}
        assert await send(f"{url}/api/x", given, method="POST", body=b"body") == (HTTPStatus.OK, "True body")
        # Without a mark all goes by, and says so.
        assert await send(f"{url}/api/x", {}, method="POST", body=b"body") == (HTTPStatus.OK, "False body")


@pytest.mark.parametrize("seconds", [-2 * WINDOW_SECONDS, 2 * WINDOW_SECONDS])
async def test_a_clock_that_is_off_is_told_from_a_key_that_is(seconds: float) -> None:
    async with replica() as url:
        milliseconds = int((time.monotonic() + AN_HOUR + seconds) * 1000)
        question = Question.new(7, url, milliseconds, "GET", "/api/x")
        for token, said in ((TOKEN, "on its way for too long by the clock here"), ("other", "no key of this registry")):
            status, why = await send(f"{url}/api/x", {"Authorization": question.header(Key(token, UUID))})
            assert (status, said in why) == (HTTPStatus.FORBIDDEN, True)


@pytest.mark.parametrize(("token", "uuid", "number"), [("other", UUID, 7), (TOKEN, "other", 7), (TOKEN, UUID, 8)])
async def test_who_is_not_meant_refuses(token: str, uuid: str, number: int) -> None:
    async with replica() as url:
        with pytest.raises(UnprovenError, match="has it another SUPERVISOR_ADMIN_TOKEN"):
            await headers(url, token=token, uuid=uuid, number=number)


def redirects(true: str) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await RedirectResponse(true + scope["path"], 303)(scope, receive, send)

    return app


def agrees(_: str) -> ASGIApp:
    return JSONResponse({"replica": 7, "milliseconds": 1, "questions": []})


def claims(_: str) -> ASGIApp:
    return PlainTextResponse(b"p" + b"0" * 64 + b'{"replica":7,"milliseconds":1,"questions":[]}\n')


def says_nothing(_: str) -> ASGIApp:
    return PlainTextResponse(b"")


@pytest.mark.parametrize("stranger", [redirects, agrees, claims, says_nothing], ids=lambda one: one.__name__)
async def test_who_does_not_prove_itself_is_asked_nothing(stranger: Callable[[str], ASGIApp]) -> None:
    async with replica() as true, serving(stranger(true)) as url:
        with pytest.raises(UnprovenError):
            await headers(url)


@pytest.mark.parametrize("address", ["", "file:///etc/passwd", "data:,x"])
async def test_what_is_no_address_is_not_opened(address: str) -> None:
    with pytest.raises(UnprovenError, match="it says no address at which it could be asked"):
        await headers(address)
