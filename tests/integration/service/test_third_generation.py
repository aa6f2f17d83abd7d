"""The third generation, unconfigured: at each of its stages an agent comes online and answers.

See docs/protocol.md#8-third-generation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState
from tests.support.stack import SECRET, Stack, stack

V3: dict[str, Any] = {"profile": "v3"}
#: The guide's path, which no generation has as a namespace.
GUIDES_PATH = "/dev/aiwm/chat"


async def answers(fleet: Stack, identity: str, text: str = "there?") -> None:
    """The agent answers: it is not only called online."""
    [reply] = await fleet.ask(identity, text)
    assert reply.content == f"Echo: {text}"


def ways(fleet: Stack, identity: str) -> list[tuple[str, str]]:
    """The namespaces in which an agent tried to connect, and what came of it."""
    return [(one.namespace, one.outcome) for one in fleet.sandbox.connects if one.agent_id in (identity, None)]


@pytest.mark.parametrize(
    ("stage", "namespace"), [("i", "/ws/chat"), ("ii", "/ws/chat"), ("iii", "/")], ids=["i", "ii", "iii"]
)
async def test_unconfigured_it_comes_online_and_answers(tmp_path: Path, stage: str, namespace: str) -> None:
    settings = {**V3, "stage": stage}
    async with stack(tmp_path, sandbox_settings=settings, ws_url="ws://placeholder/chat") as fleet:
        row = {"ws_url": fleet.sandbox.base_url.replace("http", "ws") + GUIDES_PATH}
        identity = await fleet.add(settings=row)
        await fleet.online(timeout=30)
        assert ways(fleet, identity)[-1] == (namespace, "accepted")
        await answers(fleet, identity)
        # What one agent has found out the next one need not.
        before = len(fleet.sandbox.connects)
        second = await fleet.add(2, settings=row)
        await fleet.online(2, timeout=30)
        assert [(one.agent_id, one.namespace) for one in fleet.sandbox.connects[before:]] == [(second, namespace)]
        await answers(fleet, second)


@pytest.mark.parametrize("stage", ["ii", "iii"])
async def test_the_address_that_the_platform_names_will_do(tmp_path: Path, stage: str) -> None:
    async with stack(tmp_path, sandbox_settings={**V3, "stage": stage}) as fleet:
        identity = await fleet.add()
        await fleet.online(timeout=30)
        await answers(fleet, identity)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [("ii", {"ws_namespace": "/ws/agent"}), ("iii", {"ws_namespace": "/", "ws_path": "/agent/socket.io"})],
)
async def test_the_agents_gateway_can_be_set_and_after_a_loss_it_goes_on(
    tmp_path: Path, stage: str, settings: dict[str, Any]
) -> None:
    async with stack(tmp_path, sandbox_settings={**V3, "stage": stage}, **settings) as fleet:
        identity = await fleet.add()
        await fleet.online(timeout=30)
        await answers(fleet, identity, "one")
        # It knows no joins: none is asked for, and nothing waits for one.
        fleet.sandbox.cut(identity)
        await fleet.sandbox.wait_until(lambda: not fleet.sandbox.is_online(identity))
        await fleet.online(timeout=30)
        await answers(fleet, identity, "two")
        refused = [one for one in fleet.sandbox.connects if one.outcome != "accepted"]
        assert refused == []


async def test_where_no_presence_comes_an_answer_is_the_proof_and_the_alias_is_none(tmp_path: Path) -> None:
    """People's process: its alias takes agents, tells them messages, and never acknowledges anything."""
    settings: dict[str, Any] = {"ws_path": "/chat/socket.io", "handshake_seconds": 2.0}
    async with stack(tmp_path, sandbox_settings=V3, **settings) as fleet:
        identity = await fleet.add()
        await fleet.online(timeout=30)
        tried = [namespace for namespace, _ in ways(fleet, identity)]
        assert tried.index("/ws/chat") < tried.index("/")
        assert tried[-1] == "/"
        # There frames into a room that the socket is not in are refused until it has joined.
        await answers(fleet, identity)


async def test_the_alias_alone_is_never_enough(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"ws_path": "/chat/socket.io", "ws_namespace": "/ws/chat", "handshake_seconds": 1.0}
    async with stack(tmp_path, sandbox_settings=V3, **settings) as fleet:
        identity = await fleet.add()
        reason = await fleet.state(identity, AgentState.BACKOFF, timeout=30)
        assert "no presence of its own" in reason
        assert "no answer to a heartbeat" in reason


async def test_a_platform_without_the_old_token_endpoint(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings={**V3, "deprecated_connect": False}) as fleet:
        identity = await fleet.add()
        await fleet.online(timeout=30)
        assert [one.status for one in fleet.sandbox.token_requests] == [404, 201]
        await answers(fleet, identity)
        # Remembered for the host: nobody asks in vain again.
        await fleet.add(2)
        await fleet.online(2, timeout=30)
        assert [one.status for one in fleet.sandbox.token_requests] == [404, 201, 201]
        # What an unknown agent is told is no reason to ask in another way.
        unknown = await fleet.add(3)
        await fleet.sandbox.wait_online(unknown)
        before = len(fleet.sandbox.token_requests)
        fleet.sandbox.agents[unknown].status = "deleted"
        fleet.sandbox.cut(unknown)
        await fleet.service.control.reload(unknown)
        await fleet.state(unknown, AgentState.REJECTED, timeout=30)
        assert {one.status for one in fleet.sandbox.token_requests[before:]} <= {404}
        assert SECRET not in str(fleet.service.control.statuses())


async def test_a_wrong_engine_path_is_named(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}, ws_path="/wrong/socket.io") as fleet:
        identity = await fleet.add()
        reason = await fleet.state(identity, AgentState.BACKOFF, timeout=30)
        assert f"127.0.0.1:{fleet.sandbox.port} has no Socket.IO at /wrong/socket.io" in reason
        assert "SUPERVISOR_WS_PATH" in reason


async def test_a_proxy_that_wants_the_urls_path_is_found(tmp_path: Path) -> None:
    settings = {"profile": "v2", "engine_path": f"{GUIDES_PATH}/socket.io"}
    async with stack(tmp_path, sandbox_settings=settings, ws_url="ws://placeholder/chat") as fleet:
        row = {"ws_url": fleet.sandbox.base_url.replace("http", "ws") + GUIDES_PATH}
        identity = await fleet.add(settings=row)
        await fleet.online(timeout=30)
        await answers(fleet, identity)
