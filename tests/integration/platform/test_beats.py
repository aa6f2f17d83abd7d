"""Heartbeats and uploads over HTTP: paths, refusals, and that no token is told."""

from __future__ import annotations

import pytest
from aiohttp import web

from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.beats import HeartbeatClient
from supervisor.platform.files import PlatformFiles
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.hosts.api_gate import ILL_FAILURES, NotAskedError
from tests.support.token_server import (
    AGENT,
    SECRET,
    TokenServer,
    answering,
    answering_json,
    assert_secret_is_nowhere,
    client,
    token_server,
)

UPLOADED = {"success": True, "fileUrl": "https://files.example/1", "filename": "other", "mimeType": "x/y", "size": 7}


def access(server: TokenServer) -> Access:
    return Access(f"{server.url}/base", SECRET)


async def test_a_heartbeat_goes_to_the_old_path_and_to_the_new_one_where_that_is_gone() -> None:
    async with token_server() as server, client() as made:
        beats = HeartbeatClient(made.agent_api)
        server.answer = answering_json(201, {"success": True, "token": "fresh"})
        assert (await beats.beat(access(server), AGENT, {"status": "idle"})).token == "fresh"
        assert server.requests == [(f"/base/agents/{AGENT}/heartbeat", {"status": "idle"})]
        assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"

        def gone(request: web.Request) -> web.StreamResponse:
            old = AGENT in request.path
            answer = {"message": "Cannot POST"} if old else {"success": True}
            return web.json_response(answer, status=404 if old else 201)

        server.answer = gone
        await beats.beat(access(server), AGENT, {"status": "idle"})
        assert [path for path, _ in server.requests[1:]] == [
            f"/base/agents/{AGENT}/heartbeat",
            "/base/agents/heartbeat",
        ]


@pytest.mark.parametrize(
    ("status", "message", "verdict", "asked"),
    [
        (400, "Agent is suspended. Heartbeat rejected.", Verdict.REJECT, 1),
        (404, f"Agent with ID {AGENT} not found", Verdict.REJECT, 1),
        (404, "Cannot POST /agents/heartbeat", Verdict.RETRY, 2),
        (400, "Validation failed", Verdict.RETRY, 1),
        (401, "Unauthorized", Verdict.REAUTHENTICATE, 1),
        (402, "Licence expired", Verdict.RETRY, 1),
        (503, "", Verdict.RETRY, 1),
        (201, "no success", Verdict.RETRY, 1),
    ],
)
async def test_a_refused_heartbeat_says_what_it_asks_for(
    status: int, message: str, verdict: Verdict, asked: int
) -> None:
    async with token_server() as server, client() as made:
        server.answer = answering_json(status, {"message": message})
        with pytest.raises(PlatformError) as failure:
            await HeartbeatClient(made.agent_api).beat(access(server), AGENT, {"status": "idle"})
        assert (failure.value.verdict, len(server.requests)) == (verdict, asked)
        assert_secret_is_nowhere(failure.value)


async def test_heartbeats_and_uploads_pass_the_gate_of_their_host() -> None:
    async with token_server() as server, client() as made:
        beats, files = HeartbeatClient(made.agent_api), PlatformFiles(made.agent_api)
        server.answer = answering(503, "")
        for _ in range(ILL_FAILURES):
            with pytest.raises(PlatformError):
                await beats.beat(access(server), AGENT, {"status": "idle"})
        asked = len(server.requests)
        assert beats.gate(access(server)).ill
        # The first question after that may be the one that is tried.
        refusals: list[PlatformError] = []
        for _ in range(3):
            with pytest.raises(PlatformError) as failure:
                await beats.beat(access(server), AGENT, {"status": "idle"})
            refusals.append(failure.value)
        assert isinstance(refusals[-1], NotAskedError), "a heartbeat is nothing that somebody waits for"
        assert len(server.requests) <= asked + 2
        server.answer = answering_json(201, UPLOADED)
        assert await files.upload(access(server), b"a", "a", "text/plain"), "a handler waits for it"
        assert not beats.gate(access(server)).ill


async def test_a_file_is_uploaded_as_the_field_file() -> None:
    async with token_server() as server, client() as made:
        given: list[bytes] = []

        async def take(request: web.Request) -> web.StreamResponse:
            given.append(await request.read())
            return web.json_response(UPLOADED, status=201)

        server.answer = take
        file = await PlatformFiles(made.agent_api).upload(access(server), b"a,b", "täble.csv", "text/csv")
        [body] = given
        assert all(part in body for part in (b'name="file"', b"Content-Type: text/csv", b"\r\n\r\na,b\r\n"))
        assert (file, file.name, file.media_type, file.size) == (UPLOADED["fileUrl"], "täble.csv", "text/csv", 3)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (404, {}, Verdict.REJECT),
        (401, {}, Verdict.REAUTHENTICATE),
        (413, {}, Verdict.REJECT),
        (402, {}, Verdict.RETRY),
        (500, {}, Verdict.RETRY),
        (201, {"success": True}, Verdict.RETRY),
        (201, {"fileUrl": "javascript:alert(1)"}, Verdict.RETRY),
    ],
)
async def test_an_upload_that_failed_says_what_it_asks_for(status: int, body: object, verdict: Verdict) -> None:
    async with token_server() as server, client() as made:
        server.answer = answering_json(status, body)
        with pytest.raises(PlatformError) as failure:
            await PlatformFiles(made.agent_api).upload(access(server), b"a", "a", "text/plain")
        assert failure.value.verdict is verdict
        assert_secret_is_nowhere(failure.value)


async def test_an_upload_waits_as_long_as_it_is_asked_to() -> None:
    async with token_server() as server, client() as made:
        server.answer = answering(429, "", Retry_After="7")
        with pytest.raises(PlatformError) as failure:
            await PlatformFiles(made.agent_api).upload(access(server), b"a", "a", "text/plain")
        assert failure.value.retry_after_seconds == 7
