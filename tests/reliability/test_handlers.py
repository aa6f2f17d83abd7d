"""R12 and R13: handlers that cannot be stopped, and handlers that block their threads."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from supervisor.core.states import AgentState
from supervisor.messages.executor import CANCEL_GRACE_SECONDS
from tests.support.observing import (
    Bystander,
    captured_logs,
    figures,
    handlers_folder,
    measured_lag,
    named,
)
from tests.support.reliability import Case
from tests.support.stack import Stack, agent_id, handler_module, is_apology, stack

#: What a machine that others use too may add to a limit of the supervisor's, in seconds.
MARGIN_SECONDS = 5.0

STUBBORN = '''
"""Messages that begin with "stuck" are worked on for ever, whoever cancels it; the others are answered at once."""
import asyncio
import time

release = asyncio.Event()
started = {}

async def stick():
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            pass

async def on_message(message, ctx):
    started[message.content] = time.monotonic()
    if message.content.startswith("stuck"):
        await stick()
        return "too late"
    return f"Echo: {message.content}"
'''
STUBBORN_PARTS = (
    STUBBORN.partition("async def on_message")[0]
    + """
async def on_message(message, ctx):
    started[message.content] = time.monotonic()
    if message.content.startswith("stuck"):
        try:
            await stick()
        finally:
            await stick()
        yield "too late"
    else:
        yield f"Echo: {message.content}"
"""
)
BLOCKING = '''
"""A plain function that blocks its thread when it is told to, until it is let go."""
import threading

release = threading.Event()
blocked = []

def on_message(message, ctx):
    if message.content.startswith("block"):
        blocked.append(message.content)
        release.wait()
    return f"Echo: {message.content}"
'''
MODULES = {"stubborn": STUBBORN, "stubborn_parts": STUBBORN_PARTS, "blocking": BLOCKING}


@pytest.fixture
async def agents_dir(tmp_path: Path) -> AsyncIterator[Path]:
    """Handlers that misbehave on cue; whatever is still stuck in the end is let go, or the loop could not be closed."""
    yield handlers_folder(tmp_path, MODULES)
    for name in MODULES:
        if f"supervisor_agents.{name}" in sys.modules:
            handler_module(name).release.set()
    # One that has swallowed its cancellation ends in its next turn.
    await asyncio.sleep(0)


async def test_r12_a_handler_that_nothing_stops_while_messages_keep_coming(
    tmp_path: Path, agents_dir: Path, case: Callable[[str], Case]
) -> None:
    counted = case("R12")
    timeout = 0.5
    settings = {"timeout_seconds": timeout}
    async with stack(tmp_path, agents_dir=agents_dir) as fleet:
        agents = [await fleet.add(1, "stubborn", settings=settings)]
        agents.append(await fleet.add(2, "stubborn_parts", settings=settings))
        await fleet.online(2)
        bystander = await Bystander.join(fleet)
        with captured_logs() as log:
            began = time.monotonic()
            user = await fleet.sandbox.user()
            conversations = [await user.open(agent) for agent in agents]
            firsts = [await user.say(conversation, "stuck") for conversation in conversations]
            counted.faults += len(firsts)
            sent: list[str] = []
            while len(named(log, "handler_abandoned")) < len(agents):
                assert time.monotonic() - began < timeout + CANCEL_GRACE_SECONDS + MARGIN_SECONDS
                sent.append(f"m{len(sent)}")
                for conversation in conversations:
                    await user.say(conversation, sent[-1])
                await bystander.answers()
                await asyncio.sleep(0.05)
            reported = {entry["agent"] for entry in named(log, "handler_abandoned")}
        assert reported == set(agents)
        for agent, conversation, first in zip(agents, conversations, firsts, strict=True):
            module = handler_module(fleet.service.control.status(agent).handler)
            [apology, *replies] = await user.wait_for_reply(conversation, after=first, count=len(sent) + 1)
            assert (is_apology(apology), "took too long" in apology.content) == (True, True)
            counted.answers([f"Echo: {text}" for text in sent], [reply.content for reply in replies])
            assert [reply.content for reply in replies] == [f"Echo: {text}" for text in sent]
            assert module.started["m0"] - module.started["stuck"] < 10 + MARGIN_SECONDS
            counted.recovered(module.started["m0"] - module.started["stuck"])
            # It ends after all: what it says then nobody hears.
            module.release.set()
            pipeline = fleet.service.fleet.runner(agent).agent.pipeline
            await fleet.until(lambda pipeline=pipeline: pipeline.abandoned == 0)  # type: ignore[misc]
            said = [message.content for message in fleet.sandbox.messages(conversation)]
            assert "too late" not in said
        await bystander.answers()
    assert (counted.lost, counted.doubled) == (0, 0)


async def test_r12_as_many_as_an_agent_may_run_at_once(
    tmp_path: Path, agents_dir: Path, case: Callable[[str], Case]
) -> None:
    """Every place of the agent, and of the fleet, is taken by a handler that nothing stops: all come free again."""
    counted = case("R12 all places")
    places = 3
    given: dict[str, Any] = {
        "agents_dir": agents_dir,
        "concurrency": places,
        "agent_concurrency": places,
        "timeout_seconds": 0.3,
    }
    async with stack(tmp_path, sandbox_settings={"profile": "v2"}, **given) as fleet:
        identity = await fleet.add(1, "stubborn")
        await fleet.online()
        people = [await fleet.sandbox.user() for _ in range(places)]
        talks = [(user, await user.open(identity)) for user in people]
        for number, (user, conversation) in enumerate(talks):
            await user.say(conversation, f"stuck {number}")
        counted.faults += places
        lanes = fleet.service.fleet.runner(identity).agent.pipeline.lanes
        await fleet.until(lambda: lanes.running == places)
        began = time.monotonic()
        lasts = [await user.say(conversation, "next") for user, conversation in talks]
        for (user, conversation), last in zip(talks, lasts, strict=True):
            replies = await user.wait_for_reply(conversation, after=last, count=2, timeout=10 + MARGIN_SECONDS)
            assert is_apology(replies[0])
            counted.answers(["Echo: next"], [reply.content for reply in replies])
        counted.recovered(time.monotonic() - began)
        handler_module("stubborn").release.set()
    assert (counted.lost, counted.doubled) == (0, 0)


async def block_all_threads(folder: Path, agents_dir: Path, counted: Case, seconds: float) -> None:
    """As many plain functions block as there are threads; the loop, connects, DNS and heartbeats go on."""
    # Silence for 2 s ends a connection: less than the threads are blocked for, more than a busy machine stands still.
    threads, interval = 4, 0.5
    pings = {"ping_interval_seconds": interval, "ping_timeout_seconds": 3 * interval, "profile": "v2"}
    given: dict[str, Any] = {"agents_dir": agents_dir, "handler_threads": threads, "allowed_hosts": ("localhost",)}
    async with stack(folder, sandbox_settings=pings, **given) as fleet:
        # Each agent may have half of the threads.
        blocking = [await fleet.add(number, "blocking") for number in (1, 2)]
        await fleet.online(2)
        bystander = await Bystander.join(fleet)
        async with measured_lag() as idle:
            await fleet.until(lambda: len(idle.seconds) >= 150)
        talks = []
        for agent in blocking:
            for number in range(threads // 2):
                user = await fleet.sandbox.user()
                conversation = await user.open(agent)
                talks.append((user, conversation, await user.say(conversation, f"block {agent[-1]}-{number}")))
        module = handler_module("blocking")
        await fleet.until(lambda: len(module.blocked) == threads)
        counted.faults += threads
        connections = [fleet.service.fleet.runner(agent).agent.connection for agent in blocking]
        async with measured_lag() as lag:
            until = time.monotonic() + seconds
            number = 10
            while time.monotonic() < until:
                # A name to look up, a token, a handshake: all while every handler's thread is blocked.
                await connects_by_name(fleet, number)
                await bystander.answers()
                number += 1
                await asyncio.sleep(interval / 4)
        assert [fleet.service.fleet.runner(agent).agent.connection for agent in blocking] == connections
        ended = {
            n: v for n, v in figures(fleet.service.metrics).items() if n.startswith("supervisor_disconnects_total")
        }
        assert ended
        assert not any(ended.values())
        assert len(fleet.sandbox.connects) == 3 + number - 10
        quiet, strained = idle.percentile(0.99), lag.percentile(0.99)
        print(f"loop lag p99: idle {quiet * 1000:.1f} ms, blocked {strained * 1000:.1f} ms; {number - 10} connects")
        # A machine that is late anyway is no fault of the threads'.
        assert strained < max(0.25, 5 * quiet)
        module.release.set()
        for user, conversation, message in talks:
            [reply] = await user.wait_for_reply(conversation, after=message)
            counted.answers([reply.content], [reply.content])
            assert reply.content.startswith("Echo: block")


async def connects_by_name(fleet: Stack, number: int) -> None:
    """One more agent comes online, at an address whose name has to be looked up."""
    port = urlsplit(fleet.sandbox.api_url).port
    urls = {"api_url": fleet.sandbox.api_url, "ws_url": fleet.sandbox.ws_url}
    by_name = {name: url.replace(f"127.0.0.1:{port}", f"localhost:{port}") for name, url in urls.items()}
    await fleet.add(number, settings=by_name)
    await fleet.until(lambda: any(status.id == agent_id(number) for status in fleet.service.control.statuses()))
    await fleet.state(agent_id(number), AgentState.ONLINE)


async def test_r13_plain_functions_block_every_thread(
    tmp_path: Path, agents_dir: Path, case: Callable[[str], Case]
) -> None:
    await block_all_threads(tmp_path, agents_dir, case("R13"), seconds=3.0)


@pytest.mark.soak
@pytest.mark.timeout(200)
async def test_r13_plain_functions_block_every_thread_for_a_minute(
    tmp_path: Path, agents_dir: Path, case: Callable[[str], Case]
) -> None:
    await block_all_threads(tmp_path, agents_dir, case("R13 60 s"), seconds=60.0)
