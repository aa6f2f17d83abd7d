"""The command handler in a running supervisor, with real programs that misbehave in every way."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
import uvloop

from agents.command import Options, run
from supervisor.core.states import AgentState, MessageState
from supervisor.handler import Context
from tests.support.command import until
from tests.support.stack import Stack, is_apology, stack


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Stack]:
    """A stack whose agents may run programs."""
    async with stack(tmp_path, allow_commands=True) as running:
        yield running


def settings(code: str, **given: Any) -> dict[str, Any]:
    """A row's settings for a program in Python."""
    return {"command": [sys.executable, "-I", "-c", code], "max_attempts": 1, "output": "text", **given}


async def answer(fleet: Stack, code: str, text: str = "hello", **given: Any) -> tuple[str | None, str]:
    """What a program answers: type ("error" of an apology) and content, the last of its parts."""
    identity = await fleet.add(1, "command", settings=settings(code, **given))
    await fleet.online()
    reply = (await fleet.ask(identity, text, timeout=60))[-1]
    return "error" if is_apology(reply) else reply.type, reply.content


async def failure(fleet: Stack) -> str:
    """Why the one dead letter died, and after how many attempts."""
    [row] = await fleet.service.registry.journal.messages(states=[MessageState.DEAD])
    return f"{row.attempts}: {row.error}"


def is_gone(pid: int) -> bool:
    """Whether a process is no more, or dead and not yet collected."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_program_is_asked_in_json_and_finds_nothing_of_ours(
    fleet: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_KEY", "not-for-programs")
    code = """
import json, os, sys
asked = json.load(sys.stdin)
fds = sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1] if os.path.isdir("/proc/self/fd") else [0, 1, 2]
print(json.dumps([asked["message"]["content"], os.environ.keys() - {"LC_CTYPE"} == {"PATH", "LANG", "HOME", "TMPDIR"},
    os.getcwd() == os.path.realpath(os.environ["HOME"]), os.listdir("."), fds, os.getpid() == os.getpgid(0),
    os.getcwd()]))
"""
    identity = await fleet.add(1, "command", settings=settings(code))
    await fleet.online()
    [reply] = await fleet.ask(identity, "ä; rm -rf $HOME", timeout=60)
    said, clean, at_home, files, fds, leads, folder = json.loads(reply.content)
    assert (said, clean, at_home, files, fds, leads) == ("ä; rm -rf $HOME", True, True, [], [0, 1, 2], True)
    await fleet.until(lambda: not Path(folder).exists())


@pytest.mark.parametrize(
    ("output", "written", "said"),
    [
        ("text", "two\\nlines\\n", "two\nlines"),
        ("json", '"text"', "text"),
        ("json", '{\\n"content": "object"\\n}', "object"),
        ("ndjson", '{"content": "one"}\\n"last"', "last"),
    ],
)
async def test_outputs(fleet: Stack, output: str, written: str, said: str) -> None:
    code = f"import sys; sys.stdout.write('{written}')"
    identity = await fleet.add(1, "command", settings=settings(code, output=output))
    await fleet.online()
    replies = await fleet.ask(identity, "hello", count=2 if said == "last" else 1, timeout=60)
    assert replies[-1].content == said


@pytest.mark.parametrize(
    ("code", "given", "reason"),
    [
        ("import sys; print('half'); sys.exit('no luck')", {"max_attempts": 2}, "2: .*status 1: no luck"),
        ("import sys; print('odd', file=sys.stderr); sys.exit(65)", {"max_attempts": 2}, "1: .*status 65: odd"),
        ("import os; os.kill(os.getpid(), 15)", {}, "killed by SIGTERM"),
        ("while True: pass", {"cpu_seconds": 1, "max_attempts": 2}, "1: .*more than cpu_seconds"),
        ("x = bytearray(200_000_000); x[::4096] = x[::4096]", {"memory_bytes": 100_000_000}, "MemoryError"),
        ("while True: print('x' * 10_000)", {}, "more than 1000000 bytes"),
        ("print('{nonsense')", {"output": "json"}, "not JSON"),
    ],
    ids=["status 1", "status 65", "signal", "cpu", "memory", "output", "garbage"],
)
async def test_failures_and_bounds(fleet: Stack, code: str, given: dict[str, Any], reason: str) -> None:
    kind, _ = await answer(fleet, code, **given)
    assert kind == "error"
    assert re.search(reason, await failure(fleet), re.DOTALL)


FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(f'"{os.getpid()} {child.pid}"', flush=True)
time.sleep(600 if {waits} else 0)
"""


@pytest.mark.parametrize("how", ["time-out", "drain", "end"])
async def test_nothing_of_a_program_outlives_it(fleet: Stack, how: str) -> None:
    """Its child keeps the pipes open and would run for ten minutes."""
    code = FAMILY.replace("{waits}", str(how != "end"))
    given = {"timeout_seconds": 5} if how == "time-out" else {}
    identity = await fleet.add(1, "command", settings=settings(code, output="ndjson", **given))
    await fleet.online()
    [first, *_] = await fleet.ask(identity, "hello", timeout=60)
    pids = [int(pid) for pid in first.content.split()]
    if how == "drain":
        await fleet.service.stop(grace_seconds=0.1)
    await fleet.until(lambda: all(map(is_gone, pids)), timeout=60)


def pids_of(code: str, folder: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> list[int]:
    """What a program prints, run without a fleet; its part is process ids."""
    options = Options(command=(sys.executable, "-I", "-c", code), output="ndjson")

    async def pids() -> list[int]:
        context = cast("Context", SimpleNamespace(log=SimpleNamespace(info=lambda *_, **__: None)))
        [part] = [part async for part in run(options, b"{}", str(folder), context)]
        assert isinstance(part, str)
        return [int(pid) for pid in part.split()]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(asyncio.wait_for(pids(), 60))


def test_programs_run_and_are_killed_on_uvloop_too(tmp_path: Path) -> None:
    """The loop of ``supervisor run``; its transports are of classes of their own."""
    found = pids_of(FAMILY.replace("{waits}", "False"), tmp_path, uvloop.new_event_loop)
    until(lambda: all(map(is_gone, found)), "the end of all its processes")


LEFT_BEHIND = """
import subprocess, sys
code = "import time\\nwhile True: print(flush=True); time.sleep({pause})"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print(f'"{child.pid}"', flush=True)
"""


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("pause", ["600", "0.001"], ids=["silent", "writing"])
def test_a_child_that_left_its_group_does_not_hold_the_answer(
    tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop], pause: str
) -> None:
    """It has all three pipes, and lives for as long as it likes."""
    [child] = pids_of(LEFT_BEHIND.replace("{pause}", pause), tmp_path, loop_factory)
    # What writes into the closed pipe ends by itself.
    if not is_gone(child) and pause == "600":
        psutil.Process(child).kill()
    until(lambda: is_gone(child), "the end of the child")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="its program looks into Linux's /proc")
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_program_inherits_no_descriptor_but_its_three_pipes(
    tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with socket.socket() as ours:
        os.set_inheritable(ours.fileno(), True)
        # The listing's own descriptor is closed by then.
        code = (
            "import os\n"
            "held = [fd for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')]\n"
            "print('\"' + ' '.join(held) + '\"')"
        )
        assert sorted(pids_of(code, tmp_path, loop_factory)) == [0, 1, 2]


async def test_the_end_of_standard_error_is_logged(fleet: Stack, log: Callable[[], list[dict[str, Any]]]) -> None:
    await answer(fleet, "import sys; sys.stderr.write('x' * 100_000 + 'the end'); print('ok')")
    [line] = [line for line in log() if line["event"] == "command_stderr"]
    assert len(line["text"]) <= 4000


async def test_without_permission_the_agent_is_faulted(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add(1, "command", settings=settings("print(1)"))
        assert "SUPERVISOR_ALLOW_COMMANDS" in await fleet.state(identity, AgentState.FAULTED)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"command": []}, "command"),
        ({"command": "echo hello"}, "command"),
        ({"command": ["no-such-program"]}, "there is no program no-such-program"),
        ({"command": ["bin/agent"]}, "whole path"),
        ({"command": ["/etc/passwd"]}, "there is no program"),
        ({"cpu_seconds": 0}, "cpu_seconds"),
        ({"output": "xml"}, "output"),
    ],
)
async def test_wrong_settings_fault_the_agent(fleet: Stack, changes: dict[str, Any], reason: str) -> None:
    identity = await fleet.add(1, "command", settings=settings("print(1)") | changes)
    assert reason in await fleet.state(identity, AgentState.FAULTED)
