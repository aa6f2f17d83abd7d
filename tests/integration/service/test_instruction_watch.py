"""The platform's instruction as an agent saw it: each version is kept, a reconnect is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from supervisor.service.instruction_watch import InstructionWatch
from tests.support.stack import SECRET, Stack, agent_id, stack

A1 = agent_id(1)


async def versions(fleet: Stack) -> list[Any]:
    """What the history has of the agent's instruction, the oldest first."""
    events = await fleet.service.registry.history.of(A1, 100)
    return [event.after for event in reversed(events) if event.subject == "instruction"]


async def test_each_version_is_kept_and_a_reconnect_is_none(tmp_path: Path) -> None:
    async with stack(tmp_path, instruction_seconds=0.2) as fleet:
        await fleet.add(1)
        await fleet.online()
        watch = InstructionWatch(
            fleet.service.registry.history,
            fleet.service.fleet,
            fleet.service.shared.clock,
            fleet.service.shared.turns,
            look_seconds=0.02,
        )
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(watch.run())
            for number, text in enumerate(("Be brief.", "Be kind."), start=1):
                fleet.sandbox.add_agent(A1, SECRET, name="Ada", instruction=text)
                await fleet.service.control.reload(A1)
                async with asyncio.timeout(30):
                    while len(await versions(fleet)) < number:
                        await asyncio.sleep(0.02)
            requests = len(fleet.sandbox.token_requests)
            await fleet.service.control.reload(A1)
            await fleet.until(lambda: len(fleet.sandbox.token_requests) > requests)
            await fleet.online()
            looking.cancel()
        await fleet.restart()
        await fleet.online()
        kept = [{"instruction": "Be brief.", "chars": 9}, {"instruction": "Be kind.", "chars": 8}]
        assert await versions(fleet) == kept
        # The supervisor's own looks do the same.
        fleet.sandbox.add_agent(A1, SECRET, name="Ada", instruction=None)
        await fleet.service.control.reload(A1)
        async with asyncio.timeout(30):
            while await versions(fleet) != [*kept, None]:
                await asyncio.sleep(0.05)
