"""Agents that are online and do not answer: shown as failing, stuck and spent wherever somebody looks."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from supervisor.core.clock import SystemClock
from supervisor.core.states import AgentState
from tests.support.command import InProcess
from tests.support.observing import handlers_folder
from tests.support.stack import Stack, agent_id, stack

FAILS = "async def on_message(message, ctx):\n    raise RuntimeError('no key')\n"
SPENDS = (
    "async def on_message(message, ctx):\n    ctx.usage(60, 0, model='m')\n    return ctx.budget().notice or 'spent'\n"
)
HANGS = "import asyncio\nasync def on_message(message, ctx):\n    await asyncio.sleep(3600)\n"
FAILING, STUCK, WELL = agent_id(1), agent_id(2), agent_id(3)


class LateClock(SystemClock):
    """A clock that is behind by so many seconds, by the wall."""

    behind = 0.0

    def now(self) -> float:
        return time.time() - self.behind


def command_beside(fleet: Stack) -> InProcess:
    settings = fleet.settings
    return InProcess(
        fleet.folder,
        {
            "SUPERVISOR_REGISTRY_URL": settings.registry_url,
            "SUPERVISOR_API_URL": settings.api_url,
            "SUPERVISOR_WS_URL": settings.ws_url,
            "SUPERVISOR_SECRET_DIRS": str(fleet.folder),
            "SUPERVISOR_AGENTS_DIR": str(settings.agents_dir),
        },
    )


async def test_an_agent_that_answers_nobody_is_no_green_one(tmp_path: Path) -> None:
    clock = LateClock()
    agents_dir = handlers_folder(tmp_path, {"fails": FAILS, "hangs": HANGS})
    async with stack(tmp_path, agents_dir=agents_dir, parts={"clock": clock}) as fleet:
        await fleet.add(1, "fails", settings={"max_attempts": 1})
        await fleet.add(2, "hangs")
        await fleet.add(3)
        await fleet.online(3)
        control = fleet.service.control
        assert (control.overview().failing, control.overview().stuck, control.overview().notices) == (0, 0, ())
        clock.behind = 720.0
        await fleet.ask(FAILING, "hello")
        user = fleet.users[0]
        await user.say(await user.open(STUCK), "anybody there?")
        await fleet.until(lambda: control.status(STUCK).handling)
        assert control.status(STUCK).trouble == "", "it may take a while"
        clock.behind = 0.0
        found = {status.id: (status.state, status.trouble) for status in control.statuses()}
        online = AgentState.ONLINE
        assert found == {FAILING: (online, "failing"), STUCK: (online, "stuck"), WELL: (online, "")}
        overview = control.overview()
        assert (overview.failing, overview.stuck) == (1, 1)
        assert overview.notices == (
            "1 agent is failing; see: supervisor agents list",
            "1 agent is stuck (oldest 12 min); see: supervisor agents list",
        )
        assert (overview.agents, overview.problems) == ({"online": 3}, ())
        await commands_tell(command_beside(fleet))
        # A pause is no trouble, and one that answers again is well.
        await control.pause(STUCK)
        await fleet.state(STUCK, AgentState.DRAINING, AgentState.PAUSED)
        (agents_dir / "fails.py").write_text("async def on_message(message, ctx):\n    return 'well again'\n")
        await control.reload(FAILING)
        await fleet.until(lambda: not control.status(FAILING).failing)
        assert (control.overview().failing, control.overview().stuck) == (0, 0)


async def test_an_agent_without_a_budget_says_so_until_the_budget_is_raised(tmp_path: Path) -> None:
    async with stack(tmp_path, agents_dir=handlers_folder(tmp_path, {"spends": SPENDS})) as fleet:
        spent = await fleet.add(1, "spends", settings={"budget_tokens": 50})
        await fleet.add(2)
        await fleet.online(2)
        await fleet.ask(spent, "hello")
        control, command = fleet.service.control, command_beside(fleet)
        shown = control.status(spent)
        reason = "its budget of today is used up (60 of 50 tokens), until 00:00 UTC"
        assert (shown.state, shown.trouble, shown.health, shown.reason) == (AgentState.ONLINE, "spent", "ok", reason)
        assert control.overview().spent == 1
        notice = "1 agent is out of budget for today; see: supervisor agents list --state spent"
        assert control.overview().notices == (notice,)
        assert "⊘ 1 spent" in await asyncio.to_thread(command.ok, "status")
        listed = (await asyncio.to_thread(command.ok, "agents", "list", "--state", "spent")).splitlines()
        assert [line.split()[1] for line in listed[1:] if line.strip()] == ["spent"]
        done = await asyncio.to_thread(command, "doctor", "--json")
        [found] = [one for one in json.loads(done.stdout)["checks"] if one["check"] == "budget"]
        assert (found["agent"], found["level"], found["text"]) == (spent, "warn", reason)
        assert "budget_tokens=" in found["advice"]
        assert done.returncode == 0, "it does what it was told"
        await fleet.service.registry.update_agent(spent, settings={"budget_tokens": 500})
        await fleet.until(lambda: control.status(spent).trouble == "")
        assert (control.status(spent).reason, control.overview().spent) == ("", 0)


async def commands_tell(command: InProcess) -> None:
    """``status`` and ``agents list`` have them on top, and ``doctor`` ends with 7."""
    status = await asyncio.to_thread(command.ok, "status")
    assert "⚠ 1 failing" in status
    assert "◷ 1 stuck" in status
    listed = (await asyncio.to_thread(command.ok, "agents", "list")).splitlines()
    assert [line.split()[1] for line in listed[1:4]] == ["failing", "stuck", "online"]
    assert "no key" in listed[1]
    assert "oldest 12 min" in listed[2]
    done = await asyncio.to_thread(command, "doctor", "--json")
    found = {one["agent"]: one["text"] for one in json.loads(done.stdout)["checks"] if one["trouble"] == 7}
    assert found == {FAILING: "failing: RuntimeError: no key", STUCK: "stuck (oldest 12 min)"}
    assert done.returncode == 7
