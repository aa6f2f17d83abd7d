"""A whole supervisor whose platform is behind TLS of a private authority and a proxy that wants a password."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox import Sandbox
from supervisor.service import Service
from tests.support.certificates import make_server_context
from tests.support.stack import SECRET, SECRET_FILE, Stack, make_settings
from tests.support.tunnels import Proxy, connect_proxy, tls_front

#: A name that only the proxy knows: whatever goes past the proxy finds nobody.
HOST = "platform.invalid"
USER, PASSWORD = "ann", "p@ss:w0rd/"


@dataclass
class Network:
    """A supervisor, what is in its way, and where it may go."""

    fleet: Stack
    proxy: Proxy
    ca_file: Path


@asynccontextmanager
async def network(folder: Path, *, password: str = PASSWORD, trusted: bool = True) -> AsyncIterator[Network]:
    """A supervisor whose only good way to the sandbox is through the proxy, over TLS."""
    context, ca_file = make_server_context(folder, HOST)
    (folder / SECRET_FILE).write_text(SECRET)
    async with (
        Sandbox() as sandbox,
        tls_front(sandbox.base_url, context) as port,
        connect_proxy(USER, PASSWORD) as proxy,
    ):
        proxy.names[HOST] = "127.0.0.1"
        given: dict[str, Any] = {"ca_file": ca_file} if trusted else {}
        settings = make_settings(
            folder,
            sandbox,
            api_url=_through(sandbox.api_url, "https", port),
            ws_url=_through(sandbox.ws_url, "wss", port),
            proxy=proxy.url(USER, password),
            **given,
        )
        fleet = Stack(folder, sandbox, settings, await Service.start(settings))
        try:
            yield Network(fleet, proxy, ca_file)
        finally:
            await fleet.service.stop(grace_seconds=1)


def _through(url: str, scheme: str, port: int) -> str:
    """The URL of the same place behind TLS."""
    path = url.partition("://")[2].partition("/")[2]
    return f"{scheme}://{HOST}:{port}/{path}"


async def test_an_agent_answers_through_a_proxy_with_a_password_and_tls_of_a_private_authority(tmp_path: Path) -> None:
    async with network(tmp_path) as net:
        identity = await net.fleet.add()
        await net.fleet.online()
        [reply] = await net.fleet.ask(identity, "far away?")
        assert reply.content == "Echo: far away?"
        # The socket may take over the tunnel of the token request.
        assert set(net.proxy.asked) == {"CONNECT"}
        assert net.proxy.refused == 0


async def test_without_the_authority_the_reason_names_the_setting(tmp_path: Path) -> None:
    async with network(tmp_path, trusted=False) as net:
        identity = await net.fleet.add()
        reason = await net.fleet.state(identity, AgentState.BACKOFF)
        assert f"certificate of {HOST} is not trusted" in reason
        assert "SUPERVISOR_CA_FILE" in reason


async def test_a_wrong_password_of_the_proxy_is_the_reason_and_is_shown_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with network(tmp_path, password="wr0ng-passw0rd") as net:
        identity = await net.fleet.add()
        reason = await net.fleet.state(identity, AgentState.BACKOFF)
        assert "the proxy answered 407" in reason
        assert "SUPERVISOR_PROXY" in reason
        status = net.fleet.service.control.status(identity)
        assert net.proxy.asked == []
        shown = repr((status, net.fleet.settings, net.fleet.service.control.overview()))
    assert "wr0ng" not in shown + caplog.text + "".join(capfd.readouterr())
