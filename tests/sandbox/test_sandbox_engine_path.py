"""A wrong engine path: no answer to an upgrade, a plain one to a plain request (docs/protocol.md#7-findings, 11)."""

import asyncio
import json
import time

import pytest

from tests.sandbox.conftest import Client, Start

UPGRADE = (
    "GET /wrong/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: sandbox\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_an_upgrade_on_a_fresh_connection_is_ended_after_a_second_without_an_answer(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.sandbox.port)
    began = time.monotonic()
    writer.write(UPGRADE.encode())
    assert await asyncio.wait_for(reader.read(), 10) == b""
    assert 0.9 <= time.monotonic() - began < 5
    writer.close()


async def test_an_upgrade_on_a_connection_that_has_carried_a_request_hangs(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.sandbox.port)
    writer.write(b"GET /sandbox/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.decode().split("\r\n") if line.lower().startswith("content-length"))
    await reader.readexactly(int(length.split(":")[1]))
    writer.write(UPGRADE.encode())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 1.5)
    writer.close()


async def test_a_plain_request_is_answered_with_404_at_once(client: Client) -> None:
    for path in ("/wrong/socket.io", "/chat/socket.io", "/dev/aiwm/socket.io"):
        answer = await client.get(f"{client.sandbox.base_url}{path}/?EIO=4&transport=polling", allow_redirects=False)
        body = json.loads(await answer.text())
        assert (answer.status, answer.content_type, body["statusCode"]) == (404, "application/json", 404)
        assert body["message"].startswith("Cannot GET ")


async def test_the_right_path_answers_a_plain_request_with_a_session(client: Client) -> None:
    answer = await client.get(f"{client.sandbox.base_url}/socket.io/?EIO=4&transport=polling")
    assert (answer.status, (await answer.text())[:1]) == (200, "0")


async def test_a_kept_alive_connection_can_be_upgraded_at_the_right_path(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.sandbox.port)
    writer.write(b"GET /wrong HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.decode().split("\r\n") if line.lower().startswith("content-length"))
    await reader.readexactly(int(length.split(":")[1]))
    writer.write(UPGRADE.replace("/wrong", "").encode())
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 101")
    writer.close()


async def test_a_proxy_before_the_platform_may_answer(start: Start) -> None:
    client = await start(wrong_path_status=403)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.sandbox.port)
    writer.write(UPGRADE.encode())
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 403 ")
    writer.close()
