"""The sandbox calls people's agents as their registry does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supervisor.cli.naming import keep_named
from supervisor.core.records import AgentRecord
from supervisor.sandbox import Sandbox
from supervisor.store import Registry

SHOUT, NAMELESS, OTHER = "a" * 24, "b" * 24, "c" * 24


async def test_an_agent_is_called_as_its_row_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}"
    monkeypatch.setenv("SUPERVISOR_REGISTRY_URL", url)
    async with Sandbox() as sandbox:
        naming = asyncio.create_task(keep_named(sandbox))
        await asyncio.sleep(0)
        # Before there is a registry, and while another one's settings are wrong, nobody is renamed and nothing ends.
        sandbox.add_agent(OTHER, "secret")
        registry = await Registry.open(url, upgrade=True)
        await registry.add_agent(AgentRecord(id=SHOUT, handler="echo", secret="env:AGENT_SECRET", name="Shout"))
        await registry.add_agent(AgentRecord(id=NAMELESS, handler="echo", secret="env:AGENT_SECRET"))
        await registry.close()
        for agent_id in (NAMELESS, SHOUT):
            sandbox.add_agent(agent_id, "secret")
        async with asyncio.timeout(30):
            while sandbox.agents[SHOUT].name != "Shout":
                await asyncio.sleep(0.01)
        assert (sandbox.agents[NAMELESS].name, sandbox.agents[OTHER].name) == ("Agent bbbb", "Agent cccc")
        naming.cancel()
