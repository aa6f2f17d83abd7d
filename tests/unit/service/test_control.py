"""What the admin API asks: figures that are those of the fleet, and changes that the fleet follows at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.errors import AgentNotFoundError, ConfigurationError, MessageNotFoundError, MessageStateError
from supervisor.core.states import AgentState, MessageState
from supervisor.core.status import InboxCounts
from supervisor.management.agents import Changes
from supervisor.management.messages import MessageQuery
from supervisor.service.control import Control
from tests.support.paper_play import AGENT, Play, play
from tests.support.stack import handler_module

BRITTLE = """
from supervisor.handler import Permanent

mended = []

async def on_message(message, ctx):
    if not mended:
        raise Permanent("broken")
    return "fine"
"""


def control(script: Play) -> Control:
    return script.fleet.service.control


def test_people_change_agents_and_the_fleet_follows_at_once(tmp_path: Path) -> None:
    async def changes(script: Play) -> None:
        desk, complete = control(script), script.loop.complete
        with pytest.raises(ConfigurationError):
            await complete(desk.add(script.fleet.record(AGENT, handler="nowhere")))
        await complete(desk.add(script.fleet.record(AGENT, handler="echo")))
        await script.loop.advance(1)
        assert desk.status(AGENT).state is AgentState.ONLINE
        await complete(desk.change(AGENT, Changes(fields={"name": "Ann"})))
        assert desk.status(AGENT).name == "Ann"
        await complete(desk.pause(AGENT))
        await script.loop.advance(1)
        assert desk.overview().agents == {"paused": 1}
        await complete(desk.resume(AGENT))
        await script.loop.advance(1)
        assert [status.state for status in desk.statuses()] == [AgentState.ONLINE]
        sockets = list(script.platform.sockets)
        await complete(desk.reload(AGENT))
        await script.loop.advance(5)
        assert script.platform.sockets != sockets
        await complete(desk.remove(AGENT))
        for asked in (desk.pause(AGENT), desk.resume(AGENT), desk.reload(AGENT), desk.remove(AGENT)):
            with pytest.raises(AgentNotFoundError):
                await complete(asked)
        assert desk.statuses() == []

    play(tmp_path, changes)


def test_an_overview_counts_all_and_says_what_wants_a_person(tmp_path: Path) -> None:
    async def looks(script: Play) -> None:
        desk = control(script)
        await script.add()
        await script.loop.advance(1)
        await script.add("b" * 24, handler="nowhere")
        script.platform.standing_token = "401"
        for number in (3, 4):
            await script.add(f"{number:024x}")
        await script.loop.advance(1)
        overview = desk.overview()
        assert overview.agents == {"faulted": 1, "online": 1, "rejected": 2}
        assert overview.notices == (
            "2 agents are rejected; see: supervisor agents list",
            "1 agent is faulted; see: supervisor agents list",
        )
        assert (overview.problems, overview.inbox) == ((), InboxCounts(0, 0, 0))
        assert overview.registry_uuid == script.fleet.registry.uuid
        await script.loop.advance(7)
        assert desk.overview().started_at == overview.started_at

    play(tmp_path, looks)


def test_dead_letters_are_found_replayed_and_discarded(tmp_path: Path) -> None:
    async def replays(script: Play) -> None:
        desk, complete = control(script), script.loop.complete
        await script.add(handler="brittle")
        await script.loop.advance(1)
        for text in ("one", "two"):
            script.say(text)
            await script.loop.advance(1)
        assert desk.overview().inbox == InboxCounts(0, 0, 2)
        found = await complete(desk.messages(MessageQuery(agent_id=AGENT), 10))
        second, first = (summary.id for summary in found)
        assert (await complete(desk.message(first))).state is MessageState.DEAD
        handler_module("brittle").mended.append(True)
        await complete(desk.replay(first))
        await script.loop.advance(1)
        assert script.answers[-1] == "fine"
        await complete(desk.discard(second))
        assert desk.overview().inbox == InboxCounts(0, 0, 0)
        for asked in (desk.replay(first), desk.discard(second)):
            with pytest.raises(MessageStateError):
                await complete(asked)
        for missing in (desk.replay(99), desk.message(99)):
            with pytest.raises(MessageNotFoundError):
                await complete(missing)

    play(tmp_path, replays, handlers={"brittle": BRITTLE})
