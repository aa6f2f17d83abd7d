"""``/api/v1/events`` over real sockets: states and lines as they come, resumed, bounded, and no one in the way."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from fastapi import FastAPI

from supervisor.admin import AdminServer
from supervisor.admin import events as admin_events
from supervisor.core.states import AgentState
from supervisor.telemetry import logs
from supervisor.telemetry.events import Events, Wanted
from supervisor.telemetry.telling import tell_alone
from tests.support.stack import SECRET, stack


@asynccontextmanager
async def stream(base: str, headers: dict[str, str] | None = None, **query: Any) -> AsyncIterator[aiohttp.StreamReader]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{base}/api/v1/events", params=query, headers=headers or {}) as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        yield answer.content


async def take(content: aiohttp.StreamReader) -> tuple[str, str, dict[str, Any]]:
    """The next event: its id, name and data."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(10):
        async for raw in content:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                return fields.get("id", ""), fields["event"], json.loads(fields["data"])
    raise AssertionError("the stream ended")


async def until_state(content: aiohttp.StreamReader, state: AgentState) -> list[tuple[str, str, dict[str, Any]]]:
    """Events up to an agent's state."""
    came = [await take(content)]
    while came[-1][2].get("state") != state:
        came.append(await take(content))
    return came


async def test_states_and_lines_come_as_they_happen_and_go_on_after_a_break(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        base = fleet.service.admin_url
        async with stream(base, kind="state") as content:
            identity = await fleet.add()
            came = await until_state(content, AgentState.ONLINE)
        assert [(event["was"], event["state"]) for _, _, event in came] == [
            ("stopped", "authenticating"),
            ("authenticating", "connecting"),
            ("connecting", "registering"),
            ("registering", "online"),
        ]
        assert {event["agent"] for _, _, event in came} == {identity}
        # Meanwhile the agent is paused: whoever comes back is told, and nothing twice.
        await fleet.service.control.pause(identity)
        await fleet.state(identity, AgentState.PAUSED)
        async with stream(base, {"Last-Event-ID": came[2][0]}, kind="state") as content:
            again = await until_state(content, AgentState.PAUSED)
        assert [event["state"] for _, _, event in again] == ["online", "draining", "paused"]
        # From a process that was before: all that there is.
        async with stream(base, {"Last-Event-ID": "123-456789"}, kind="state") as content:
            assert (await take(content))[0] == came[0][0]
        async with stream(base, last=2, follow="false", agent_id=identity) as content:
            lines = (await content.read()).decode()
        assert lines.startswith("retry: ")
        assert [json.loads(line[6:])["state"] for line in lines.splitlines() if line.startswith("data: ")] == [
            "draining",
            "paused",
        ]


async def test_lines_are_redacted_as_in_the_log(tmp_path: Path) -> None:
    logs.configure("INFO", "json", (tmp_path / "log").open("w", encoding="utf-8"))
    async with stack(tmp_path) as fleet, stream(fleet.service.admin_url, kind="log") as content:
        log = logs.get_logger("supervisor.test")
        log.warning("told", agent="a" * 24, secret=SECRET, text="token=eyJhbGciOi.eyJzdWIiOi.c2ln")
        log.debug("too_quiet", agent="a" * 24)
        log.info("last", agent="a" * 24)
        _, _, told = await take(content)
        assert (told["event"], told["level"], told["agent"], told["secret"]) == (
            "told",
            "warning",
            "a" * 24,
            "[redacted]",
        )
        assert "eyJ" not in told["text"]
        assert (await take(content))[2]["event"] == "last"


async def test_a_stop_ends_the_streams_and_waits_for_none(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet, stream(fleet.service.admin_url) as content:
        await content.readany()
        began = time.monotonic()
        await fleet.service.stop(grace_seconds=1)
        assert time.monotonic() - began < 2.5, "the admin server would have waited three seconds more"
        async with asyncio.timeout(5):
            await content.read()


@asynccontextmanager
async def served(events: Events, send_seconds: float) -> AsyncIterator[str]:
    """A server with nothing but a stream of events."""
    app = FastAPI()

    @app.get("/")
    async def endless() -> admin_events.EventStream:
        stream = admin_events.stream_events(tell_alone(events, Wanted(), last=0, follow=True, after=None))
        return admin_events.EventStream(stream, send_seconds=send_seconds)

    server = AdminServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        yield server.url
    finally:
        events.close()
        await server.stop()


async def test_a_client_that_does_not_read_is_dropped(log: Callable[[], list[dict[str, Any]]]) -> None:
    events = Events()
    async with served(events, send_seconds=0.2) as url:
        where = urlsplit(url)
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect((where.hostname, where.port))
        stuck.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        async with asyncio.timeout(20):
            while "event_stream_dropped" not in [line["event"] for line in log()]:
                events.publish("log", "a", {"text": "x" * 60_000})
                await asyncio.sleep(0.005)
        assert events.bytes_held <= 4 << 20
        stuck.close()


async def test_streams_that_are_asked_for_at_once_are_bounded_too(tmp_path: Path) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with stack(tmp_path) as fleet, aiohttp.ClientSession(connector=connector) as session:
        url = f"{fleet.service.admin_url}/api/v1/events"
        answers = await asyncio.gather(*(session.get(url) for _ in range(2 * admin_events.MAX_STREAMS)))
        assert (
            sorted(answer.status for answer in answers)
            == [200] * admin_events.MAX_STREAMS + [503] * admin_events.MAX_STREAMS
        )
        for answer in answers:
            answer.close()


async def test_streams_are_bounded_and_plain_http(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet, aiohttp.ClientSession() as session:
        url = f"{fleet.service.admin_url}/api/v1/events"
        answers = [await session.get(url) for _ in range(admin_events.MAX_STREAMS)]
        for answer in answers:
            await answer.content.readany()
        async with session.get(url) as one_more:
            assert (one_more.status, "end one" in (await one_more.json())["error"]) == (503, True)
        for answer in answers:
            answer.close()

        async def free() -> bool:
            async with session.get(url) as again:
                return again.status == 200

        async with asyncio.timeout(10):
            while not await free():
                await asyncio.sleep(0.01)
        async with session.get(url, headers={"Upgrade": "websocket", "Connection": "Upgrade"}) as upgrade:
            assert upgrade.status == 400
        async with session.get(url, params={"last": "many"}) as odd:
            assert odd.status == 422
