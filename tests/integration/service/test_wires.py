"""A whole fleet over each wire: people are answered, tokens renewed, kicks overcome, whatever carries the frames."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox import Sandbox
from supervisor.service.service import Service
from tests.support.stack import SECRET, SECRET_FILE, Stack, make_settings
from tests.support.wires import WIRES

AGENTS = 5


@pytest.mark.parametrize("profile", ["v1", "v2"])
@pytest.mark.parametrize("wire", WIRES)
async def test_a_fleet_lives_over_any_wire(tmp_path: Path, wire: str, profile: str) -> None:
    (tmp_path / SECRET_FILE).write_text(SECRET)
    async with Sandbox(profile=profile) as sandbox:
        settings = make_settings(tmp_path, sandbox)
        fleet = Stack(tmp_path, sandbox, settings, await Service.start(settings, make_wire=WIRES[wire]))
        try:
            agents = [await fleet.add(number) for number in range(1, AGENTS + 1)]
            await fleet.online(AGENTS)
            await everybody_is_answered(fleet, agents, "hello")
            for agent in agents:
                sandbox.kick(agent)
            await fleet.state(agents[0], AgentState.BACKOFF, AgentState.CONNECTING, AgentState.REGISTERING)
            await fleet.online(AGENTS)
            await everybody_is_answered(fleet, agents, "after a kick")
            await fleet.service.control.reload(agents[0])
            await everybody_is_answered(fleet, agents, "after a reload")
        finally:
            assert await fleet.service.stop(grace_seconds=5)
        assert not [task for task in asyncio.all_tasks() if any(agent in task.get_name() for agent in agents)]


async def everybody_is_answered(fleet: Stack, agents: list[str], text: str) -> None:
    """A person of its own asks each agent."""

    async def ask(agent: str) -> None:
        user = await fleet.sandbox.user()
        conversation = await user.open(agent)
        message = await user.say(conversation, text)
        [reply] = await user.wait_for_reply(conversation, after=message)
        assert reply.content == f"Echo: {text}"

    await asyncio.gather(*(ask(agent) for agent in agents))
