"""R28: nobody reads what the supervisor writes, or it goes nowhere; nothing waits, and lost lines are told."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.sandbox import Sandbox, SandboxUser
from tests.support.processes import SECONDS, SupervisorProcess, supervisor_process
from tests.support.reliability import Case
from tests.support.stack import agent_id

#: Every way in which a handler's code comes to write, more than any pipe or queue holds.
HANDLER = """
import asyncio, logging, sys, threading, warnings

library = logging.getLogger("some.library")

class Finalised:
    def __del__(self):
        raise RuntimeError("x" * 100_000)

def shout():
    print("x" * 1_000_000)
    print("x" * 1_000_000, file=sys.stderr)
    raise RuntimeError("y" * 100_000)

async def on_message(message, ctx):
    for _ in range(200):
        ctx.log.info("own_line", text="x" * 400)
        library.warning("x" * 400)
    for _ in range(10):
        thread = threading.Thread(target=shout)
        thread.start()
        await asyncio.to_thread(thread.join)
        Finalised()
        sys.stderr.write("z" * 100_000 + "\\n")
        sys.stdout.flush()
    return f"Echo: {message.content}"
"""


async def converse(user: SandboxUser, count: int) -> None:
    """Say something, and get an answer, so many times."""
    conversation = await user.open(agent_id(1))
    for number in range(count):
        message = await user.say(conversation, f"{number}")
        [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        assert reply.content == f"Echo: {number}"


async def lines_lost(fleet: SupervisorProcess) -> float:
    """What the metric says."""
    return await fleet.metric("supervisor_log_lines_lost_total")


def read_on(descriptor: int) -> asyncio.Task[bytes]:
    """Read to the end, from now on."""

    def read() -> bytes:
        found = bytearray()
        while True:
            try:
                piece = os.read(descriptor, 1 << 20)
            except OSError:  # how a terminal ends
                return bytes(found)
            if not piece:
                return bytes(found)
            found += piece

    return asyncio.create_task(asyncio.to_thread(read))


async def test_r28_a_pipe_that_nobody_reads(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R28")
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, {"loud": HANDLER}) as fleet:
        await fleet.add(1, "loud")
        await fleet.start(output=writes)
        os.close(writes)
        await fleet.online()
        await converse(await sandbox.user(), 2)
        figures.messages = 2
        figures.faults = 1
        lost = await lines_lost(fleet)
        assert lost > 0
        read = read_on(reads)
        async with asyncio.timeout(SECONDS):
            await converse(await sandbox.user(), 1)
            await fleet.stop()
            written = await read
    os.close(reads)
    lines = [json.loads(line) for line in written.splitlines() if line.startswith(b"{")]
    told = [line for line in lines if line["event"] == "log_lines_lost"]
    assert told
    assert sum(line["lines"] for line in told) >= lost
    assert told[0]["level"] == "warning"
    assert lines[-1]["event"] == "stopped", "the last line is there where somebody reads"


async def test_r28_a_terminal_that_was_stopped(tmp_path: Path, case: Callable[[str], Case]) -> None:
    """Ctrl-S, and nobody comes back: it answers, and ends when it is told to."""
    figures = case("R28")
    terminal, writes = pty.openpty()
    termios.tcflow(writes, termios.TCOOFF)
    try:
        async with (
            Sandbox() as sandbox,
            supervisor_process(tmp_path, sandbox, {"loud": HANDLER}, log_format="console") as fleet,
        ):
            await fleet.add(1, "loud")
            await fleet.start(output=writes)
            await fleet.online()
            await converse(await sandbox.user(), 2)
            figures.messages = 2
            figures.faults = 1
            await fleet.stop()
    finally:
        os.close(writes)
        os.close(terminal)


@pytest.mark.parametrize("where", ["closed", "full"])
async def test_r28_output_that_goes_nowhere(tmp_path: Path, case: Callable[[str], Case], where: str) -> None:
    figures = case("R28")
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, {"loud": HANDLER}) as fleet:
        await fleet.add(1, "loud")
        if where == "closed":
            await fleet.start(output=None)
        else:
            full = os.open("/dev/full", os.O_WRONLY)
            await fleet.start(output=full)
            os.close(full)
        await fleet.online()
        await converse(await sandbox.user(), 1)
        figures.messages = 1
        figures.faults = 1
        assert (await lines_lost(fleet) > 0) == (where == "full")
        await fleet.stop()
