"""The main coroutine: whatever ends its wait, the fleet is drained and the exit code says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from supervisor.sandbox import Sandbox
from supervisor.service import run_until_stopped
from supervisor.service.main import EXIT_CUT_SHORT
from tests.support.observing import captured_logs, named
from tests.support.stack import make_settings


async def test_what_ends_main_is_critical_drains_and_is_no_clean_exit(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        with captured_logs() as lines:
            running = asyncio.create_task(run_until_stopped(make_settings(tmp_path, sandbox)))
            async with asyncio.timeout(60):
                while not named(lines, "started"):
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            running.cancel()
            assert await running == EXIT_CUT_SHORT
    [line] = named(lines, "main_ended")
    assert (line["log_level"], line["reason"]) == ("critical", "CancelledError")
    assert [entry["event"] for entry in named(lines, "draining", "stopped")] == ["draining", "stopped"]
