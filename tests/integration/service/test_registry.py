"""A running supervisor follows its registry, whoever writes it (docs/faults.md#r21)."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest

from supervisor.core.errors import RegistryLockedError
from supervisor.core.states import AgentState, MessageState
from supervisor.service import Service
from tests.support.observing import captured_logs, handlers_folder, named
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, stack


def sql(fleet: Stack, statement: str, *values: object) -> None:
    """Write the registry as anybody might: with another program, in raw SQL."""
    with sqlite3.connect(fleet.folder / "supervisor.db", timeout=5) as database:
        database.execute(statement, values)
    database.close()


async def test_a_row_added_in_raw_sql_is_online_within_a_second(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        fleet.sandbox.add_agent(agent_id(7), SECRET)
        sql(
            fleet,
            "INSERT INTO agents (id, handler, secret) VALUES (?, 'echo', ?)",
            agent_id(7),
            f"file:{tmp_path / SECRET_FILE}",
        )
        await fleet.online(timeout=5)
        [reply] = await fleet.ask(agent_id(7), "hello")
        assert reply.content == "Echo: hello"


async def test_a_changed_handler_is_used_from_the_next_message_on(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await fleet.ask(identity, "one")
        sql(fleet, "UPDATE agents SET handler = 'tour' WHERE id = ?", identity)
        await fleet.until(lambda: fleet.service.control.status(identity).handler == "tour")
        await fleet.until(lambda: fleet.service.fleet.runner(identity).agent.record.handler == "tour")
        [reply] = await fleet.ask(identity, "two")
        assert reply.content.startswith("You said: two")
        assert len(fleet.sandbox.connects) == 1, "the connection stays"


async def test_changed_settings_are_taken_over(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        sql(fleet, """UPDATE agents SET settings = '{"concurrency": 9}' WHERE id = ?""", identity)
        agent = fleet.service.fleet.runner(identity).agent
        await fleet.until(lambda: agent.profile.settings.concurrency == 9)
        await fleet.ask(identity, "still here")


async def test_pause_and_resume(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        sql(fleet, "UPDATE agents SET paused = 1 WHERE id = ?", identity)
        await fleet.state(identity, AgentState.PAUSED)
        assert not fleet.sandbox.is_online(identity)
        sql(fleet, "UPDATE agents SET paused = 0 WHERE id = ?", identity)
        await fleet.online()
        [reply] = await fleet.ask(identity, "back?")
        assert reply.content == "Echo: back?"


async def test_a_removed_agent_leaves_nothing(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        identity = await fleet.add()
        await fleet.online()
        await fleet.ask(identity, "one")
        sql(fleet, "DELETE FROM agents WHERE id = ?", identity)
        await fleet.until(lambda: not fleet.service.control.statuses())
        await fleet.until(lambda: not fleet.sandbox.is_online(identity))
        await fleet.until(lambda: not [t for t in asyncio.all_tasks() if identity in t.get_name()])
        body, _ = fleet.service.metrics.render("text/plain")
        assert identity.encode() not in body


async def test_reload_reads_code_and_instruction_anew_without_going_offline(tmp_path: Path) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "changing.py").write_text("async def on_message(message, ctx):\n    return 'old'\n")
    async with stack(tmp_path, agents_dir=folder) as fleet:
        identity = await fleet.add(handler="changing")
        await fleet.online()
        assert (await fleet.ask(identity, "x"))[0].content == "old"
        code = "async def on_message(message, ctx):\n    return ctx.instruction.system_prompt + ' and newer'\n"
        (folder / "changing.py").write_text(code)
        fleet.sandbox.add_agent(identity, SECRET, instruction="Be kind")
        await fleet.service.control.reload(identity)
        await fleet.until(lambda: len(fleet.sandbox.connects) == 2)
        await fleet.until(lambda: len(fleet.sandbox.sockets_of(identity)) == 1)
        assert (await fleet.ask(identity, "x"))[0].content == "Be kind and newer"


SPELLS = """
SETTINGS = {"city": {"type": "string"}, "days": {"type": "integer"}}
async def on_message(message, ctx):
    return ctx.settings.get("city", "no city")
"""


async def test_a_slip_that_stands_in_a_row_is_told_and_keeps_nobody_from_answering(tmp_path: Path) -> None:
    """Rows are older than the check, or written in SQL."""
    folder = handlers_folder(tmp_path, {"spells": SPELLS})
    slip, misfit = (
        "settings: there is no citty; did you mean city?",
        "settings: days must be a whole number, and is text",
    )
    async with stack(tmp_path, agents_dir=folder) as fleet:
        with captured_logs() as log:
            identity = await fleet.add(handler="spells", settings={"citty": "Rome", "days": "many"})
            await fleet.online()
            assert (await fleet.ask(identity, "x"))[0].content == "no city"
        status = fleet.service.control.status(identity)
        assert (status.notes, status.health) == ((slip, misfit), "ok")
        assert [entry["reason"] for entry in named(log, "setting_unknown")] == [slip]
        assert [entry["reason"] for entry in named(log, "setting_unfit")] == [misfit]
        sql(fleet, """UPDATE agents SET settings = '{"city": "Rome"}' WHERE id = ?""", identity)
        await fleet.until(lambda: fleet.service.control.status(identity).notes == ())


BROKEN = {
    "unknown handler": ("handler = 'ecko'", "did you mean echo"),
    "settings that are no JSON": ("settings = '{oops'", "settings"),
    "a setting of the wrong kind": ("""settings = '{"concurrency": "many"}'""", "concurrency"),
    "a host that is not allowed": ("""settings = '{"api_url": "https://evil.example/x"}'""", "ALLOWED_HOSTS"),
    "a secret in the clear": ("secret = 'hunter2'", "env:"),
    "a variable outside the prefixes": ("secret = 'env:HOME'", "AGENT_"),
    "a file outside the folders": ("secret = 'file:/etc/passwd'", "SECRET_DIRS"),
    "a package that is not allowed": ("handler = 'os.path:join'", "HANDLER_PACKAGES"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_nonsense_in_a_row_faults_that_agent_only_and_heals(tmp_path: Path, name: str) -> None:
    change, hint = BROKEN[name]
    async with stack(tmp_path) as fleet:
        identity, other = await fleet.add(1), await fleet.add(2)
        await fleet.online(2)
        sql(fleet, f"UPDATE agents SET {change} WHERE id = ?", identity)
        reason = await fleet.state(identity, AgentState.FAULTED)
        assert hint in reason
        assert "hunter2" not in reason
        assert fleet.service.control.status(other).state is AgentState.ONLINE
        sql(
            fleet,
            "UPDATE agents SET handler = 'echo', settings = '{}', secret = ? WHERE id = ?",
            f"file:{tmp_path / SECRET_FILE}",
            identity,
        )
        await fleet.online(2)
        [reply] = await fleet.ask(identity, "healed")
        assert reply.content == "Echo: healed"


async def test_a_handler_whose_start_fails_faults_its_own_agent(tmp_path: Path) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "echo.py").write_text("async def on_message(message, ctx):\n    return 'fine'\n")
    (folder / "broken.py").write_text(
        "from supervisor.handler import Handler\n"
        "class Broken(Handler):\n"
        "    def on_start(self, ctx):\n"
        "        raise OSError('no database')\n"
        "    async def on_message(self, message, ctx):\n"
        "        return 'never'\n"
    )
    async with stack(tmp_path, agents_dir=folder) as fleet:
        broken, fine = await fleet.add(1, "broken"), await fleet.add(2)
        assert "no database" in await fleet.state(broken, AgentState.FAULTED)
        await fleet.online(1)
        [reply] = await fleet.ask(fine, "x")
        assert reply.content == "fine"


async def test_a_second_supervisor_is_refused_and_told_who_holds_the_registry(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        with pytest.raises(RegistryLockedError, match=r"pid \d+") as caught:
            await Service.start(fleet.settings)
        assert fleet.service.admin_url in str(caught.value)


async def test_removal_settles_what_waits(tmp_path: Path) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "stuck.py").write_text(
        "import asyncio\nasync def on_message(message, ctx):\n    await asyncio.Event().wait()\n"
    )
    async with stack(tmp_path, agents_dir=folder) as fleet:
        identity = await fleet.add(handler="stuck")
        await fleet.online()
        user = await fleet.sandbox.user()
        conversation = await user.open(identity)
        await user.say(conversation, "one")
        await user.say(conversation, "two")
        await fleet.until(lambda: fleet.service.control.status(identity).inbox.available == 1)
        journal = fleet.service.registry.journal
        await fleet.service.registry.remove_agent(identity)
        await fleet.until(lambda: not fleet.service.control.statuses())
        async with asyncio.timeout(10):
            while {row.state for row in await journal.messages(agent_id=identity)} != {MessageState.CANCELLED}:
                await asyncio.sleep(0.01)


async def test_a_stopped_supervisor_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    async with stack(tmp_path) as fleet:
        await fleet.add(1)
        await fleet.online(1)
        await fleet.ask(agent_id(1), "hello")
    async with asyncio.timeout(30):
        # The loop's own threads end with the loop.
        while any(not one.name.startswith("asyncio") for one in set(threading.enumerate()) - before):
            await asyncio.sleep(0.01)


async def test_agents_come_and_go_without_leaving_tasks(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        await fleet.add(1)
        await fleet.online(1)

        def running() -> Counter[str]:
            return Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())  # type: ignore[union-attr]

        async def come_and_go(numbers: range) -> None:
            for number in numbers:
                await fleet.add(number)
            await fleet.online(1 + len(numbers))
            for number in numbers:
                await fleet.service.registry.remove_agent(agent_id(number))
            await fleet.until(lambda: len(fleet.service.control.statuses()) == 1)

        # Some tasks begin with the first need for them, and stay.
        await come_and_go(range(2, 4))
        before = running()
        await come_and_go(range(4, 14))
        await fleet.until(lambda: not running() - before)
