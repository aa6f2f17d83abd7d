"""Has the sandbox call agents as the registry of this folder does: elsewhere the platform knows their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.sandbox import Sandbox


async def keep_named(sandbox: Sandbox) -> None:
    """Name agents as they register themselves, until cancelled; where there is no registry they keep their names."""
    with sandbox.log.subscribe() as events:
        async for event in events:
            agent = sandbox.agents.get(event.agent_id or "")
            if event.kind == "agent_added" and agent is not None:
                agent.name = await _registered_name(agent.id) or agent.name


async def _registered_name(agent_id: str) -> str:
    """The name in an agent's row; empty where there is none."""
    from supervisor.core.errors import SupervisorError  # noqa: PLC0415  import what is slow only when it runs
    from supervisor.settings import load_settings  # noqa: PLC0415
    from supervisor.store import Access, Registry  # noqa: PLC0415

    try:
        registry = await Registry.open(load_settings().registry_url, access=Access(reading=True))
        try:
            return (await registry.agent(agent_id)).name
        finally:
            await registry.close()
    except SupervisorError:
        return ""
