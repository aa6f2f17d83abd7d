"""R26: whatever ends the fleet, or holds it up: the process ends by itself, in time, and the next one says why."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.sandbox import Sandbox, SandboxUser
from supervisor.store import lock_holder
from supervisor.store.sqlite.lock import sidecar
from tests.support.observing import until_not_ready
from tests.support.processes import SECONDS, SupervisorProcess, supervisor_process
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
#: What a handler begins that nothing ends.
ENDLESS = {
    "a thread": "threading.Thread(target=time.sleep, args=(600,)).start()",
    "the loop's executor": "asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)",
    "a task": "tasks.append(asyncio.create_task(deaf()))",
}
BEGINS = """
import asyncio, threading, time

tasks = []

async def deaf():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

async def on_message(message, ctx):
    {begin}
    return "begun"
"""
#: Ends the main task past all guards, as a defect of ours would.
ENDS_MAIN = """
import asyncio, gc

async def on_message(message, ctx):
    gc.unfreeze()
    tasks = [one for one in gc.get_objects() if isinstance(one, asyncio.Task)]
    [main] = [task for task in tasks if task.get_name() == "main"]
    main._fut_waiter.set_exception(RuntimeError("a defect"))
    while not marked("asked"):
        await asyncio.sleep(0.01)
    return "the last word"
"""
NEVER_STOPS = """
import asyncio
from supervisor.handler import Handler

class NeverStops(Handler):
    async def on_stop(self, ctx):
        mark("stopping")
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass

    async def on_message(self, message, ctx):
        return "here"
"""
CRASHES = """
import ctypes

async def on_message(message, ctx):
    if not marked("crashed"):
        mark("crashed")
        ctypes.string_at(0)
    return "after it"
"""
INTERRUPTS = """
import _thread, asyncio, threading

async def on_message(message, ctx):
    if message.content == "thread":
        thread = threading.Thread(target=_thread.interrupt_main)
        thread.start()
        thread.join()
    return f"Echo: {message.content}"
"""


@asynccontextmanager
async def talk(
    folder: Path, name: str, code: str, **settings: Any
) -> AsyncIterator[tuple[SupervisorProcess, SandboxUser, str]]:
    """A supervisor whose one agent, of that handler, is online, and a person in a conversation with it."""
    async with Sandbox() as sandbox, supervisor_process(folder, sandbox, {name: code}, **settings) as fleet:
        await fleet.add(1, name)
        await fleet.start()
        await fleet.online()
        user = await sandbox.user()
        yield fleet, user, await user.open(agent_id(1))


def failed_runs(fleet: SupervisorProcess) -> list[dict[str, Any]]:
    """What each start has said of the run before it."""
    lines = [json.loads(line) for line in fleet.log.splitlines() if line.startswith("{")]
    found = [line for line in lines if line["event"] == "last_run_failed"]
    assert {line["level"] for line in found} <= {"critical"}
    return found


@pytest.mark.parametrize("how", BLOCKS)
async def test_r26_a_loop_that_stands_ends_the_process(tmp_path: Path, case: Callable[[str], Case], how: str) -> None:
    figures = case(f"R26 {how}")
    block = BLOCKS[how]
    async with talk(tmp_path, "blocks", HANDLER.format(block=block), stall_seconds=5) as (fleet, user, conversation):
        began = asyncio.get_running_loop().time()
        message = await user.say(conversation, "stand still")
        assert await fleet.end() == 1
        figures.faults, figures.messages = 1, 1
        figures.recovered(asyncio.get_running_loop().time() - began)
        assert "most recent call first" in fleet.log
        assert "blocks.py" in fleet.log
        assert not failed_runs(fleet)
        await fleet.start()
        [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        assert reply.content == "Echo: stand still"
        [told] = failed_runs(fleet)
        assert told["reason"].startswith("stalled")
        assert "blocks.py" in told["stack"]
        await fleet.stop()


async def test_r26_the_next_start_says_that_the_last_run_was_killed(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R26 killed")
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, {}) as fleet:
        await fleet.add(1, "echo")
        for start in range(2):
            await fleet.start()
            await fleet.online()
            assert not failed_runs(fleet), "neither after no run nor after one that ended well"
            await (fleet.kill() if start else fleet.stop())
        figures.faults = 1
        # Whoever only reads, or changes a row, is not told, and takes nothing away.
        await fleet.command("agents", "list")
        await fleet.start()
        await fleet.online()
        [told] = failed_runs(fleet)
        assert told["reason"].startswith("killed")
        assert {"pid", "host", "version", "began", "last_write"} <= told.keys()
        await fleet.stop()
        await fleet.start()
        await fleet.online()
        assert len(failed_runs(fleet)) == 1, "once"
        await fleet.stop()


async def test_r26_what_ends_the_main_coroutine_drains_and_is_told_at_the_next_start(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R26 main")
    async with talk(tmp_path, "ends", ENDS_MAIN) as (fleet, user, conversation):
        message = await user.say(conversation, "end it")
        figures.faults, figures.messages = 1, 1
        holder = lock_holder(f"sqlite:///{fleet.database}")
        assert holder is not None
        await until_not_ready(holder.address, "main_ended: RuntimeError: a defect")
        async with aiohttp.ClientSession() as session, session.get(f"{holder.address}/livez") as answer:
            assert (answer.status, await answer.json()) == (
                503,
                {"alive": False, "problems": ["main_ended: RuntimeError: a defect"]},
            )
        fleet.mark("asked")
        [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        assert reply.content == "the last word"
        assert await fleet.end() == 1
        assert '"event": "main_ended"' in fleet.log
        assert '"event": "stopped"' in fleet.log
        await fleet.start()
        await fleet.online()
        [told] = failed_runs(fleet)
        assert told["reason"] == "main_ended: RuntimeError: a defect"
        await fleet.stop()


@pytest.mark.parametrize("what", ENDLESS)
async def test_r26_what_a_handler_began_and_nothing_ends_holds_no_end_up(
    tmp_path: Path, case: Callable[[str], Case], what: str
) -> None:
    figures = case(f"R26 {what}")
    begin = ENDLESS[what]
    async with talk(tmp_path, "begins", BEGINS.format(begin=begin), drain_seconds=1) as (fleet, user, conversation):
        message = await user.say(conversation, "begin")
        [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        assert reply.content == "begun"
        figures.faults, figures.messages = 1, 1
        began = asyncio.get_running_loop().time()
        await fleet.stop()
        figures.recovered(asyncio.get_running_loop().time() - began)
        assert '"event": "stopped"' in fleet.log
        await fleet.start()
        await fleet.online()
        assert not failed_runs(fleet), "it had ended well"
        await fleet.stop()


async def test_r26_a_hook_that_swallows_its_cancellation_holds_no_end_up(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R26 hook")
    async with (
        Sandbox() as sandbox,
        supervisor_process(tmp_path, sandbox, {"never_stops": NEVER_STOPS}, drain_seconds=1) as fleet,
    ):
        await fleet.add(1, "never_stops")
        await fleet.start()
        await fleet.online()
        figures.faults = 1
        began = asyncio.get_running_loop().time()
        fleet.signal(signal.SIGTERM)
        assert await fleet.end() in (0, 1)
        figures.recovered(asyncio.get_running_loop().time() - began)
        assert fleet.marks("stopping")
        assert '"event": "stopped"' in fleet.log
        await fleet.start()
        await fleet.online()
        assert not failed_runs(fleet)
        await fleet.kill()


async def test_r26_a_crash_within_c_is_told_at_the_next_start(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R26 crash")
    async with talk(tmp_path, "crashes", CRASHES) as (fleet, user, conversation):
        message = await user.say(conversation, "crash")
        assert await fleet.end() == -signal.SIGSEGV
        figures.faults, figures.messages = 1, 1
        await fleet.start()
        [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        assert reply.content == "after it"
        [told] = failed_runs(fleet)
        assert told["reason"].startswith("crashed: Segmentation fault")
        assert "crashes.py" in told["stack"]
        [handled] = told["handled"]
        assert (handled["agent"], handled["handler"], handled["attempt"]) == (agent_id(1), "crashes", 1)
        await fleet.stop()


async def test_r26_sigterm_ends_a_start_that_waits_for_the_database(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R26 start")
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, {}) as fleet:
        await fleet.add(1, "echo")
        with closing(sqlite3.connect(fleet.database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await fleet.start()
            await fleet.until(lambda: sidecar(fleet.database).exists() and sidecar(fleet.database).read_bytes(), "lock")
            figures.faults = 1
            began = asyncio.get_running_loop().time()
            fleet.signal(signal.SIGTERM)
            assert await fleet.end() == 0
            figures.recovered(asyncio.get_running_loop().time() - began)
        assert "a signal came during the start" in fleet.log
        await fleet.start()
        await fleet.online()
        await fleet.stop()


async def test_r26_sigterm_ends_a_start_at_any_moment(tmp_path: Path, case: Callable[[str], Case]) -> None:
    figures = case("R26 moments")
    async with Sandbox() as sandbox, supervisor_process(tmp_path, sandbox, {}) as fleet:
        await fleet.add(1, "echo")
        held = sidecar(fleet.database)
        moments: dict[str, Callable[[], bool]] = {
            "at once": lambda: True,
            "once the registry is held": lambda: held.exists() and held.stat().st_size > 0,
            "once it is open": lambda: fleet.log.count('"event": "descriptors"') > 0,
            "once it has started": lambda: fleet.log.count('"event": "started"') > 1,
        }
        for name, moment in moments.items():
            await fleet.start()
            await fleet.until(moment, name)
            began = asyncio.get_running_loop().time()
            fleet.signal(signal.SIGTERM)
            # Before anything of ours runs the signal does what it does to every process.
            assert await fleet.end() in ((-signal.SIGTERM, 0) if name == "at once" else (0,)), name
            figures.recovered(asyncio.get_running_loop().time() - began)
            figures.faults += 1
        await fleet.start()
        await fleet.online()
        assert not failed_runs(fleet)
        await fleet.stop()


async def test_r26_a_thread_that_interrupts_main_is_its_messages_trouble(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R26 interrupt")
    async with talk(tmp_path, "interrupts", INTERRUPTS) as (fleet, user, conversation):
        for text in ("thread", "after it"):
            message = await user.say(conversation, text)
            [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
            assert reply.content == f"Echo: {text}"
        figures.faults, figures.messages = 1, 2
        assert not fleet.ended
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


@pytest.mark.parametrize("sends", ["signal.raise_signal(signal.SIGINT)", "os.kill(os.getpid(), signal.SIGTERM)"])
async def test_a_signal_that_a_handler_sends_drains_as_anybodys_does(tmp_path: Path, sends: str) -> None:
    code = f"import os, signal\n\nasync def on_message(message, ctx):\n    {sends}\n    return 'sent'\n"
    async with talk(tmp_path, "sends", code) as (fleet, user, conversation):
        message = await user.say(conversation, "send it")
        [reply] = await user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        assert reply.content == "sent"
        assert await fleet.end() == 0
        assert '"event": "stopped"' in fleet.log
