"""An agent's connections: the namespace that registered last comes first, and each attempt is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.errors import ConnectError
from tests.support.observing import figures
from tests.support.paper_agent import DIARY, paper_agent
from tests.support.paper_play import Play, play

HANDLERS = {"diary": DIARY}


def attempts(script: Play) -> dict[str, float]:
    """Attempts to connect by how they ended."""
    name = "supervisor_connection_attempts_total{"
    found = {key: value for key, value in figures(script.shared.metrics).items() if key.startswith(name)}
    return {key.split('"')[1]: value for key, value in found.items() if value}


def test_the_host_is_that_of_the_agents_own_address(tmp_path: Path) -> None:
    async def asks(script: Play) -> None:
        async with paper_agent(script) as paper:
            assert paper.dialer.host == "paper.example"

    play(tmp_path, asks, handlers=HANDLERS)


def test_the_namespace_that_registered_is_tried_first_the_next_time(tmp_path: Path) -> None:
    async def connects(script: Play) -> None:
        async with paper_agent(script) as paper:
            script.platform.connects.extend(["namespace", "ok"])
            connection = await script.loop.complete(paper.come_online())
            second = connection.namespace
            assert second != "/chat", "the first candidate was refused"
            await script.loop.complete(paper.disconnect())
            assert (await script.loop.complete(paper.connect())).namespace == second
            assert not script.platform.connects

    play(tmp_path, connects, handlers=HANDLERS)


def test_a_platform_of_the_second_generation_that_is_slow_to_acknowledge_is_no_alias(tmp_path: Path) -> None:
    """In ``/ws/chat`` a presence alone is no proof, unless something was acknowledged there before."""

    async def slow(script: Play) -> None:
        script.platform.keeps_ids = False
        script.platform.ack_seconds = 6
        async with paper_agent(script) as paper:
            assert (await script.loop.complete(paper.come_online())).namespace == "/ws/chat"
            script.platform.ack_seconds = 60
            await script.loop.complete(paper.disconnect())
            before = script.loop.time()
            assert (await script.loop.complete(paper.connect())).namespace == "/ws/chat"
            assert script.loop.time() - before < 10
            assert attempts(script) == {"online": 2}

    play(tmp_path, slow, handlers=HANDLERS, ws_namespace="/ws/chat")


@pytest.mark.parametrize(("fate", "counted"), [("refuse", "retry"), ("kick", "kicked")])
def test_an_attempt_that_fails_is_counted_and_leaves_nothing_open(tmp_path: Path, fate: str, counted: str) -> None:
    async def fails(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            before = attempts(script)
            script.platform.connects.append(fate)
            with pytest.raises(ConnectError):
                await script.loop.complete(paper.connect())
            assert before == {}
            assert attempts(script) == {counted: 1}
            assert script.platform.sockets == []
            await script.loop.complete(paper.connect())
            assert attempts(script) == {counted: 1, "online": 1}

    play(tmp_path, fails, handlers=HANDLERS)
