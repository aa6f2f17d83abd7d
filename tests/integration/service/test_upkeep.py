"""Bringing an online agent up to date loses nothing, hides nothing and holds nobody up."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState, MessageState
from supervisor.sandbox.world.state import AgentStatus
from tests.support.stack import SECRET, agent_id, handler_module, stack

COUNTING = '''
"""Answers with its generation; slow enough for messages to wait."""
import asyncio

async def on_message(message, ctx):
    await asyncio.sleep(0.002)
    return f"{ctx.settings.get('tag', '-')} {message.content}"
'''
WAITING = '''
"""Answers when it is let."""
import asyncio

gate = asyncio.Event()
started = []

async def on_message(message, ctx):
    started.append(message.content)
    await gate.wait()
    return f"done: {message.content}"
'''


@pytest.fixture
def agents_dir(tmp_path: Path) -> Path:
    """Handlers for these tests, and echo."""
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "counting.py").write_text(COUNTING)
    (folder / "waiting.py").write_text(WAITING)
    (folder / "echo.py").write_text("async def on_message(message, ctx):\n    return f'Echo: {message.content}'\n")
    return folder


@pytest.mark.parametrize("profile", ["v1", "v2"])
async def test_reloads_and_changes_under_traffic_lose_nothing_and_keep_the_order(
    tmp_path: Path, agents_dir: Path, profile: str
) -> None:
    async with stack(tmp_path, sandbox_settings={"profile": profile}, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(1, "counting")
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        first = await user.say(conversation, "0")
        sent = 1

        async def talk(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                await user.say(conversation, str(sent))
                sent += 1
                await asyncio.sleep(0.002)

        for change in range(6):
            talking = asyncio.create_task(talk(20))
            if change % 2:
                await fleet.service.registry.update_agent(identity, settings={"tag": f"g{change}"})
            else:
                await fleet.service.control.reload(identity)
            await talking
        replies = await user.wait_for_reply(conversation, after=first, count=sent, timeout=30)
        await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 0)
        numbers = [int(reply.content.split()[1]) for reply in replies]
        assert numbers == sorted(set(numbers)), "out of order or doubled"
        assert set(numbers) == set(range(sent)), "lost"
        assert len(fleet.sandbox.connects) >= 4, "each reload rotates the connection"


async def test_a_reload_whose_token_request_fails_leaves_the_agent_answering(tmp_path: Path, agents_dir: Path) -> None:
    async with stack(tmp_path, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(1, "counting")
        await fleet.online()
        fleet.sandbox.faults.rest("token", "status", status=503)
        (agents_dir / "counting.py").write_text("async def on_message(message, ctx):\n    return 'new code'\n")
        await fleet.service.control.reload(identity)
        await fleet.until(lambda: "503" in fleet.service.control.status(identity).reason)
        [reply] = await fleet.ask(identity, "hello?")
        assert reply.content == "new code"
        assert fleet.service.control.status(identity).state is AgentState.ONLINE
        fleet.sandbox.faults.clear()
        await fleet.until(lambda: len(fleet.sandbox.connects) == 2)
        await fleet.until(lambda: not fleet.service.control.status(identity).reason)


async def test_a_changed_address_is_tried_until_it_works(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await fleet.service.registry.update_agent(identity, settings={"ws_url": "ws://127.0.0.1:9/chat"})
        await fleet.until(lambda: "cannot renew" in fleet.service.control.status(identity).reason)
        await fleet.service.registry.update_agent(identity, settings={})
        await fleet.until(lambda: not fleet.service.control.status(identity).reason)
        [reply] = await fleet.ask(identity, "hello")
        assert reply.content == "Echo: hello"


@pytest.mark.parametrize("event", ["kick", "pause", "remove", "stop"])
async def test_a_refresh_that_hangs_hides_nothing(tmp_path: Path, event: str) -> None:
    async with stack(tmp_path, auth_concurrency=1) as fleet:
        identity, _ = await fleet.add(1), await fleet.add(2)
        await fleet.online(2)
        fleet.sandbox.faults.rest("token", "hang")
        for number in (1, 2):
            await fleet.service.control.reload(agent_id(number))
        await fleet.until(lambda: len(fleet.sandbox.token_requests) == 3)
        started = asyncio.get_running_loop().time()
        match event:
            case "kick":
                fleet.sandbox.kick(identity)
                await fleet.state(identity, AgentState.BACKOFF, AgentState.AUTHENTICATING, timeout=4)
            case "pause":
                await fleet.service.control.pause(identity)
                await fleet.state(identity, AgentState.PAUSED, timeout=4)
            case "remove":
                await fleet.service.registry.remove_agent(identity)
                await fleet.until(lambda: not fleet.sandbox.is_online(identity), timeout=4)
            case "stop":
                assert await fleet.service.stop(grace_seconds=1)
        assert asyncio.get_running_loop().time() - started < 5


async def test_a_pause_that_is_taken_back_does_not_wait_for_what_runs(tmp_path: Path, agents_dir: Path) -> None:
    async with stack(tmp_path, agents_dir=agents_dir, drain_seconds=30) as fleet:
        identity = await fleet.add(1, "waiting")
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        message = await user.say(conversation, "one")
        await fleet.until(lambda: "one" in handler_module("waiting").started)
        await fleet.service.control.pause(identity)
        await fleet.state(identity, AgentState.DRAINING)
        await fleet.service.control.resume(identity)
        await fleet.online(timeout=5)
        handler_module("waiting").gate.set()
        [reply] = await user.wait_for_reply(conversation, after=message)
        assert reply.content == "done: one"


async def test_an_agent_that_is_removed_and_added_again_starts_afresh_and_answers(
    tmp_path: Path, agents_dir: Path
) -> None:
    async with stack(tmp_path, agents_dir=agents_dir) as fleet:
        identity = await fleet.add(1, "waiting")
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await user.say(conversation, "running")
        await user.say(conversation, "queued")
        await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 1)
        await fleet.service.registry.remove_agent(identity)
        await fleet.until(lambda: not fleet.service.control.statuses())
        await fleet.add(1, "echo")
        await fleet.online(timeout=20)
        message = await user.say(conversation, "and now?")
        [reply] = await user.wait_for_reply(conversation, after=message)
        assert reply.content == "Echo: and now?"
        rows = await fleet.service.registry.journal.messages(agent_id=identity)
        states = {row.message.content: row.state for row in rows}
        assert states == {
            "running": MessageState.CANCELLED,
            "queued": MessageState.CANCELLED,
            "and now?": MessageState.DONE,
        }


SLOW_IMPORT = """
import threading

loading = True
next(thread for thread in threading.enumerate() if thread.name == "test-gate").join(60)

async def on_message(message, ctx):
    return "at last"
"""


async def test_a_slow_import_holds_up_nobody(tmp_path: Path, agents_dir: Path) -> None:
    (agents_dir / "slow_import.py").write_text(SLOW_IMPORT)
    gate = threading.Event()
    threading.Thread(target=gate.wait, name="test-gate", daemon=True).start()
    async with stack(tmp_path, agents_dir=agents_dir) as fleet:
        quick = await fleet.add(1, "echo")
        await fleet.online()
        slow = await fleet.add(2, "slow_import")
        await fleet.until(lambda: hasattr(sys.modules.get("supervisor_agents.slow_import"), "loading"))
        assert (await fleet.ask(quick, "meanwhile"))[0].content == "Echo: meanwhile"
        assert fleet.service.fleet.states()[AgentState.ONLINE] == 1
        gate.set()
        await fleet.online(2)
        assert (await fleet.ask(slow, "x"))[0].content == "at last"
        assert fleet.service.control.status(quick).state is AgentState.ONLINE


async def test_a_new_name_disturbs_nothing(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await fleet.service.registry.update_agent(identity, name="Ada", labels={"team": "x"})
        await fleet.until(lambda: fleet.service.control.status(identity).name == "Ada")
        assert fleet.service.control.status(identity).labels == {"team": "x"}
        assert len(fleet.sandbox.connects) == 1
        assert len(fleet.sandbox.token_requests) == 1


async def test_a_secret_that_is_mended_while_refused(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        (tmp_path / "wrong").write_text("wrong")
        await fleet.service.registry.update_agent(identity, secret=f"file:{tmp_path / 'wrong'}")
        assert "Invalid credentials" in await fleet.state(identity, AgentState.REJECTED)
        (tmp_path / "right").write_text(SECRET)
        await fleet.service.registry.update_agent(identity, secret=f"file:{tmp_path / 'right'}")
        await fleet.online()


@pytest.mark.parametrize(("status", "reason"), [("suspended", "401 Agent is suspended"), ("deleted", "not found")])
async def test_an_agent_that_is_stopped_on_the_platform_goes_offline_with_its_next_renewal(
    tmp_path: Path, agents_dir: Path, status: AgentStatus, reason: str
) -> None:
    """The platform leaves its socket open; people are not to talk to an agent that was stopped."""
    given: dict[str, Any] = {"agents_dir": agents_dir, "reject_initial_seconds": 0.2, "reject_cap_seconds": 0.2}
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}, **given) as fleet:
        stopped, other = await fleet.add(1), await fleet.add(2)
        await fleet.online(2)
        fleet.sandbox.agents[stopped].status = status
        assert fleet.sandbox.is_online(stopped)
        await fleet.service.control.reload(stopped)
        assert reason in await fleet.state(stopped, AgentState.REJECTED)
        await fleet.sandbox.wait_until(lambda: not fleet.sandbox.is_online(stopped))
        assert fleet.sandbox.is_online(other)
        fleet.sandbox.agents[stopped].status = "inactive"
        await fleet.online(2)
        await fleet.ask(stopped, "again")
