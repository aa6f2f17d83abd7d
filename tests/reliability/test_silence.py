"""R4: packets vanish both ways without a close."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from supervisor.core.states import AgentState
from tests.support.reliability import Case
from tests.support.stack import stack

INTERVAL = TIMEOUT = 0.5


async def test_r4_a_connection_that_falls_silent_is_noticed_and_replaced(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R4")
    pings = {"ping_interval_seconds": INTERVAL, "ping_timeout_seconds": TIMEOUT}
    async with stack(tmp_path, sandbox_settings=pings) as running:
        identity = await running.add()
        await running.online()
        assert (await running.ask(identity, "before"))[0].content == "Echo: before"
        running.sandbox.faults.hang()
        figures.faults += 1
        began = time.monotonic()
        reason = await running.state(identity, AgentState.BACKOFF, AgentState.CONNECTING, AgentState.AUTHENTICATING)
        assert "silent" in reason or "ping" in reason or not reason
        assert time.monotonic() - began < INTERVAL + TIMEOUT + 5
        assert running.service.fleet.states().get(AgentState.ONLINE, 0) == 0
        assert b'supervisor_agents{state="online"} 0.0' in b"".join(running.service.metrics.slices("")[0])
        running.sandbox.faults.clear()
        healed = time.monotonic()
        await running.online()
        figures.recovered(time.monotonic() - healed)
        answers = [reply.content for reply in await running.ask(identity, "after")]
        figures.answers(["Echo: after"], answers)
    assert (figures.lost, figures.doubled) == (0, 0)
