"""No connection, because of what stands between us and the gateway: HTTP answers, TLS, DNS, proxies, settings."""

from __future__ import annotations

import asyncio
import time
import traceback
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web

from supervisor.core.errors import ConfigurationError, ConnectError, Verdict
from supervisor.net import Session
from supervisor.platform.transport import Target
from tests.support.certificates import make_server_context
from tests.support.connecting import AGENT, OpenTransport, connect
from tests.support.gateway import Peer, gateway, raw_server
from tests.support.tunnels import connect_proxy, splice, tls_front


async def join(peer: Peer) -> None:
    await peer.join()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.RETRY),
        (400, Verdict.RETRY),
        (401, Verdict.REAUTHENTICATE),
        (403, Verdict.REJECT),
        (404, Verdict.RETRY),
        (429, Verdict.RETRY),
        (500, Verdict.RETRY),
        (502, Verdict.RETRY),
        (503, Verdict.RETRY),
        (504, Verdict.RETRY),
        (520, Verdict.RETRY),
        (530, Verdict.RETRY),
    ],
)
async def test_the_status_of_a_refused_upgrade_is_told_and_classified(
    transport: OpenTransport, status: int, verdict: Verdict
) -> None:
    async with gateway(join) as server, transport() as made:
        server.refuse = lambda _request: web.Response(status=status, text="<html>no</html>")
        with pytest.raises(ConnectError, match=str(status)) as failure:
            await connect(made, server)
        assert failure.value.verdict is verdict
        assert failure.value.retry_after_seconds is None


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("7", 7, 7),
        (" 7 ", 7, 7),
        ("99999999999999999999", 3600, 3600),
        ("soon", None, None),
        ("", None, None),
        ("-5", None, None),
        (1000, 900, 1000),
        (-1000, 0, 0),
    ],
)
async def test_retry_after_is_understood_and_bounded(
    transport: OpenTransport, header: str | int, low: float | None, high: float | None
) -> None:
    if isinstance(header, int):
        header = formatdate(time.time() + header, usegmt=True)
    async with gateway(join) as server, transport() as made:
        server.refuse = lambda _request: web.Response(status=429, headers={"Retry-After": header})
        with pytest.raises(ConnectError) as failure:
            await connect(made, server)
        if low is None or high is None:
            assert failure.value.retry_after_seconds is None
        else:
            assert failure.value.retry_after_seconds is not None
            assert low <= failure.value.retry_after_seconds <= high


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(transport: OpenTransport, status: int) -> None:
    async with gateway(join) as elsewhere, gateway(join) as server, transport() as made:
        location = elsewhere.url.replace("ws://127.0.0.1", "http://localhost")
        server.refuse = lambda _request: web.Response(status=status, headers={"Location": f"{location}/socket.io/?a=b"})
        with pytest.raises(ConnectError, match=r"redirects to localhost; .* not followed"):
            await connect(made, server, token_via="query")
        assert elsewhere.requests == []


async def test_an_answer_that_is_not_http(transport: OpenTransport) -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await writer.drain()

    async with raw_server(rude) as address, transport() as made:
        with pytest.raises(ConnectError) as failure:
            await connect(made, f"ws://{address}")
        assert failure.value.verdict is Verdict.RETRY


async def test_a_status_that_only_the_proxies_of_others_know_is_read_with_its_retry_after(
    transport: OpenTransport,
) -> None:
    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 529 Site is overloaded\r\nretry-after:  9 \r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw_server(busy) as address, transport() as made:
        with pytest.raises(ConnectError, match="answered 529 to the upgrade") as failure:
            await connect(made, f"ws://{address}")
        assert failure.value.retry_after_seconds == 9


async def test_an_address_that_does_not_answer_does_not_hide_one_that_does(transport: OpenTransport) -> None:
    """The name localhost has two addresses where there is IPv6; the gateway listens on one."""
    async with gateway(join) as server, transport() as made:
        assert (await connect(made, server.url.replace("127.0.0.1", "localhost"))).connected


@pytest.mark.parametrize("token", ["a\r\nX-Injected: 1", "a\nb", "a\0b"])
async def test_a_token_that_is_no_header_is_not_sent_as_several(transport: OpenTransport, token: str) -> None:
    async with gateway(join) as server, transport() as made:
        target = Target(server.url, "/ws", token_via="header")
        with pytest.raises(ConnectError) as failure:
            await made.open(target, token, agent_id=AGENT, on_event=lambda *_: None, timeout=5)
        assert token not in failure.value.reason
        assert all("X-Injected" not in request.headers for request in server.requests)


async def test_a_wrong_answer_to_the_websocket_challenge(transport: OpenTransport) -> None:
    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Accept: bm8=\r\n\r\n"
        )
        await reader.read()

    async with raw_server(liar) as address, transport() as made:
        with pytest.raises(ConnectError, match="answered the WebSocket upgrade wrongly"):
            await connect(made, f"ws://{address}")


async def test_nobody_listens(transport: OpenTransport) -> None:
    async with gateway(join) as server:
        url = server.url
    async with transport() as made:
        with pytest.raises(ConnectError, match=r"connection to 127\.0\.0\.1 failed: Connect") as failure:
            await connect(made, url)
        assert failure.value.verdict is Verdict.RETRY


async def test_the_name_cannot_be_resolved(transport: OpenTransport) -> None:
    async with transport() as made:
        with pytest.raises(ConnectError, match=r"the name nowhere\.invalid cannot be resolved"):
            await connect(made, "ws://nowhere.invalid", timeout=20)


async def test_tls_with_the_authority_given_and_without_it(transport: OpenTransport, tmp_path: Path) -> None:
    context, ca_file = make_server_context(tmp_path)
    async with gateway(join, tls=context) as server:
        async with transport(ca_file) as made:
            assert (await connect(made, server)).connected
        async with transport() as made:
            with pytest.raises(ConnectError, match=r"certificate of localhost is not trusted .*SUPERVISOR_CA_FILE"):
                await connect(made, server)
        async with transport(ca_file) as made:
            with pytest.raises(ConnectError, match="TLS with localhost failed"):
                async with gateway(join) as plain:
                    await connect(made, plain.url.replace("ws://127.0.0.1", "wss://localhost"))


async def test_a_ca_file_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"SUPERVISOR_CA_FILE .*No such file"):
        await Session.open(ca_file=tmp_path / "missing.pem", connect_timeout=1)
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(ConfigurationError, match="SUPERVISOR_CA_FILE"):
        await Session.open(ca_file=tmp_path / "empty.pem", connect_timeout=1)


@pytest.mark.parametrize("secure", [False, True])
async def test_an_http_proxy_is_used_for_both_kinds_of_url(
    transport: OpenTransport, secure: bool, tmp_path: Path
) -> None:
    context, ca_file = make_server_context(tmp_path)
    asked: list[str] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b" ")[0].decode())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        if asked[-1] == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            far_writer.write(head)
        await splice((reader, writer), (far_reader, far_writer))

    async with (
        gateway(join, tls=context if secure else None) as server,
        raw_server(proxy) as address,
        transport(ca_file) as made,
    ):
        socket = await connect(made, server, proxy=f"http://{address}")
        assert socket.connected
        # A plain URL may be tunnelled too, as the wire pleases.
        assert asked == ["CONNECT"] or (asked == ["GET"] and not secure)
        await socket.close()


async def test_a_proxy_that_is_not_there_or_refuses(transport: OpenTransport) -> None:
    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        await writer.drain()

    async with raw_server(refusing) as address, transport() as made:
        with pytest.raises(ConnectError, match="the proxy answered 407 when asked for localhost"):
            await connect(made, "wss://localhost", proxy=f"http://{address}")
    async with transport() as made:
        with pytest.raises(ConnectError, match=r"the proxy 127\.0\.0\.1 cannot be reached"):
            await connect(made, "wss://localhost", proxy=f"http://{address}")


async def test_a_proxy_that_wants_a_password_gets_it_for_both_kinds_of_url(
    transport: OpenTransport, tmp_path: Path
) -> None:
    context, ca_file = make_server_context(tmp_path)
    async with gateway(join) as server, tls_front(server.url, context) as port, connect_proxy("ann", "p@s:s") as proxy:
        for url in (server.url, f"wss://localhost:{port}"):
            async with transport(ca_file) as made:
                assert (await connect(made, url, proxy=proxy.url("ann", "p@s:s"))).connected
        assert len(proxy.asked) == 2
        assert proxy.asked[-1] == "CONNECT"


@pytest.mark.parametrize("secure", [False, True])
async def test_a_proxy_that_refuses_the_password_is_told_as_such_and_the_password_is_not(
    transport: OpenTransport, secure: bool, tmp_path: Path
) -> None:
    wrong = "wr" + "0ng"
    async with gateway(join) as server, connect_proxy("ann", "right") as proxy, transport() as made:
        url = proxy.url("ann", wrong)
        with pytest.raises(ConnectError, match=r"the proxy answered 407 .*SUPERVISOR_PROXY") as failure:
            await connect(made, "wss://localhost" if secure else server.url, proxy=url)
        assert failure.value.verdict is Verdict.RETRY
        assert wrong not in "".join(traceback.format_exception(failure.value))
    assert wrong not in repr(Target("wss://localhost", "/chat", proxy=url))


async def test_a_proxys_own_name_that_cannot_be_resolved_is_not_the_platforms(transport: OpenTransport) -> None:
    async with transport() as made:
        with pytest.raises(ConnectError, match=r"the name proxy\.invalid cannot be resolved, .*SUPERVISOR_PROXY"):
            await connect(made, "wss://localhost", proxy="http://proxy.invalid:3128", timeout=20)


@pytest.mark.parametrize("url", ["", "chat", "ftp://host", "ws://", "http://[", "/socket.io"])
async def test_a_url_that_cannot_be_right_is_the_agents_fault(transport: OpenTransport, url: str) -> None:
    async with transport() as made:
        with pytest.raises(ConnectError, match="WS_URL") as failure:
            await connect(made, url)
        assert failure.value.verdict is Verdict.FAULT


@pytest.mark.parametrize("namespace", ["", "chat", "/a,b", "/a?b", "/a b", "/a\n"])
async def test_a_namespace_that_cannot_be_right_is_the_agents_fault(transport: OpenTransport, namespace: str) -> None:
    async with transport() as made:
        with pytest.raises(ConnectError, match="namespace") as failure:
            await connect(made, "ws://127.0.0.1:1", namespace=namespace)
        assert failure.value.verdict is Verdict.FAULT


async def test_credentials_in_the_url_are_not_sent_and_not_told(transport: OpenTransport) -> None:
    async with gateway(join) as server, transport() as made:
        url = server.url.replace("ws://", "ws://user:hunter2@")
        await connect(made, url)
        assert "Authorization" not in server.requests[0].headers
