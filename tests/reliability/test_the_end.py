"""R26: the event loop stands, whatever holds it up; the process ends by itself and says where it stood."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.sandbox import Sandbox
from tests.support.processes import SECONDS, supervisor_process
from tests.support.reliability import Case
from tests.support.stack import agent_id

#: Each stands for ever the first time; the second blocks inside C, with the interpreter's lock.
BLOCKS = {
    "sleeps": "time.sleep(600)",
    "computes": "re.match('(a+)+$', 'a' * 64 + 'b')",
}
HANDLER = """
import re, time

async def on_message(message, ctx):
    if message.content == "stand still" and not marked("stood"):
        mark("stood")
        {block}
    return f"Echo: {{message.content}}"
"""


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
async def test_r26_a_loop_that_stands_ends_the_process(tmp_path: Path, case: Callable[[str], Case], block: str) -> None:
    figures = case("R26")
    async with (
        Sandbox() as sandbox,
        supervisor_process(tmp_path, sandbox, {"blocks": HANDLER.format(block=block)}, stall_seconds=1) as fleet,
    ):
        await fleet.add(1, "blocks")
        await fleet.start()
        await fleet.online()
        user = await sandbox.user()
        conversation = await user.open(agent_id(1))
        message = await user.say(conversation, "stand still")
        figures.faults, figures.messages = 1, 1
        assert await fleet.end() == 1
        assert "most recent call first" in fleet.log
        assert "blocks.py" in fleet.log
        await fleet.start()
        [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        assert reply.content == "Echo: stand still"
        await fleet.stop()


async def test_sighup_drains(tmp_path: Path) -> None:
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, {}) as fleet:
        await fleet.add(1, "echo")
        await fleet.start()
        await fleet.online()
        fleet.signal(signal.SIGHUP)
        async with asyncio.timeout(SECONDS):
            assert await fleet.end() == 0
        assert '"event": "stopped"' in fleet.log
