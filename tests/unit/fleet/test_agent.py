"""An agent takes its row over: settings, secret, handler; and the handler lives from its start to its stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import ConfigurationError, HandlerError
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_play import Play, play
from tests.support.stack import handler_module

HANDLERS = {"diary": DIARY}


def told() -> list[Any]:
    """What happened to the handler."""
    found: list[Any] = handler_module("diary").told
    return found


async def take(script: Play, paper: PaperAgent, *, fresh: bool = False, **fields: Any) -> None:
    """Let an agent take another row over."""
    record = script.fleet.record(paper.agent.record.id, **{"handler": "diary", **fields})
    await script.loop.complete(paper.agent.configure(record, fresh=fresh))


def test_a_handler_starts_with_the_first_token_and_hears_of_the_next(tmp_path: Path) -> None:
    async def lives(script: Play) -> None:
        async with paper_agent(script, settings={"mood": "good"}) as paper:
            await script.loop.complete(paper.configure())
            assert told() == [("start", "good")]
            grant = paper.agent.grant
            assert grant is not None
            await script.loop.complete(paper.agent.use_grant(grant))
            await script.loop.complete(paper.configuration.fetch_grant())
            await script.loop.settle()
            assert told() == [("start", "good"), "reload"], "the same token is no news"
        assert told()[2:] == ["stop"]
        assert paper.agent.profile.mounted is None

    play(tmp_path, lives, handlers=HANDLERS)


def test_a_handler_is_started_anew_when_its_own_settings_change_and_only_then(tmp_path: Path) -> None:
    async def changes(script: Play) -> None:
        async with paper_agent(script, settings={"mood": "good"}) as paper:
            await script.loop.complete(paper.configure())
            handler = paper.agent.profile.handler
            await take(script, paper, settings={"mood": "good", "concurrency": 7}, name="Somebody")
            assert paper.agent.profile.handler is handler
            assert (paper.agent.profile.settings.concurrency, paper.agent.profile.info.name) == (7, "Somebody")
            await take(script, paper, settings={"mood": "bad"})
            assert paper.agent.profile.handler is not handler
            await script.loop.settle()
            assert paper.agent.grant is not None
            await script.loop.complete(paper.agent.use_grant(paper.agent.grant))
            assert told() == [("start", "good"), "stop", ("start", "bad")]

    play(tmp_path, changes, handlers=HANDLERS)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"settings": {"concurrency": 0}}, ConfigurationError),
        ({"settings": {"ws_url": "wss://elsewhere.example/chat"}}, ConfigurationError),
        ({"secret": "env:AGENT_NOBODY"}, ConfigurationError),
        ({"handler": "nowhere"}, HandlerError),
        ({"handler": "broken"}, HandlerError),
    ],
)
def test_a_row_that_cannot_be_used_leaves_the_agent_as_it_was(
    tmp_path: Path, fields: dict[str, Any], error: type[Exception]
) -> None:
    async def fails(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            record, handler = paper.agent.record, paper.agent.profile.handler
            with pytest.raises(error):
                await take(script, paper, **fields)
            assert paper.agent.record is record
            assert paper.agent.profile.handler is handler

    play(tmp_path, fails, handlers=HANDLERS | {"broken": "raise RuntimeError('broken')\n"})


def test_a_start_that_fails_is_the_handlers_error_and_is_tried_again(tmp_path: Path) -> None:
    async def fails(script: Play) -> None:
        async with paper_agent(script, handler="shy") as paper:
            await script.loop.complete(paper.configuration.take_over())
            with pytest.raises(HandlerError, match="on_start of 'shy' failed: ValueError: not yet"):
                await script.loop.complete(paper.configuration.grant())
            handler_module("shy").ready = True
            await script.loop.complete(paper.configuration.grant())

    shy = """
from supervisor.handler import Handler

ready = False


class Shy(Handler):
    async def on_start(self, ctx):
        if not ready:
            raise ValueError("not yet")

    async def on_message(self, message, ctx):
        return "hello"
"""
    play(tmp_path, fails, handlers={"shy": shy})


def test_a_handler_hears_of_others_while_it_runs_and_of_its_own_agent_nothing(tmp_path: Path) -> None:
    async def hears(script: Play) -> None:
        async with paper_agent(script) as paper:
            connection = await script.loop.complete(paper.come_online())
            for who in ("u" * 24, paper.agent.record.id):
                payload = {"userId": who, "agentId": who, "type": "agent", "conversationId": "c" * 24, "isTyping": True}
                paper.pipeline.receive(connection, "agent:typing", payload)
            await script.loop.settle()
            assert told()[1:] == ["typing"]

    play(tmp_path, hears, handlers=HANDLERS)
