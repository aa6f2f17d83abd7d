"""R25: code that is not ours raises what is no ``Exception``, ends the loop or cancels all tasks, wherever it can."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from supervisor.messages.notices import APOLOGY
from supervisor.sandbox import Sandbox, SandboxUser
from supervisor.store import lock_holder
from tests.support.processes import SECONDS, SupervisorProcess, supervisor_process
from tests.support.reliability import Case
from tests.support.stack import agent_id

#: What can be raised, by the word that asks for it: what is no ``Exception``, and one that is wild.
WAYS = '''
import asyncio, concurrent.futures, contextvars, sys, threading

class Panic(BaseException):
    """As a library in Rust raises it."""

class Unreadable(BaseException):
    def __str__(self):
        raise SystemExit(4)

class Untouchable(Exception):
    """Whoever asks it anything runs its code: a proxy of some object of another process, say."""
    def __getattribute__(self, name):
        raise SystemExit(5)

WAYS = {
    "exit": lambda: SystemExit(2),
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "group": lambda: BaseExceptionGroup("g", [SystemExit(1)]),
    "panic": Panic,
    "unreadable": Unreadable,
    "untouchable": Untouchable,
    "cancelled": asyncio.CancelledError,
}

def fail(way):
    raise WAYS[way]()

async def afail(way):
    fail(way)
'''
WORDS = ("exit", "interrupt", "generator", "group", "panic", "unreadable", "untouchable", "cancelled")
COROUTINE = (
    WAYS
    + """
class Part(str):
    def __str__(self):
        fail(self.way)
    __len__ = __eq__ = __bool__ = __iter__ = encode = strip = lambda self, *_: fail(self.way)
    __hash__ = str.__hash__

async def awaited(place, way):
    if place == "itself":
        fail(way)
    elif place == "gather":
        await asyncio.gather(afail(way))
    elif place == "wait_for":
        await asyncio.wait_for(afail(way), 5)
    elif place == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(afail(way))
    elif place == "thread":
        await asyncio.to_thread(fail, way)
    elif place == "executor":
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, fail, way)
    elif place == "part":
        part = Part("a part")
        part.way = way
        return part
    raise ValueError(place)

async def left(place, way):
    loop = asyncio.get_running_loop()
    if place == "task":
        left.kept = asyncio.create_task(afail(way))
    elif place == "callback":
        loop.call_soon(fail, way)
    elif place == "timer":
        loop.call_later(0.001, fail, way)
    elif place == "finaliser":
        async def endless():
            try:
                yield 1
                yield 2
            finally:
                fail(way)
        await anext(endless())
    elif place == "done":
        task = asyncio.create_task(asyncio.sleep(0))
        task.add_done_callback(lambda _: fail(way))
        await asyncio.wait([task])
    elif place == "foreign":
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(fail, way))
        thread.start()
        await asyncio.sleep(0.001)
    elif way == "stop":
        loop.stop()
    elif way == "factory":
        loop.set_task_factory(fail)
    elif place == "thread":
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(cancel_all, loop, way))
        thread.start()
        await asyncio.to_thread(thread.join)
    elif place == "context":
        loop.call_soon(cancel_all, loop, way, context=contextvars.Context())
        await asyncio.sleep(0)
    else:
        cancel_all(loop, way)

def cancel_all(loop, way):
    for task in asyncio.all_tasks(loop):
        if task is not asyncio.current_task(loop):
            if way == "cancel all":
                task.cancel()
            elif way == "super cancel all":
                super(type(task), task).cancel()
            else:
                asyncio.Task.cancel(task)

async def on_message(message, ctx):
    kind, place, way = message.content.split(" ", 2)
    if kind == "awaited":
        return await awaited(place, way)
    await left(place, way)
    return "fine"
"""
)
#: Finds tasks where nothing hides them, and cancels those of a name past all that guards them.
CANCELS = """
import asyncio, gc, json

def tasks(prefix=""):
    gc.unfreeze()
    every = [one for one in gc.get_objects() if isinstance(one, asyncio.Task) and not one.done()]
    return [one for one in every if one is not asyncio.current_task() and name(one).startswith(prefix)]

def name(task):
    known = task.get_name()
    return task.get_coro().__qualname__ if known.startswith("Task-") else known

async def on_message(message, ctx):
    if message.content == "names":
        return json.dumps([name(task) for task in tasks()])
    for task in tasks(message.content):
        asyncio.Task.cancel(task)
    return "cancelled"
"""
HANDLERS = {
    "coroutine": COROUTINE,
    "plain": WAYS + "\ndef on_message(message, ctx):\n    fail(message.content)\n",
    "parts": WAYS + "\nasync def on_message(message, ctx):\n    fail(message.content)\n    yield 1\n",
    "iterator": WAYS + "\ndef on_message(message, ctx):\n    fail(message.content)\n    yield 1\n",
}
AWAITED = ("itself", "gather", "wait_for", "group", "thread", "executor", "part")
LEFT = ("task", "callback", "timer", "finaliser", "done", "foreign")
#: What is aimed at the loop or at all tasks at once, from where, and what the person hears. Code of which nobody knows
#: whose it is reaches the handlers that run, its own too.
AT_ALL = (
    ("-", "stop", "fine"),
    ("-", "factory", APOLOGY),
    ("-", "cancel all", "fine"),
    ("thread", "cancel all", APOLOGY),
    ("context", "cancel all", APOLOGY),
    ("-", "class cancel all", "fine"),
    ("-", "super cancel all", "fine"),
    ("thread", "class cancel all", APOLOGY),
    ("context", "class cancel all", APOLOGY),
)
#: What an agent is made of, by the module's name: none of them can run, and no other notices.
BROKEN = {
    **{
        f"import_{word}": f"{WAYS}\nfail({word!r})\n"
        for word in ("exit", "interrupt", "panic", "unreadable", "untouchable")
    },
    **{
        f"made_{word}": f"{WAYS}\nclass Handler:\n    def __init__(self):\n        fail({word!r})\n"
        for word in ("exit", "panic")
    },
    **{
        f"start_{word}": f"""
from supervisor.handler import Handler as Base
{WAYS}
class Handler(Base):
    async def on_message(self, message, ctx):
        return "never"
    async def on_start(self, ctx):
        fail({word!r})
"""
        for word in WORDS
    },
}


@dataclass
class Trial:
    """A supervisor in a process of its own, a person, and an agent that has nothing to do with the trouble."""

    fleet: SupervisorProcess
    user: SandboxUser
    case: Case
    bystander: str

    async def says(self, agent: str, text: str) -> str:
        """What an agent answers."""
        conversation = await self.user.open(agent)
        message = await self.user.say(conversation, text)
        [reply] = await self.user.wait_for_reply(conversation, after=message, timeout=SECONDS)
        self.case.messages += 1
        return reply.content

    async def is_well(self, trouble: str) -> None:
        """The process lives and the other agent answers."""
        assert not self.fleet.ended, self.fleet.log[-3000:]
        assert await self.says(self.bystander, f"after {trouble}") == f"Echo: after {trouble}"

    def lines(self, event: str) -> list[dict[str, object]]:
        """The log's lines of an event."""
        read = [json.loads(line) for line in self.fleet.log.splitlines() if line.startswith("{")]
        return [line for line in read if line.get("event") == event]


@asynccontextmanager
async def trial(folder: Path, case: Case, handlers: dict[str, str]) -> AsyncIterator[Trial]:
    """One agent for each handler, and the bystander, who is the first."""
    async with Sandbox() as sandbox, supervisor_process(folder, sandbox, handlers) as fleet:
        bystander = await fleet.add(1, "echo")
        for number, name in enumerate(handlers, 2):
            await fleet.add(number, name, settings={"max_attempts": 1})
        await fleet.start()
        await fleet.online(bystander)
        yield Trial(fleet, await sandbox.user(), case, bystander)
        await fleet.stop()


async def test_a_message_whose_handler_raises_anything_anywhere_fails_alone(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R25 messages")
    async with trial(tmp_path, figures, HANDLERS) as tried:
        agents = {name: agent_id(number) for number, name in enumerate(HANDLERS, 2)}
        await tried.fleet.online(*agents.values())
        for name in ("plain", "parts", "iterator"):
            for way in WORDS:
                assert await tried.says(agents[name], way) == APOLOGY, (name, way)
                figures.faults += 1
            await tried.is_well(name)
        for place in AWAITED:
            for way in WORDS:
                assert await tried.says(agents["coroutine"], f"awaited {place} {way}") == APOLOGY, (place, way)
                figures.faults += 1
            await tried.is_well(place)
        for place in LEFT:
            for way in WORDS:
                assert await tried.says(agents["coroutine"], f"left {place} {way}") == "fine", (place, way)
                figures.faults += 1
            await tried.is_well(place)
        for place, way, answer in AT_ALL:
            assert await tried.says(agents["coroutine"], f"left {place} {way}") == answer, (place, way)
            figures.faults += 1
            await tried.is_well(f"{way} {place}")
        assert not tried.lines("agent_crashed")
        assert figures.faults > 40


async def test_an_agent_whose_handler_raises_anything_before_it_runs_is_faulted_alone(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R25 agents")
    async with trial(tmp_path, figures, BROKEN) as tried:
        figures.faults = len(BROKEN)
        broken = {agent_id(number) for number, _ in enumerate(BROKEN, 2)}
        await tried.fleet.until(
            lambda: broken <= {line["agent"] for line in tried.lines("agent_faulted")}, "all broken ones to say why"
        )
        await tried.is_well("the broken ones")
        assert all(line["reason"] for line in tried.lines("agent_faulted"))
        assert not tried.lines("agent_crashed")


async def test_an_import_that_never_ends_keeps_no_other_agent_offline(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    figures = case("R25 imports")
    hangs = "import time\ntime.sleep(600)\n"
    late = "def on_message(message, ctx):\n    return 'fine'\n"
    async with trial(tmp_path, figures, {"hangs": hangs, "hangs_too": hangs, "late": late}) as tried:
        figures.faults = 2
        await tried.fleet.online(agent_id(4))
        assert await tried.says(agent_id(4), "are you there?") == "fine"
        await tried.is_well("the imports that hang")


async def test_whichever_task_is_cancelled_past_its_guard_all_goes_on(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    """Each task of a live supervisor in turn: what it does is begun again, and its end is what it was."""
    figures = case("R25 tasks")
    async with trial(tmp_path, figures, {"cancels": CANCELS}) as tried:
        fleet, agent = tried.fleet, agent_id(2)
        await fleet.online(agent)
        holder = lock_holder(f"sqlite:///{fleet.database}")
        assert holder is not None
        found = {name.replace(tried.bystander, agent) for name in json.loads(await tried.says(agent, "names"))}
        # That of the message itself ends the message.
        found -= {f"message {agent}", f"handler {agent}", f"typing {agent}"}
        assert {"main", f"agent {agent}", "admin server", "registry watch"} <= found
        for name in sorted(found):
            assert await tried.says(agent, name) == "cancelled", name
            figures.faults += 1
            await tried.is_well(name)
            async with aiohttp.ClientSession() as http:
                for path in ("livez", "metrics"):
                    async with http.get(f"{holder.address}/{path}") as answer:
                        assert answer.status == 200, (name, path, await answer.text())
        await fleet.command("agents", "pause", tried.bystander)
        await fleet.until(lambda: tried.lines("agent_paused"), "a change of the registry to be noticed")
        await fleet.command("agents", "resume", tried.bystander)
        await tried.is_well("all of them")
        assert not tried.lines("main_ended")
