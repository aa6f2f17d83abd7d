"""R36: the platform's database, Redis or proxy is away; when it is back everybody is answered, and at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox import Sandbox
from tests.support.reliability import Case
from tests.support.stack import Stack, handler_module
from tests.support.traces import add_fleet, watched_stack

GATED = '''
"""Answers once its gate is open."""
import asyncio

gate = asyncio.Event()
given = []

async def on_message(message, ctx):
    given.append(message.content)
    await gate.wait()
    return f"Echo: {message.content}"
'''
#: How long an attempt may last that began while the platform was ill.
HANDSHAKE_SECONDS = 2.0
#: Within so many seconds of the first send that succeeds everybody is answered. After a moment no retry of its own is
#: due so soon, and after a longer time few are.
MOMENT_SECONDS, LATER_SECONDS = 3.0, 10.0
#: Longer than the wait for the next attempt in any of these tests, but for those that are called.
PROBE_SECONDS = 90.0
RATE = 50.0


def break_database(sandbox: Sandbox) -> None:
    """Sockets stay open, and whatever needs the database fails."""
    sandbox.faults.refuse_sends(error="Database is down")
    sandbox.faults.connect("kick")
    sandbox.faults.rest("all", status=500)


def break_redis(sandbox: Sandbox) -> None:
    """Sockets go, new ones are not registered, and where agents were is forgotten."""
    sandbox.faults.no_presence()
    sandbox.presence.forget()
    sandbox.cut()


def break_proxy(sandbox: Sandbox) -> None:
    """Nothing gets through."""
    sandbox.faults.handshake("refuse", status=502)
    sandbox.faults.rest("all", "html", status=502)
    sandbox.cut()


BREAKS: dict[str, Callable[[Sandbox], None]] = {
    "database": break_database,
    "Redis": break_redis,
    "proxy": break_proxy,
}


def stored(fleet: Stack, conversations: list[str]) -> Iterator[tuple[str, float]]:
    """What agents have said in some conversations, and when that was kept."""
    for conversation in conversations:
        for message in fleet.sandbox.messages(conversation):
            if message.sender_kind == "agent":
                yield message.content, datetime.fromisoformat(message.created_at).timestamp()


async def away(folder: Path, figures: Case, name: str, agents: int, seconds: float, **given: Any) -> None:
    """Let people wait for their answers, break the platform for so long, and see how they get them.

    Without ``seconds`` somebody speaks to one more agent when the platform is back: before any retry is due.
    """
    (folder / "agents").mkdir()
    (folder / "agents" / "gated.py").write_text(GATED)
    bounds = {"handshake_seconds": HANDSHAKE_SECONDS, "connect_rate": RATE, "agents_dir": folder / "agents", **given}
    async with watched_stack(folder, sandbox_settings={"profile": "v2"}, **bounds) as fleet:
        identities = await add_fleet(fleet, agents, handler="gated")
        other = await fleet.add(agents + 1, handler="gated")
        await fleet.online(agents + 1)
        user = await fleet.sandbox.user()
        conversations = [await user.open(identity) for identity in identities]
        asked = [f"question {number}" for number in range(agents)]
        for conversation, text in zip(conversations, asked, strict=True):
            await user.say(conversation, text)
        await fleet.until(lambda: len(handler_module("gated").given) == agents, 30)
        BREAKS[name](fleet.sandbox)
        handler_module("gated").gate.set()
        overview, states = fleet.service.control.overview, fleet.service.fleet.states
        # Its answers were refused, or there is nobody to send them.
        await fleet.until(lambda: overview().undelivered == agents or not states().get(AgentState.ONLINE), 30)
        await fleet.until(lambda: sum(one.undelivered for one in fleet.service.control.statuses()) in (0, agents), 30)
        assert not list(stored(fleet, conversations))
        await asyncio.sleep(seconds)
        figures.faults = sum(fleet.sandbox.faults.struck.values())
        fleet.sandbox.faults.clear()
        healed = time.time()
        if not seconds and name == "database":
            await fleet.ask(other, "is anybody there?")
        await fleet.until(lambda: len(list(stored(fleet, conversations))) >= agents, PROBE_SECONDS + LATER_SECONDS)
        answers = list(stored(fleet, conversations))
        spoken = [one.id for one in fleet.sandbox.conversations.values()]
        first, last = min(at for _, at in stored(fleet, spoken)), max(at for _, at in answers)
        figures.recovered(last - first)
        figures.answers([f"Echo: {text}" for text in asked], [text for text, _ in answers])
        print(f"the first answer {first - healed:.1f} s after the end, the last {last - first:.1f} s after the first")
        # Those whose attempt was under way when the platform came back end it first.
        hangs = HANDSHAKE_SECONDS if name == "Redis" else 0.0
        # A connect and a send of each take their turns.
        within = LATER_SECONDS if seconds else MOMENT_SECONDS
        assert last - first <= within + hangs + 2 * agents / RATE
        await fleet.online(agents + 1, 30)
        await fleet.until(lambda: overview().undelivered == 0)
    assert (figures.lost, figures.doubled) == (0, 0)


@pytest.mark.parametrize("name", BREAKS)
async def test_r36_the_platform_is_away_for_a_moment(tmp_path: Path, case: Callable[[str], Case], name: str) -> None:
    """Each agent and each reply would wait longer than the test lets them, by itself."""
    backoff = {"backoff_initial_seconds": 20.0, "backoff_cap_seconds": 20.0}
    await away(tmp_path, case(f"R36 {name}"), name, 12, 0.0, **backoff)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [20.0, 300.0], ids=["20 s", "5 min"])
@pytest.mark.parametrize("name", BREAKS)
async def test_r36_the_platform_is_away(tmp_path: Path, case: Callable[[str], Case], name: str, seconds: float) -> None:
    backoff = {"backoff_initial_seconds": 1.0, "backoff_cap_seconds": 60.0}
    await away(tmp_path, case(f"R36 {name} {seconds:g} s"), name, 50, seconds, **backoff)
