"""``supervisor keys rotate``: everything under the first key, beside a supervisor that does not notice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from supervisor.core.errors import ConfigurationError, RegistryError
from supervisor.core.history import Remembered
from supervisor.core.records import AgentRecord
from supervisor.core.states import MessageState
from supervisor.settings.secrets import SecretBox, generate_key
from supervisor.store import LockInfo, Registry, rotate
from supervisor.store.history import UNDO_SECONDS
from tests.support.clock import ManualClock
from tests.support.command import InProcess, one_line
from tests.support.journaling import AGENT, add, answer, settle
from tests.support.stack import SECRET, Stack, stack

OLD, NEW, LOST = generate_key(), generate_key(), generate_key()
A1, A2, A3 = "a" * 24, "b" * 24, "c" * 24

HANDLER = """
from supervisor.handler import Handler

started = []

class Fruit(Handler):
    async def on_start(self, ctx):
        started.append(1)

    async def on_message(self, message, ctx):
        if "please fail" in message.content:
            raise RuntimeError(f"cannot stomach {message.content}")
        return f"mangosteen for {message.content}"
"""


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def stored(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as sql:
        return [value for (value,) in sql.execute(query)]


async def rotated(fleet: Stack, *options: str, keys: str) -> tuple[int, str, str]:
    """The command in a process of its own beside the running supervisor: exit code, output, errors."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "supervisor", "keys", "rotate", *options),
        env=os.environ | {"SUPERVISOR_REGISTRY_URL": fleet.settings.registry_url, "SUPERVISOR_SECRET_KEYS": keys},
        cwd=fleet.folder,
        stdout=pipe,
        stderr=pipe,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_after_a_rotation_the_old_key_can_be_dropped_and_nobody_noticed(tmp_path: Path) -> None:
    handlers = tmp_path / "handlers"
    handlers.mkdir()
    (handlers / "fruit.py").write_text(HANDLER)
    old_keys = (SecretStr(OLD),)
    async with stack(tmp_path, journal_encryption=True, secret_keys=old_keys, agents_dir=handlers) as fleet:
        identity = await fleet.add(
            handler="fruit", settings={"max_attempts": 1, "key": SecretBox([OLD]).seal("model key")}
        )
        await fleet.service.registry.update_agent(identity, secret=SecretBox([OLD]).seal(SECRET))
        await fleet.online()
        await fleet.ask(identity, "kumquat")
        await fleet.ask(identity, "please fail")

        # The running supervisor cannot read what would be written: nothing is.
        code, out, err = await rotated(fleet, keys=f"{NEW},{OLD}")
        assert (code, out) == (1, "")
        assert "runs with another first key" in one_line(err)
        await fleet.restart(secret_keys=(SecretStr(NEW), SecretStr(OLD)))
        await fleet.online()
        requests, connects = len(fleet.sandbox.token_requests), len(fleet.sandbox.connects)

        code, out, err = await rotated(fleet, "--dry-run", "--json", keys=f"{NEW},{OLD}")
        assert (code, err) == (0, "")
        planned = json.loads(out)
        assert planned["agents"] == {"renewed": 1, "current": 0, "unreadable": 0}
        assert planned["messages"]["renewed"] >= 4, "two questions, an answer and an apology"
        code, out, err = await rotated(fleet, "--json", keys=f"{NEW},{OLD}")
        assert (code, err) == (0, "")
        assert json.loads(out) == planned | {"dry_run": False}
        code, out, _ = await rotated(fleet, keys=f"{NEW},{OLD}")
        assert out.startswith("Encrypted the secrets of 0 agents and 0 messages and replies under the first")
        # The row is taken over as it is now, and neither the handler nor the connection is begun again for it.
        now = await fleet.service.registry.agent(identity)
        runner = fleet.service.fleet.runner(identity)
        await fleet.until(lambda: runner.wanted.same_content(now))
        await fleet.ask(identity, "rambutan")
        assert (len(fleet.sandbox.token_requests), len(fleet.sandbox.connects)) == (requests, connects)
        assert len(sys.modules["supervisor_agents.fruit"].started) == 1

        await fleet.restart(secret_keys=(SecretStr(NEW),))
        await fleet.online()
        [reply] = await fleet.ask(identity, "durian")
        assert reply.content == "mangosteen for durian"
        told = await fleet.service.registry.journal.messages(agent_id=identity)
        assert [row.message.content for row in told] == ["durian", "rambutan", "please fail", "kumquat"]
        [dead] = [row for row in told if row.state is MessageState.DEAD]
        assert "cannot stomach" in str(dead.error)
        assert SecretBox([NEW]).open(fleet.service.control.status(identity).settings["key"]) == "model key"


async def filled(path: Path, messages: int = 0) -> None:
    """A registry with one agent, and messages in its journal, all under the old key."""
    box = SecretBox([OLD])
    registry = await Registry.open(url_of(path), upgrade=True, cipher=box, encrypt=True)
    await registry.add_agent(AgentRecord(AGENT, "echo", box.seal(SECRET)))
    for number in range(messages):
        row = await add(registry.journal, f"k{number}", content=f"question {number}", claim=True)
        await settle(registry.journal, row, answer(f"answer {number}"))
        await registry.journal.summaries.keep(row, Remembered(f"summary {number}", row.id, 0.0))
    await registry.close()


async def test_a_rotation_that_breaks_off_loses_nothing_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    await filled(path, messages=150)
    with closing(sqlite3.connect(path)) as sql:
        sql.execute(
            "CREATE TRIGGER t BEFORE UPDATE ON inbox WHEN NEW.id = 120 BEGIN SELECT RAISE(ABORT, 'enough'); END"
        )
        sql.commit()
    ring = SecretBox([NEW, OLD])
    with pytest.raises(RegistryError, match="enough"):
        await rotate(url_of(path), ring)
    bodies = [body.removeprefix(b"fernet:") for body in stored(path, "SELECT body FROM inbox ORDER BY id")]
    assert [ring.renew(body) is None for body in bodies] == [True] * 100 + [False] * 50, "whole transactions only"
    assert all(b"question" in ring.decrypt(body) for body in bodies)
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("DROP TRIGGER t")
        sql.commit()
    done = await rotate(url_of(path), ring)
    assert (done.agents.renewed, done.agents.current) == (0, 1)
    assert (done.messages.renewed, done.messages.current, done.messages.unreadable) == (201, 100, 0)
    # Nothing is left of the old key, in the log neither.
    raw = b"".join(file.read_bytes() for file in tmp_path.glob("supervisor.db*"))
    assert bodies[-1] not in raw
    registry = await Registry.open(url_of(path), cipher=SecretBox([NEW]))
    assert len(await registry.journal.history(AGENT, "c1", 1000)) == 300
    assert await registry.journal.summaries.of(AGENT, "c1") == Remembered("summary 149", 150, 0.0)
    await registry.close()


DYING = """
import asyncio, os, signal, sys
from supervisor.store import rotate
from supervisor.settings.secrets import SecretBox

class Ring(SecretBox):
    renewed = 0

    def renew(self, sealed):
        Ring.renewed += 1
        if Ring.renewed == 130:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().renew(sealed)

asyncio.run(rotate(sys.argv[1], Ring(sys.argv[2:])))
"""


async def test_a_rotation_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    await filled(path, messages=150)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", DYING, url_of(path), NEW, OLD)
    assert await process.wait() == -signal.SIGKILL
    ring = SecretBox([NEW, OLD])
    bodies = stored(path, "SELECT body FROM inbox ORDER BY id")
    assert [ring.renew(body.removeprefix(b"fernet:")) is None for body in bodies] == [True] * 100 + [False] * 50
    # A supervisor with both keys reads all of it, before the rest is done and after.
    registry = await Registry.open(url_of(path), cipher=ring)
    assert len(await registry.journal.history(AGENT, "c1", 1000)) == 300
    await registry.close()
    done = await rotate(url_of(path), ring)
    assert (done.messages.renewed, done.messages.current, done.messages.unreadable) == (201, 100, 0)


async def test_what_somebody_changes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    await filled(path)

    class Meddled(SecretBox):
        """While the first secret is encrypted anew, somebody stores another one."""

        meddled = False

        def renew(self, sealed: bytes) -> bytes | None:
            if not self.meddled:
                self.meddled = True
                with closing(sqlite3.connect(path)) as sql:
                    sql.execute("UPDATE agents SET secret = ?", (SecretBox([OLD]).seal("another"),))
                    sql.commit()
            return super().renew(sealed)

    done = await rotate(url_of(path), Meddled([NEW, OLD]))
    assert (done.agents.renewed, done.agents.current) == (1, 0)
    [secret] = stored(path, "SELECT secret FROM agents")
    assert SecretBox([NEW]).open(secret) == "another"


def test_what_no_key_opens_is_named_and_left_while_all_else_is_done(tmp_path: Path) -> None:
    command = InProcess(tmp_path, {"SUPERVISOR_SECRET_KEYS": OLD})
    for agent in (A1, A2, A3):
        command.ok("agents", "add", agent, "--handler", "echo", "--secret-stdin", stdin=SECRET)
    path = tmp_path / "supervisor.db"
    lost = SecretBox([LOST]).seal("gone")
    with closing(sqlite3.connect(path)) as sql:
        sql.execute("UPDATE agents SET secret = ? WHERE id = ?", (lost, A2))
        sql.execute("UPDATE agents SET secret = 'fernet:nonsense', settings = 'no json' WHERE id = ?", (A3,))
        sql.execute("UPDATE agents SET secret = X'00', settings = 5 WHERE id = ?", ("none",))
        sql.commit()
    done = command("keys", "rotate", SUPERVISOR_SECRET_KEYS=f"{NEW},{OLD}")
    assert done.returncode == 1
    assert done.stdout.startswith("Encrypted the secrets of 1 agents")
    assert "dropped" not in done.stdout
    assert f"opens the secrets of 2 agents and 0 messages and replies (agents {A2}, {A3})" in one_line(done.stderr)
    first, second, third = stored(path, "SELECT secret FROM agents ORDER BY id")
    assert (second, third) == (lost, "fernet:nonsense")
    assert SecretBox([NEW]).open(first) == SECRET
    everything = done.stdout + done.stderr
    assert not [word for word in (SECRET, OLD, NEW, lost) if word in everything]


async def test_a_row_with_one_lost_key_is_renewed_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    old, lost = SecretBox([OLD]), SecretBox([LOST]).seal("gone")
    registry = await Registry.open(url_of(path), upgrade=True)
    settings = {"a": old.seal("first"), "b": lost, "c": old.seal("third")}
    await registry.add_agent(AgentRecord(A1, "echo", old.seal(SECRET), settings=settings))
    await registry.add_agent(AgentRecord(A2, "echo", lost, settings={"key": old.seal("readable")}))
    command = InProcess(tmp_path, {"SUPERVISOR_SECRET_KEYS": f"{NEW},{OLD}"})
    for options in (("--dry-run",), (), ()):
        done = await asyncio.to_thread(command, "keys", "rotate", "--json", *options)
        assert done.returncode == 1
        assert json.loads(done.stdout)["agents"] == {"renewed": 0, "current": 0, "unreadable": 2}
        assert f"opens the secrets of 2 agents and 0 messages and replies (agents {A1}, {A2})" in one_line(done.stderr)
    new = SecretBox([NEW])
    first, second = await registry.agents()
    assert [new.open(sealed) for sealed in (first.secret, first.settings["a"], first.settings["c"])] == [
        *(SECRET, "first", "third")
    ]
    assert (first.settings["b"], second.secret) == (lost, lost)
    assert new.open(second.settings["key"]) == "readable"
    await registry.close()


async def test_what_was_removed_comes_back_with_a_secret_that_the_new_key_opens(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    await filled(path)
    old = SecretBox([OLD])
    registry = await Registry.open(url_of(path))
    await registry.add_agent(AgentRecord(A1, "echo", old.seal("s3cr3t"), settings={"key": old.seal("model key")}))
    await registry.remove_agent(A1)
    done = await rotate(url_of(path), SecretBox([NEW, OLD]))
    assert (done.agents.renewed, done.agents.current) == (2, 0)
    done = await rotate(url_of(path), SecretBox([NEW, OLD]))
    assert (done.agents.renewed, done.agents.current) == (0, 2)
    restored = await registry.restore_agent(A1)
    await registry.close()
    new = SecretBox([NEW])
    assert (new.open(restored.secret), new.open(restored.settings["key"])) == ("s3cr3t", "model key")
    assert stored(path, "SELECT undo FROM agent_events WHERE undo IS NOT NULL") == []


async def test_the_secret_of_what_was_removed_is_gone_after_a_day(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    clock = ManualClock(1_000.0)
    registry = await Registry.open(url_of(path), upgrade=True, clock=clock)
    sealed = SecretBox([OLD]).seal(SECRET)
    await registry.add_agent(AgentRecord(A1, "echo", sealed))
    await registry.remove_agent(A1)
    kept = "SELECT undo FROM agent_events WHERE undo IS NOT NULL"
    await registry.history.prune(clock.now() + UNDO_SECONDS - 1)
    [undo] = stored(path, kept)
    assert sealed in undo
    await registry.history.prune(clock.now() + UNDO_SECONDS + 1)
    assert stored(path, kept) == []
    assert [event.action for event in await registry.history.of(A1, 10)] == ["removed", "added"], "it is known of still"
    await registry.close()


def test_without_keys_or_registry_it_says_so(tmp_path: Path) -> None:
    command = InProcess(tmp_path)
    done = command("keys", "rotate")
    assert (done.returncode, "supervisor keys generate" in one_line(done.stderr)) == (1, True)
    done = command("keys", "rotate", SUPERVISOR_SECRET_KEYS=NEW)
    assert (done.returncode, "There is no registry" in one_line(done.stderr)) == (1, True)


async def test_a_supervisor_without_keys_is_in_the_way_too(tmp_path: Path) -> None:
    path = tmp_path / "supervisor.db"
    running = await Registry.open(url_of(path), upgrade=True, lock=LockInfo())
    command = InProcess(tmp_path, {"SUPERVISOR_SECRET_KEYS": NEW})
    done = await asyncio.to_thread(command, "keys", "rotate")
    assert "runs with no SUPERVISOR_SECRET_KEYS" in one_line(done.stderr)
    running.announce(LockInfo(first_key=SecretBox([NEW, OLD]).first_key_id))
    assert (await asyncio.to_thread(command, "keys", "rotate")).returncode == 0
    await running.close()


def test_the_ring_refuses_what_it_cannot_open() -> None:
    with pytest.raises(ConfigurationError):
        SecretBox([NEW]).renew(b"\xff nonsense")
