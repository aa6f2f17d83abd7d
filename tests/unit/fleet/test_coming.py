"""An agent that comes answers nothing before it is here, and then what its last owner left, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

from supervisor.core.states import AgentState, MessageState
from supervisor.sandbox.world.faults import Handshake, SecondSocket
from supervisor.service import Service
from tests.support import postgres
from tests.support.leases import on_its_way
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, stack

#: Answers the first message only when a file is there.
SLOW = """
import asyncio, pathlib

async def on_message(message, ctx):
    if message.content == "one":
        while not (pathlib.Path(__file__).parent / "go").exists():
            await asyncio.sleep(0.02)
    return f"answer: {message.content}"
"""


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    with postgres.new_database() as url:
        folder = handlers_folder(tmp_path, {"slow": SLOW})
        async with stack(tmp_path, registry_url=url, agents_dir=folder, lease_seconds=5) as running:
            yield running


@pytest.mark.parametrize("mode", ["refuse", "replace"])
async def test_where_the_platform_allows_one_socket_an_agent_that_has_to_go_goes_all_the_same(
    fleet: Stack, mode: Literal["refuse", "replace"]
) -> None:
    identity = await fleet.add()
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    await user.wait_for_reply(conversation, after=await user.say(conversation, "before"), timeout=20)
    fleet.sandbox.faults.set(SecondSocket(mode=mode))
    other = await Service.start(fleet.settings)
    try:
        await fleet.until(lambda: fleet.service.registry.replicas.takers)
        leaving = asyncio.create_task(fleet.service.stop())
        said = 0
        while not leaving.done():
            await user.say(conversation, f"{said}")
            said += 1
            await asyncio.sleep(0.1)
        assert await leaving
        assert other.fleet.agent_ids() == [identity], "it was handed over"
        answers = ["Echo: before", *(f"Echo: {number}" for number in range(said))]

        def echoes() -> list[str]:
            return [one.content for one in fleet.sandbox.messages(conversation) if "Echo" in one.content]

        await fleet.until(lambda: len(echoes()) >= len(answers))
        assert echoes() == answers
    finally:
        await other.stop(0.0)


async def test_what_is_said_while_the_owner_ends_its_work_is_answered_here_once_and_in_order(
    fleet: Stack, tmp_path: Path
) -> None:
    identity = await fleet.add(handler="slow")
    await fleet.online()
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    said = await user.say(conversation, "one")
    await fleet.until(lambda: fleet.service.control.status(identity).inbox.running == 1)
    other = await Service.start(fleet.settings)
    try:
        postgres.on_server(
            "UPDATE leases SET next = $1, next_at = clock_timestamp()",
            other.registry.replicas.my_id,
            url=fleet.settings.registry_url,
        )
        runner_at = other.fleet.agent_ids
        await fleet.until(lambda: runner_at() == [identity])
        coming = other.fleet.runner(identity).coming
        await fleet.until(
            lambda: postgres.on_server("SELECT ready FROM leases", url=fleet.settings.registry_url) == [(True,)]
        )
        assert coming.waits
        for text in ("two", "three"):
            await user.say(conversation, text)
        # Both have heard them: the owner has written them, and begins nothing new.
        await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 2)
        await asyncio.sleep(0.2)
        assert coming.waits, "its owner has not ended its work"
        assert other.control.status(identity).inbox.running == 0
        (tmp_path / "handlers" / "go").touch()
        replies = await user.wait_for_reply(conversation, after=said, count=3, timeout=30)
        assert [reply.content for reply in replies] == ["answer: one", "answer: two", "answer: three"]
        assert not other.fleet.runner(identity).coming.waits
        assert not fleet.service.fleet.agent_ids()
        await other.fleet.wait_online(1, 20)
        async with asyncio.timeout(10):
            while {row.state for row in await other.registry.journal.messages()} != {MessageState.DONE}:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        contents = [one.content for one in fleet.sandbox.messages(conversation)]
        assert sum(one.startswith("answer") for one in contents) == 3
    finally:
        await other.stop(0.0)


async def test_what_was_said_while_its_connection_broke_on_its_way_here_is_looked_for(fleet: Stack) -> None:
    url, identity = fleet.settings.registry_url, await on_its_way(fleet)
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)
    fleet.sandbox.faults.set(Handshake(mode="refuse"))
    fleet.sandbox.kick(identity)
    await fleet.state(identity, AgentState.BACKOFF)
    # Its owner lets go of it just then, as it may since it was told to.
    message = await user.say(conversation, "hello?")
    fleet.sandbox.faults.clear()
    await fleet.sandbox.wait_online(identity, timeout=20)
    moved = "UPDATE leases SET owner = next, next = NULL, handed = true, heard_all = true, ready = false, epoch = 2"
    postgres.on_server(moved, url=url)
    [reply] = await user.wait_for_reply(conversation, after=message, timeout=20)
    assert reply.content == "Echo: hello?"


async def test_what_was_heard_on_its_way_here_comes_between_what_was_missed_before_and_after_it(fleet: Stack) -> None:
    url, identity = fleet.settings.registry_url, await on_its_way(fleet)
    user = await fleet.sandbox.user()
    conversation = await user.open(identity)

    async def break_off() -> None:
        fleet.sandbox.faults.set(Handshake(mode="refuse"))
        fleet.sandbox.kick(identity)
        await fleet.state(identity, AgentState.BACKOFF)

    await break_off()
    message = await user.say(conversation, "missed")
    fleet.sandbox.faults.clear()
    await fleet.sandbox.wait_online(identity, timeout=20)
    await user.say(conversation, "heard")
    await break_off()
    await user.say(conversation, "missed too")
    moved = "UPDATE leases SET owner = next, next = NULL, handed = true, heard_all = true, ready = false, epoch = 2"
    postgres.on_server(moved, url=url)
    fleet.sandbox.faults.clear()
    replies = await user.wait_for_reply(conversation, after=message, count=3, timeout=20)
    assert [reply.content for reply in replies] == ["Echo: missed", "Echo: heard", "Echo: missed too"]
