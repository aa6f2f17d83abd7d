"""An edit of the prompt on the platform is live soon, and costs no token."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox.world.ids import new_object_id
from tests.support.observing import handlers_folder
from tests.support.stack import stack

HANDLERS = {
    "prompted": """
async def on_message(message, ctx):
    return f"{ctx.instruction.system_prompt} {ctx.settings.get('tone')}"
"""
}


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_an_edit_is_live_without_a_new_token(tmp_path: Path, profile: str) -> None:
    folder = handlers_folder(tmp_path, HANDLERS)
    async with stack(
        tmp_path, sandbox_settings={"profile": profile}, agents_dir=folder, instruction_seconds=0.1, api_rate=1000
    ) as fleet:
        identity = await fleet.add(handler="prompted")
        await fleet.online()
        agent = fleet.sandbox.agents[identity]
        agent.instruction = {"id": new_object_id(), "systemPrompt": "Be brief.", "guidelines": []}
        agent.settings = {"tone": "dry"}
        runner = fleet.service.fleet.runner(identity)
        await fleet.until(lambda: runner.agent.profile.answer.settings == {"tone": "dry"})
        [answer] = await fleet.ask(identity, "hello")
        assert answer.content == "Be brief. dry"
        assert len(fleet.sandbox.token_requests) == 1
        assert runner.agent.connection is not None
        assert runner.agent.connection.connected


async def test_an_agent_that_was_deleted_there_goes_offline_at_once(tmp_path: Path) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}, instruction_seconds=0.1, api_rate=1000) as fleet:
        identity = await fleet.add()
        await fleet.online()
        fleet.sandbox.agents[identity].status = "deleted"
        assert f"404 Agent with ID {identity} not found" in await fleet.state(identity, AgentState.REJECTED)
        assert len(fleet.sandbox.token_requests) == 1, "its own token was told"
        await fleet.until(lambda: not fleet.sandbox.sockets_of(identity))
