"""R14, R29: many writers at once; a disk that is full, a file that is locked, deleted or replaced."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from supervisor.core.errors import RegistryError
from supervisor.core.records import AgentRecord
from supervisor.messages.notices import FULL_NOTICE
from supervisor.sandbox import Sandbox
from supervisor.service import Service
from supervisor.store import Registry
from supervisor.store.sqlite import Sqlite
from tests.support.command import Command, InProcess
from tests.support.observing import Bystander, captured_logs, dropped, named, talking, until_not_ready, until_ready
from tests.support.registries import free_disk, limit_disk
from tests.support.reliability import Case
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, stack

WRITERS = 50


WRITER = """
import asyncio, sys
from supervisor.store import Registry
url, writers, turns = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

async def work(registry, number):
    for turn in range(turns):
        await registry.update_agent(f"{number + 1000:024x}", settings={"turn": turn})

async def main():
    registry = await Registry.open(url)
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*[work(registry, number) for number in range(writers)])
    await registry.close()

asyncio.run(main())
"""


async def test_r14_fifty_writers_beside_a_running_supervisor(tmp_path: Path, case: Callable[[str], Case]) -> None:
    """Each row is changed from here and from another process, in different columns: no change is lost."""
    counted, turns = case("R14 writers"), 8
    async with stack(tmp_path) as fleet:
        bystander = await Bystander.join(fleet)
        ids = [agent_id(1000 + number) for number in range(WRITERS)]
        rows = [AgentRecord(id=one, handler="echo", secret="env:AGENT_A", paused=True) for one in ids]
        await fleet.service.registry.apply(add=rows)
        command = [sys.executable, "-c", WRITER, fleet.settings.registry_url, str(WRITERS), str(turns)]
        pipe = subprocess.PIPE
        other = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == "ready\n"

        async def work(identity: str) -> None:
            for turn in range(turns):
                await fleet.service.registry.update_agent(identity, labels={"turn": str(turn)})

        async with talking(fleet.sandbox, bystander.id, counted):
            ours = asyncio.gather(*map(work, ids))
            _, errors = await asyncio.to_thread(other.communicate, "\n", 90)
            await ours
        assert (other.returncode, errors) == (0, "")
        last = [(one.settings, one.labels) for one in await fleet.service.registry.agents() if one.id in set(ids)]
        assert last == [({"turn": turns - 1}, {"turn": str(turns - 1)})] * WRITERS
        await fleet.until(
            lambda: all(fleet.service.control.status(one).labels == {"turn": str(turns - 1)} for one in ids)
        )
        await bystander.answers()
        counted.faults += 2 * WRITERS * turns
    assert (counted.lost, counted.doubled) == (0, 0)


async def test_r14_a_full_disk_under_traffic(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted = case("R14 full disk")
    async with stack(tmp_path) as fleet:
        bystander = await Bystander.join(fleet)
        async with talking(fleet.sandbox, bystander.id, counted) as sent:
            await limit_disk(fleet.service.registry, 0)
            counted.faults += 1
            await until_not_ready(fleet.service.admin_url, "disk is full")
            before = len(sent)
            await fleet.until(lambda: len(sent) > before + 50)
            bystander.is_undisturbed()
            freed = time.monotonic()
            await free_disk(fleet.service.registry)
            await until_ready(fleet.service.admin_url)
            counted.recovered(time.monotonic() - freed)
        await bystander.answers()
    assert (counted.lost, counted.doubled) == (0, 0)


async def test_r14_past_the_bound_of_its_memory_people_are_told(tmp_path: Path, case: Callable[[str], Case]) -> None:
    counted, bound = case("R14 bound"), 30
    async with stack(tmp_path, inbox_limit=bound) as fleet:
        bystander = await Bystander.join(fleet)
        await limit_disk(fleet.service.registry, 0)
        counted.faults += 1
        user = await fleet.sandbox.user()
        conversation = await user.open(bystander.id)

        def said() -> list[str]:
            return [message.content for message in fleet.sandbox.messages(conversation)]

        texts = [f"m{number} " + "x" * 5000 for number in range(3 * bound)]
        first = await user.say(conversation, texts[0])
        await until_not_ready(fleet.service.admin_url, "disk is full")
        for text in texts[1:]:
            await user.say(conversation, text)
        await fleet.until(lambda: dropped(fleet.service.metrics).get("inbox_full") == 2 * bound)
        await fleet.until(lambda: FULL_NOTICE in said())
        assert said().count(FULL_NOTICE) == 1, "one notice a minute and conversation"
        await free_disk(fleet.service.registry)
        await until_ready(fleet.service.admin_url)
        # The notice came after the first message, and counts as one of the replies.
        replies = await user.wait_for_reply(conversation, after=first, count=bound + 1, timeout=30)
        answers = [reply.content for reply in replies if reply.content != FULL_NOTICE]
        expected = [f"Echo: {text}" for text in texts[:bound]]
        counted.answers(expected, answers)
        assert answers == expected, "what was taken in is answered, in order and once"
        await bystander.answers()
    assert (counted.lost, counted.doubled) == (0, 0)


async def test_r14_a_disk_that_refuses_to_write_beneath_a_process(tmp_path: Path, case: Callable[[str], Case]) -> None:
    """The system refuses to let the journal's file grow: each commit fails at its last step."""
    counted = case("R14 write errors")
    (tmp_path / SECRET_FILE).write_text(SECRET)
    async with Sandbox() as sandbox:
        sandbox.add_agent(agent_id(1), SECRET)
        path = tmp_path / "supervisor.db"
        registry = await Registry.open(f"sqlite+aiosqlite:///{path}", upgrade=True)
        await registry.add_agent(AgentRecord(agent_id(1), "echo", f"file:{tmp_path / SECRET_FILE}"))
        await registry.close()
        names = {"REGISTRY_URL": f"sqlite+aiosqlite:///{path}", "API_URL": sandbox.api_url, "WS_URL": sandbox.ws_url}
        names |= {"ADMIN_PORT": "0", "SECRET_DIRS": str(tmp_path), "LOG_FORMAT": "json"}
        command = Command(tmp_path, {f"SUPERVISOR_{name}": value for name, value in names.items()})
        try:
            process = command.start("run")
            await sandbox.wait_online(timeout=60)
            found = await asyncio.to_thread(command.wait_for_log, "run", r'"admin": ?"([^"]+)"')
            address, limits = found[1], psutil.Process(process.pid)
            async with talking(sandbox, agent_id(1), counted) as sent:
                await sandbox.wait_until(lambda: len(sandbox.messages(sandbox.conversation_of(agent_id(1)))) > 20)
                size = Path(f"{path}-wal").stat().st_size + 4096
                limits.rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
                counted.faults += 1
                await until_not_ready(address, "input/output error")
                before = len(sent)
                await sandbox.wait_until(lambda: len(sent) > before + 50)
                healed = time.monotonic()
                limits.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                await until_ready(address)
                counted.recovered(time.monotonic() - healed)
            assert len(sandbox.connects) == 1
            assert process.poll() is None
        finally:
            # In a thread: the platform that it says goodbye to is in this one.
            await asyncio.to_thread(command.close)
        assert process.returncode == 0
    assert (counted.lost, counted.doubled) == (0, 0)


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
"""


async def lock_out(fleet: Stack, counted: Case, seconds: float) -> None:
    """Another program keeps the registry to itself for so long, under traffic."""
    bystander = await Bystander.join(fleet)
    async with talking(fleet.sandbox, bystander.id, counted):
        command = [sys.executable, "-c", LOCKER, str(fleet.folder / "supervisor.db")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdin is not None
            assert other.stdout is not None
            assert await asyncio.to_thread(other.stdout.readline) == "locked\n"
            locked = time.monotonic()
            counted.faults += 1
            # What people ask of the registry meanwhile waits too; it is told nothing of locks.
            labelling = asyncio.create_task(fleet.service.registry.update_agent(bystander.id, labels={"a": "b"}))
            await until_not_ready(fleet.service.admin_url, "locked")
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - locked)))
            bystander.is_undisturbed()
            other.stdin.write("\n")
            other.stdin.flush()
            freed = time.monotonic()
            await until_ready(fleet.service.admin_url)
            counted.recovered(time.monotonic() - freed)
            assert (await labelling).labels == {"a": "b"}
    await bystander.answers()
    assert (counted.lost, counted.doubled) == (0, 0)


async def test_r14_a_file_that_another_program_keeps_locked(tmp_path: Path, case: Callable[[str], Case]) -> None:
    # How long SQLite itself waits; the journal's own patience comes on top.
    async with stack(tmp_path, dialect=Sqlite(busy_seconds=0.3)) as fleet:
        await lock_out(fleet, case("R14 locked"), seconds=3.0)


@pytest.mark.soak
async def test_r14_a_file_that_another_program_keeps_locked_for_20_s(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    async with stack(tmp_path) as fleet:
        await lock_out(fleet, case("R14 locked 20 s"), seconds=20.0)


@pytest.mark.parametrize("how", ["deleted", "replaced", "log deleted"])
async def test_r29_a_file_that_is_lost_beneath_a_supervisor(
    tmp_path: Path, case: Callable[[str], Case], how: str
) -> None:
    """It says so within seconds, nobody works on another file beside it, and nothing that it took in is lost."""
    counted, path = case(f"R29 {how}"), tmp_path / "supervisor.db"
    with captured_logs() as log:
        async with stack(tmp_path) as fleet:
            bystander = await Bystander.join(fleet)
            async with talking(fleet.sandbox, bystander.id, counted) as sent:
                await fleet.until(lambda: len(sent) > 20)
                match how:
                    case "deleted":
                        for each in tmp_path.glob("supervisor.db*"):
                            each.unlink()
                    case "replaced":
                        (tmp_path / "new").write_bytes(b"")
                        (tmp_path / "new").replace(path)
                    case "log deleted":
                        Path(f"{path}-wal").unlink()
                harmed, counted.faults = time.monotonic(), 1
                await until_not_ready(fleet.service.admin_url, "the registry is lost")
                assert time.monotonic() - harmed < 10
                before = len(sent)
                await fleet.until(lambda: len(sent) > before + 20)
                command = InProcess(tmp_path, {"SUPERVISOR_REGISTRY_URL": fleet.settings.registry_url, "AGENT_A": "x"})
                for args in (
                    ("agents", "add", "a" * 24, "--handler", "echo", "--secret-env", "AGENT_A"),
                    ("db", "check"),
                ):
                    done = await asyncio.to_thread(command, *args)
                    assert done.returncode == 1
                    assert "stop it, which saves what it holds" in done.stderr
            await bystander.answers()
            answered = len(sent) + 1
            [line] = named(log, "registry_lost")
            assert line["log_level"] == "critical"
            await fleet.service.stop()
            [copy] = tmp_path.glob("supervisor.db.rescued-*")
            if how == "deleted":
                with pytest.raises(RegistryError, match="put that in its place"):
                    await Service.start(fleet.settings)
            # As the log said.
            path.unlink(missing_ok=True)
            copy.rename(path)
            began = time.monotonic()
            fleet.service = await Service.start(fleet.settings)
            await fleet.online()
            counted.recovered(time.monotonic() - began)
            rows = await fleet.service.registry.journal.messages(limit=10_000)
            assert len(rows) == answered, "what was taken in after the loss is there too"
            [reply] = await fleet.ask(bystander.id, "restored?")
            assert reply.content == "Echo: restored?"
    assert (counted.lost, counted.doubled) == (0, 0)
