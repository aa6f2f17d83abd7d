"""``supervisor run`` as a process: started, killed, told to stop (docs/faults.md: R9, R15, R24)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.records import AgentRecord
from supervisor.core.states import MessageState
from supervisor.sandbox import Sandbox
from supervisor.store import Registry
from tests.support.stack import SECRET, SECRET_FILE, agent_id, is_apology

WAITING = '''
"""Answers once the file named "go" is there; says that it started in the file named "started"."""
import asyncio, os, pathlib, signal

folder = pathlib.Path(__file__).parent.parent

async def on_message(message, ctx):
    (folder / "started").touch()
    if message.content == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while not (folder / "go").exists():
        await asyncio.sleep(0.02)
    return f"done: {message.content}"
'''


class Run:
    """One ``supervisor run`` beside a sandbox."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *, wait: bool = True, **settings: str) -> None:
        """Start it; returns when the agent is online."""
        environ = {
            **os.environ,
            "SUPERVISOR_REGISTRY_URL": f"sqlite+aiosqlite:///{self.folder / 'supervisor.db'}",
            "SUPERVISOR_API_URL": self.sandbox.api_url,
            "SUPERVISOR_WS_URL": self.sandbox.ws_url,
            "SUPERVISOR_ADMIN_PORT": "0",
            "SUPERVISOR_SECRET_DIRS": str(self.folder),
            "SUPERVISOR_AGENTS_DIR": str(self.folder / "agents"),
            "SUPERVISOR_LOG_FORMAT": "json",
            **{f"SUPERVISOR_{name.upper()}": value for name, value in settings.items()},
        }
        command = (sys.executable, "-m", "supervisor", "run")
        with (self.folder / "log").open("w") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, env=environ, cwd=self.folder, stdout=log, stderr=asyncio.subprocess.STDOUT
            )
        if wait:
            await self.sandbox.wait_online(agent_id(1), timeout=20)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def end(self) -> tuple[int, str]:
        """Wait for its end; its exit code and what it logged."""
        assert self.process is not None
        async with asyncio.timeout(30):
            code = await self.process.wait()
        self.process = None
        return code, (self.folder / "log").read_text()

    async def until(self, path: str, text: str = "") -> None:
        """Wait until a file is there and holds ``text``."""
        file = self.folder / path
        async with asyncio.timeout(15):
            while not (file.exists() and text in file.read_text()):
                await asyncio.sleep(0.01)

    async def states(self) -> list[MessageState]:
        """The states of the journal's messages, oldest first, once no supervisor runs."""
        registry = await Registry.open(f"sqlite+aiosqlite:///{self.folder / 'supervisor.db'}")
        try:
            return [row.state for row in sorted(await registry.journal.messages(), key=lambda row: row.id)]
        finally:
            await registry.close()


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """A registry with one agent, ready to be run."""
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "waiting.py").write_text(WAITING)
    (tmp_path / SECRET_FILE).write_text(SECRET)
    registry = await Registry.open(f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}", upgrade=True)
    await registry.add_agent(AgentRecord(agent_id(1), "waiting", f"file:{tmp_path / SECRET_FILE}"))
    await registry.close()
    async with Sandbox() as sandbox:
        sandbox.add_agent(agent_id(1), SECRET)
        running = Run(tmp_path, sandbox)
        yield running
        if running.process is not None:
            running.process.kill()
            await running.process.wait()


async def test_a_kill_in_the_middle_loses_nothing_and_doubles_nothing(run: Run) -> None:
    await run.start()
    user = await run.sandbox.user()
    conversation = await user.open(agent_id(1))
    first = await user.say(conversation, "one")
    await user.say(conversation, "two")
    await run.until("started")
    run.signal(signal.SIGKILL)
    await run.end()
    (run.folder / "go").touch()
    await run.start()
    replies = await user.wait_for_reply(conversation, after=first, count=2)
    assert [r.content for r in replies] == ["done: one", "done: two"]
    run.signal(signal.SIGTERM)
    code, _ = await run.end()
    assert code == 0
    assert await run.states() == [MessageState.DONE, MessageState.DONE]


async def test_a_message_that_kills_the_process_ends_as_a_dead_letter(run: Run) -> None:
    user = await run.sandbox.user()
    conversation = await user.open(agent_id(1))
    await run.start(max_attempts="2")
    fatal = await user.say(conversation, "die")
    assert (await run.end())[0] == -signal.SIGKILL
    (run.folder / "go").touch()
    # The second attempt kills it once more, perhaps before it is online again.
    await run.start(wait=False, max_attempts="2")
    assert (await run.end())[0] == -signal.SIGKILL
    await run.start(max_attempts="2")
    await user.say(conversation, "fine")
    replies = await user.wait_for_reply(conversation, after=fatal, count=2)
    assert [is_apology(r) for r in replies] == [True, False]
    assert replies[-1].content == "done: fine"
    run.signal(signal.SIGTERM)
    assert (await run.end())[0] == 0
    assert await run.states() == [MessageState.DEAD, MessageState.DONE]


async def test_sigterm_lets_running_work_finish_and_exits_0(run: Run) -> None:
    await run.start()
    user = await run.sandbox.user()
    conversation = await user.open(agent_id(1))
    message = await user.say(conversation, "one")
    await run.until("started")
    run.signal(signal.SIGTERM)
    (run.folder / "go").touch()
    [reply] = await user.wait_for_reply(conversation, after=message)
    code, log = await run.end()
    assert reply.content == "done: one"
    assert code == 0
    assert '"event": "stopped"' in log
    assert SECRET not in log
    assert "eyJ" not in log


async def test_a_second_signal_ends_the_drain_at_once(run: Run) -> None:
    await run.start()
    user = await run.sandbox.user()
    await user.say(await user.open(agent_id(1)), "one")
    await run.until("started")
    run.signal(signal.SIGTERM)
    await run.until("log", "draining")
    started = asyncio.get_running_loop().time()
    run.signal(signal.SIGTERM)
    code, _ = await run.end()
    assert asyncio.get_running_loop().time() - started < 5
    assert code == 1
    assert (await run.states())[0] in (MessageState.AVAILABLE, MessageState.RUNNING)
