"""What tells whether the platform finds an agent: its own join, and no socket that comes or goes beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supervisor.core.errors import ConnectError
from supervisor.platform.connection import Connection
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_platform import HOME
from tests.support.paper_play import Play, play

HANDLERS = {"diary": DIARY}


async def online(script: Play, paper: PaperAgent) -> Connection:
    """An agent that the platform forgets, in a conversation; a join there is followed by no presence."""
    script.platform.keeps_ids = False
    connection = await script.loop.complete(paper.come_online())
    paper.findability.opened(connection)
    await script.loop.complete(paper.pipeline.inbox.conversations.joined(HOME))
    connection.record_member(HOME, script.shared.clock.monotonic())
    return connection


@pytest.mark.parametrize("fails", [False, True], ids=["taken into use", "failed"])
def test_the_presence_of_a_second_socket_is_no_answer_to_a_check(tmp_path: Path, fails: bool) -> None:
    async def checks(script: Play) -> None:
        async with paper_agent(script) as paper:
            first = await online(script, paper)
            checking = asyncio.ensure_future(paper.findability.check())
            await script.loop.settle()
            assert not checking.done(), "it waits for a presence"
            # Everybody hears of a socket that connects, also where nothing proves it and it is gone again.
            if fails:
                script.platform.deaf_to.update(("conversation:online", "conversation:join", "message:typing"))
            rotating = asyncio.ensure_future(paper.rotation.run(first, paper.configuration.grant))
            await script.loop.advance(1)
            if fails:
                script.platform.sockets[1].lose("server disconnect")
                with pytest.raises(ConnectError):
                    await script.loop.complete(_result(rotating))
                assert paper.findability.can_be_checked
            assert await script.loop.complete(_found(checking)) is None

    play(tmp_path, checks, handlers=HANDLERS)


def test_without_another_socket_a_silence_says_that_the_agent_was_forgotten(tmp_path: Path) -> None:
    async def checks(script: Play) -> None:
        async with paper_agent(script) as paper:
            await online(script, paper)
            assert await script.loop.complete(paper.findability.check()) is False

    play(tmp_path, checks, handlers=HANDLERS)


async def _result(rotating: asyncio.Future[Connection]) -> Connection:
    return await rotating


async def _found(checking: asyncio.Future[bool | None]) -> bool | None:
    return await checking
