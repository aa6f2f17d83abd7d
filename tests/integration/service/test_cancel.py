"""An operator sees where a handler hangs and stops its message; what was said after it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.core.states import MessageState
from supervisor.management.messages import CANCEL_REASON
from supervisor.sandbox import SandboxUser
from tests.support.command import InProcess
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, handler_module, stack

HANDLERS = {
    "hangs": '''
"""Waits for ever, in a thread, or for its next attempt, as it is told."""
import asyncio, threading

release = threading.Event()
started = []

def blocks():
    release.wait(60)

async def on_message(message, ctx):
    started.append(message.content)
    if message.content == "hang":
        await asyncio.Event().wait()
    if message.content == "swallow":
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
    if message.content == "fail":
        raise RuntimeError("not now")
    return f"fine: {message.content}"
''',
    "threads": '''
"""The same in a plain function."""
import threading

release = threading.Event()

def on_message(message, ctx):
    if message.content == "block":
        release.wait(60)
    return f"fine: {message.content}"
''',
}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    async with stack(tmp_path, agents_dir=handlers_folder(tmp_path, HANDLERS)) as running:
        await running.add(1, "hangs", settings={"max_attempts": 100})
        await running.add(2, "threads")
        await running.online(2)
        yield running
        for name in ("hangs", "threads"):
            handler_module(name).release.set()


async def number_of(fleet: Stack, content: str, *, attempts: int = 0) -> int:
    """The journal's number of what was said, once its handler has begun so often."""
    async with asyncio.timeout(20):
        while True:
            for row in await fleet.service.registry.journal.messages():
                if row.message.content == content and row.attempts >= attempts:
                    return row.id
            await asyncio.sleep(0.01)


async def open_chat(fleet: Stack, number: int) -> tuple[SandboxUser, str]:
    user = await fleet.sandbox.user()
    return user, await user.open(f"{number:024x}")


@pytest.mark.parametrize(
    ("agent", "said", "place"),
    [(1, "hang", "await asyncio.Event().wait()"), (2, "block", "release.wait(60)")],
)
async def test_a_message_that_hangs_is_seen_and_stopped_by_command(
    fleet: Stack, agent: int, said: str, place: str
) -> None:
    user, conversation = await open_chat(fleet, agent)
    await user.say(conversation, said)
    number = await number_of(fleet, said, attempts=1)
    following = await user.say(conversation, "next")
    command = InProcess(fleet.folder, {"SUPERVISOR_REGISTRY_URL": fleet.settings.registry_url})
    # The journal has it as claimed a little before its handler begins.
    await fleet.until(lambda: any(place in one.stack for one in fleet.service.control.status(f"{agent:024x}").handling))
    shown = await asyncio.to_thread(command.ok, "agents", "show", f"{agent:024x}")
    assert f"message {number} for " in shown
    assert place in shown
    cancelled = await asyncio.to_thread(command.ok, "messages", "cancel", str(number))
    assert cancelled == f"Message {number} of agent {agent:024x} cancelled\n"
    [reply] = await user.wait_for_reply(conversation, after=following)
    assert reply.content == "fine: next"
    row = await fleet.service.registry.journal.load(number)
    assert row is not None
    assert (row.state, row.error) == (MessageState.CANCELLED, CANCEL_REASON)
    handling = fleet.service.control.status(f"{agent:024x}").handling
    assert [one.left_behind for one in handling] == ([True] if said == "block" else [])
    again = await asyncio.to_thread(command, "messages", "cancel", str(number))
    assert (again.returncode, again.stderr) == (1, f"Error: Message {number} is cancelled already\n")


async def test_what_waits_behind_another_and_what_waits_for_its_next_attempt_are_cancelled(fleet: Stack) -> None:
    cancel, identity = fleet.service.control.cancel, f"{1:024x}"
    user, conversation = await open_chat(fleet, 1)
    await user.say(conversation, "fail")
    number = await number_of(fleet, "fail", attempts=1)
    await user.say(conversation, "unwanted")
    last = await user.say(conversation, "last")
    await cancel(await number_of(fleet, "unwanted"))
    await cancel(number)
    [reply] = await user.wait_for_reply(conversation, after=last)
    assert reply.content == "fine: last"
    assert "unwanted" not in handler_module("hangs").started
    await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 0)
