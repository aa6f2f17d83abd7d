"""``supervisor run --reload``: an agent follows its code as somebody writes it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from supervisor.core.records import AgentRecord
from supervisor.sandbox import Sandbox, SandboxUser
from supervisor.store import Registry
from tests.support.stack import SECRET, SECRET_FILE, agent_id

pytestmark = pytest.mark.timeout(200)

HANDLER = "from .shared import WORD\n\nasync def on_message(message, ctx):\n    return f'first {WORD}'\n"
LOADING = "async def on_message(message, ctx):\n    return await ctx.load('words:SAID')\n"
FAILING = """from supervisor.handler import Permanent

async def on_message(message, ctx):
    raise Permanent("no answer")
"""
#: Says how often it was asked since its code was loaded.
OTHER = "asked = []\n\nasync def on_message(message, ctx):\n    asked.append(1)\n    return f'asked {len(asked)}'\n"


async def answer(sandbox: Sandbox, user: SandboxUser, identity: str) -> str:
    conversation = await user.open(identity)
    message = await user.say(conversation, "hello")
    replies = await user.wait_for_reply(conversation, after=message, timeout=30)
    return replies[-1].content


async def until_it_says(sandbox: Sandbox, user: SandboxUser, identity: str, content: str) -> None:
    async with asyncio.timeout(60):
        while await answer(sandbox, user, identity) != content:
            await asyncio.sleep(0.1)


async def test_exactly_the_agents_whose_code_changed_are_reloaded(tmp_path: Path) -> None:
    handlers = tmp_path / "agents"
    handlers.mkdir()
    (handlers / "shared.py").write_text("WORD = 'word'\n")
    (handlers / "writing.py").write_text(HANDLER)
    (handlers / "other.py").write_text(OTHER)
    (handlers / "loading.py").write_text(LOADING)
    (handlers / "words.py").write_text("SAID = 'said'\n")
    (tmp_path / SECRET_FILE).write_text(SECRET)
    async with Sandbox() as sandbox:
        url = f"sqlite+aiosqlite:///{tmp_path / 'supervisor.db'}"
        registry = await Registry.open(url, upgrade=True)
        secret = f"file:{tmp_path / SECRET_FILE}"
        for number, name in ((1, "writing"), (2, "other"), (3, "loading")):
            sandbox.add_agent(agent_id(number), SECRET)
            await registry.add_agent(AgentRecord(id=agent_id(number), handler=name, secret=secret))
        await registry.close()
        environ = {
            **os.environ,
            "SUPERVISOR_REGISTRY_URL": url,
            "SUPERVISOR_API_URL": sandbox.api_url,
            "SUPERVISOR_WS_URL": sandbox.ws_url,
            "SUPERVISOR_SECRET_DIRS": str(tmp_path),
            "SUPERVISOR_ADMIN_PORT": "0",
        }
        with (tmp_path / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "supervisor", "run", "--reload"),
                cwd=tmp_path,
                env=environ,
                stdout=log,
                stderr=log,
            )
            try:
                await _play(sandbox, handlers, tmp_path / "log")
            finally:
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0, (tmp_path / "log").read_text()


async def _play(sandbox: Sandbox, handlers: Path, log: Path) -> None:
    user = await sandbox.user()
    writing, other, loading = agent_id(1), agent_id(2), agent_id(3)
    for identity in (writing, other, loading):
        await sandbox.wait_online(identity, timeout=30)
    await until_it_says(sandbox, user, writing, "first word")
    assert await answer(sandbox, user, other) == "asked 1"

    (handlers / "writing.py").write_text(HANDLER.replace("first", "second"))
    await until_it_says(sandbox, user, writing, "second word")
    # What it imports is its code as well.
    (handlers / "shared.py").write_text("WORD = 'other word'\n")
    await until_it_says(sandbox, user, writing, "second other word")

    # So is what it loads by name.
    await until_it_says(sandbox, user, loading, "said")
    (handlers / "words.py").write_text("SAID = 'said again'\n")
    await until_it_says(sandbox, user, loading, "said again")

    (handlers / "writing.py").write_text("async def on_message(message, ctx):\n    return (\n")
    async with asyncio.timeout(60):
        while "code_is_broken" not in log.read_text():
            await asyncio.sleep(0.05)
    assert "line=2" in log.read_text() or '"line":2' in log.read_text().replace(" ", "")
    assert await answer(sandbox, user, writing) == "second other word"
    (handlers / "writing.py").write_text(HANDLER.replace("first", "third") + "\nprint(nothing_of_that_name)\n")
    async with asyncio.timeout(60):
        while "code_not_reloaded" not in log.read_text():
            await asyncio.sleep(0.05)
    assert "'nothing_of_that_name' is not defined (writing.py, line 6)" in log.read_text()
    assert "renewal_failed" not in log.read_text(), "it is said once"
    assert await answer(sandbox, user, writing) == "second other word"

    (handlers / "writing.py").write_text(HANDLER.replace("first", "third"))
    await until_it_says(sandbox, user, writing, "third other word")
    # Loaded anew, it would have begun to count again.
    assert await answer(sandbox, user, other) == "asked 2"

    # Whoever writes it sees where it fails, without looking for the dead letter.
    (handlers / "writing.py").write_text(FAILING)
    async with asyncio.timeout(60):
        while 'writing.py", line 4, in on_message' not in log.read_text():
            await answer(sandbox, user, writing)
