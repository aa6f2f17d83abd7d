"""What an agent runs with: rows and reloads are taken over once, and a new address or secret means a new token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.core.errors import ConfigurationError
from supervisor.core.records import AgentRecord
from supervisor.fleet.configuration import connection_differs
from tests.support.paper_agent import DIARY, PaperAgent, paper_agent
from tests.support.paper_play import AGENT, Play, play

HANDLERS = {"diary": DIARY}
RECORD = AgentRecord(id=AGENT, handler="echo", secret="env:AGENT_SECRET", settings={"mood": "good"})


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({}, False),
        ({"name": "Somebody", "labels": {"team": "a"}}, False),
        ({"handler": "tour"}, False),
        ({"settings": {"mood": "bad", "concurrency": 2}}, False),
        ({"secret": "env:AGENT_OTHER"}, True),
        ({"settings": {"mood": "good", "api_url": "https://more.example"}}, True),
        ({"settings": {"mood": "good", "ws_namespace": "/ws"}}, True),
    ],
)
def test_which_changes_ask_for_a_new_connection(changes: dict[str, Any], differs: bool) -> None:
    row = {"id": AGENT, "handler": "echo", "secret": "env:AGENT_SECRET", "settings": {"mood": "good"}}
    assert connection_differs(RECORD, AgentRecord(**{**row, **changes})) is differs


async def want(script: Play, paper: PaperAgent, **fields: Any) -> AgentRecord:
    """Let another row be wanted, and have it taken over."""
    record = script.fleet.record(AGENT, **{"handler": "diary", **fields})
    paper.desired.replace(record)
    await script.loop.complete(paper.configuration.take_over())
    return record


def test_the_first_row_needs_a_connection_and_a_row_of_the_same_address_none(tmp_path: Path) -> None:
    async def takes(script: Play) -> None:
        async with paper_agent(script) as paper:
            due = []
            for settings in ({}, {"concurrency": 2}, {"ws_namespace": "/ws"}, {"ws_namespace": "/ws", "typing": False}):
                record = await want(script, paper, settings=settings)
                assert paper.configuration.is_of(record)
                due.append(paper.configuration.connection_due)
                paper.configuration.connected()
            assert due == [True, False, True, False]

    play(tmp_path, takes, handlers=HANDLERS)


def test_a_reload_reads_the_code_again_and_asks_for_a_connection(tmp_path: Path) -> None:
    async def reloads(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            paper.configuration.connected()
            handler = paper.agent.profile.handler
            await script.loop.complete(paper.configuration.take_over())
            assert paper.agent.profile.handler is handler
            paper.desired.reload()
            await script.loop.complete(paper.configuration.take_over())
            assert paper.agent.profile.handler is not handler
            assert (paper.desired.reload_due, paper.configuration.connection_due) == (False, True)

    play(tmp_path, reloads, handlers=HANDLERS)


def test_without_a_row_there_is_no_token(tmp_path: Path) -> None:
    async def asks(script: Play) -> None:
        async with paper_agent(script) as paper:
            for work in (paper.configuration.grant, paper.configuration.fetch_grant):
                with pytest.raises(ConfigurationError):
                    await script.loop.complete(work())

    play(tmp_path, asks, handlers=HANDLERS)


def test_a_token_is_kept_until_it_is_refused_or_another_is_fetched(tmp_path: Path) -> None:
    async def asks(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            first = paper.agent.grant
            assert await script.loop.complete(paper.configuration.grant()) is first
            paper.configuration.refused()
            second = await script.loop.complete(paper.configuration.grant())
            assert second is not first
            await script.loop.complete(paper.configuration.fetch_grant())
            assert paper.agent.grant not in (first, second)

    play(tmp_path, asks, handlers=HANDLERS)


def test_how_old_a_token_is_that_was_never_accepted(tmp_path: Path) -> None:
    async def ages(script: Play) -> None:
        async with paper_agent(script) as paper:
            assert paper.configuration.untried_seconds() is None
            await script.loop.complete(paper.configure())
            await script.loop.advance(7)
            assert paper.configuration.untried_seconds() == 7
            assert paper.agent.grant is not None
            paper.configuration.accepted(paper.agent.grant)
            assert paper.configuration.untried_seconds() is None
            await script.loop.complete(paper.configuration.fetch_grant())
            assert paper.configuration.untried_seconds() == 0

    play(tmp_path, ages, handlers=HANDLERS)


def test_a_description_changes_the_row_and_nothing_else(tmp_path: Path) -> None:
    async def renames(script: Play) -> None:
        async with paper_agent(script) as paper:
            await script.loop.complete(paper.configure())
            handler, grant = paper.agent.profile.handler, paper.agent.grant
            record = script.fleet.record(AGENT, handler="diary", name="Somebody")
            paper.configuration.describe(record)
            assert paper.configuration.is_of(record)
            assert paper.agent.profile.info.name == "Somebody"
            assert (paper.agent.profile.handler, paper.agent.grant) == (handler, grant)

    play(tmp_path, renames, handlers=HANDLERS)
