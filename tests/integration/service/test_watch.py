"""What watches the running service, over real sockets: outage mode, watchdogs, the bound on memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from supervisor.core.clock import Clock
from supervisor.core.states import AgentState
from supervisor.platform.hosts.probes import PROBE_SECONDS, PROBES
from supervisor.store import LockInfo
from supervisor.store.dialect.face import AgentRow
from tests.support.memory_store import Memory, MemoryDatabase
from tests.support.memory_tables import Tables
from tests.support.observing import figures
from tests.support.stack import Stack, agent_id, handler_module, stack

Log = Callable[[], list[dict[str, Any]]]
FLEET = 60
RATE = 30


def watchdog(fleet: Stack, name: str) -> float:
    return figures(fleet.service.metrics)[f'supervisor_watchdog_total{{watchdog="{name}"}}']


def named(log: Log, event: str) -> list[dict[str, Any]]:
    return [line for line in log() if line["event"] == event]


@asynccontextmanager
async def knocks(port: int) -> AsyncIterator[list[float]]:
    """A proxy where the platform was, which says that it is away: when somebody came, in monotonic seconds."""
    times: list[float] = []

    async def say_so(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        # Without an answer aiohttp would knock twice for each attempt.
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(say_so, "127.0.0.1", port, reuse_address=True):
        yield times


async def test_a_host_that_is_down_is_probed_and_its_fleet_comes_back_at_the_connect_rate(tmp_path: Path) -> None:
    bounds: dict[str, Any] = {"connect_rate": RATE, "backoff_initial_seconds": 0.2, "backoff_cap_seconds": 0.4}
    async with stack(tmp_path, **bounds) as fleet:
        for number in range(1, FLEET + 1):
            await fleet.add(number)
        await fleet.online(FLEET, timeout=60)
        await fleet.sandbox.stop()
        async with knocks(fleet.sandbox.port) as times:
            await fleet.until(
                lambda: f"down for {FLEET} agents" in "".join(fleet.service.control.overview().notices), timeout=30
            )
            began, before = time.monotonic(), len(times)
            # Several backoffs of each, which would be hundreds of attempts.
            await fleet.until(lambda: len(times) >= before + 3, timeout=30)
            seconds = time.monotonic() - began
            assert len(times) - before <= seconds / PROBE_SECONDS + PROBES + 1
            [notice] = fleet.service.control.overview().notices
            assert "wait while few probe it" in notice
            waiting = [s for s in fleet.service.control.statuses() if "waits for its turn" in s.reason]
            assert len(waiting) > FLEET - 20
            assert {s.state for s in waiting} == {AgentState.BACKOFF}
            # A person's word is heard at once, and a pause too.
            poked, paused = waiting[-1].id, waiting[-2].id
            await fleet.service.control.resume(poked)
            await fleet.state(poked, AgentState.AUTHENTICATING, AgentState.CONNECTING)
            await fleet.service.control.pause(paused)
            await fleet.state(paused, AgentState.PAUSED)
            await fleet.service.control.resume(paused)
        connects = len(fleet.sandbox.connects)
        await fleet.sandbox.start()
        await fleet.online(FLEET, timeout=60)
        assert fleet.service.control.overview().notices == ()
        back = [attempt.at for attempt in fleet.sandbox.connects[connects:]]
        assert len(back) <= FLEET + 5, "those who came back came once"
        # No window exactly: one loop runs both sides, and what waited for a turn of it is noted in a heap.
        assert back[-1] - back[0] > 0.75 * FLEET / RATE


async def test_an_agent_that_waits_for_its_turn_can_be_stopped(tmp_path: Path) -> None:
    async with stack(tmp_path) as fleet:
        for number in range(1, 21):
            await fleet.add(number)
        await fleet.online(20, timeout=20)
        await fleet.sandbox.stop()
        await fleet.until(lambda: any("waits for its turn" in s.reason for s in fleet.service.control.statuses()))
        await fleet.service.registry.remove_agent(agent_id(20))
        await fleet.until(lambda: "down for 19 agents" in "".join(fleet.service.control.overview().notices))
        async with asyncio.timeout(10):
            assert await fleet.service.stop(grace_seconds=5)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "probes"]


BLOCKING = """
import threading

release = threading.Event()

def on_message(message, ctx):
    release.wait(60)
"""


async def test_a_connection_that_falls_silent_is_counted_and_told(tmp_path: Path, log: Log) -> None:
    pings = {"ping_interval_seconds": 0.3, "ping_timeout_seconds": 0.3}
    async with stack(tmp_path, sandbox_settings=pings) as fleet:
        identity = await fleet.add()
        await fleet.online()
        assert watchdog(fleet, "connection_silent") == 0
        fleet.sandbox.faults.hang()
        await fleet.until(lambda: watchdog(fleet, "connection_silent"))
        fleet.sandbox.faults.clear()
        await fleet.until(lambda: len(fleet.sandbox.connects) >= 2)
        await fleet.state(identity, AgentState.ONLINE)
        fleet.sandbox.kick(identity)
        await fleet.until(lambda: len(fleet.sandbox.connects) >= 3)
        [line] = named(log, "connection_silent")
        assert (line["agent"], line["level"]) == (identity, "warning")
        assert watchdog(fleet, "connection_silent") == 1, "a kick is no silence"


async def test_a_handler_that_goes_on_past_its_time_is_counted(tmp_path: Path, log: Log) -> None:
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "blocking.py").write_text(BLOCKING)
    async with stack(tmp_path, agents_dir=tmp_path / "handlers") as fleet:
        identity = await fleet.add(1, "blocking", settings={"timeout_seconds": 0.2})
        await fleet.online()
        await fleet.ask(identity, "hello")
        assert watchdog(fleet, "handler_abandoned") == 1
        assert [line["agent"] for line in named(log, "handler_abandoned")] == [identity]
        handler_module("blocking").release.set()


async def test_a_side_task_that_died_is_a_problem_until_it_runs_again(tmp_path: Path, log: Log) -> None:
    async with stack(tmp_path) as fleet, aiohttp.ClientSession(fleet.service.admin_url) as http:
        deaths = iter([OSError("no such thing")])

        async def ill() -> None:
            if (error := next(deaths, None)) is not None:
                raise error
            await asyncio.Event().wait()

        fleet.service.side_tasks.start("ill", ill)
        await fleet.until(fleet.service.problems)
        async with http.get("/readyz") as answer:
            assert answer.status == 503
            assert "the side task 'ill' died: OSError" in await answer.text()
        assert "'ill' died" in fleet.service.control.overview().problems[0]
        await fleet.until(lambda: not fleet.service.problems())
        async with http.get("/readyz") as answer:
            assert answer.status == 200
        [line] = named(log, "side_task_died")
        assert "no such thing" in line["exception"]
        assert watchdog(fleet, "side_task_died") == 1
        assert not fleet.service.side_tasks.failed.done()
        await fleet.add()
        await fleet.online()


class BreakingDatabase(MemoryDatabase):
    """Once it is told, the machine's memory runs out at the next reading of all agents."""

    error: MemoryError | None = None

    async def rows(self, agent_id: str | None = None) -> Sequence[AgentRow]:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return await super().rows(agent_id)


class Breaking(Memory):
    """The dialect of such databases."""

    async def open(self, url: str, *, clock: Clock, lock: LockInfo | None = None, **_: Any) -> BreakingDatabase:
        return BreakingDatabase(Tables(holder=lock), url, locked=lock is not None, now=clock.now())


async def test_a_registry_that_breaks_under_its_watch_costs_no_change(tmp_path: Path) -> None:
    """The watch dies between noticing a change and applying it."""
    async with stack(tmp_path, dialect=Breaking()) as fleet:
        database = fleet.service.registry.database
        assert isinstance(database, BreakingDatabase)
        database.error = MemoryError("once")
        await fleet.add()
        await fleet.until(lambda: watchdog(fleet, "side_task_died") == 1)
        await fleet.online()


SLOW = '''
"""Answers with the first word when it is let."""
import asyncio

gate = asyncio.Event()

async def on_message(message, ctx):
    await gate.wait()
    return message.content.split()[0]
'''


async def test_many_large_messages_to_many_agents_stay_within_the_bound_and_are_answered_in_order(
    tmp_path: Path,
) -> None:
    agents, messages, size = 50, 6, 50_000
    limit = 3_000_000
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "slow.py").write_text(SLOW)
    given: dict[str, Any] = {"agents_dir": tmp_path / "handlers", "memory_limit": limit, "concurrency": 10}
    async with stack(tmp_path, **given) as fleet:
        most = 0.0

        def held() -> float:
            nonlocal most
            now = figures(fleet.service.metrics)["supervisor_memory_bytes"]
            most = max(most, now)
            return now

        identities = [await fleet.add(number, "slow") for number in range(1, agents + 1)]
        await fleet.online(agents, timeout=30)
        user = await fleet.sandbox.user()
        conversations = [await user.open(identity) for identity in identities]
        for number in range(messages):
            for conversation in conversations:
                await user.say(conversation, f"m{number} ".ljust(size, "x"))
                held()
        pipelines = [fleet.service.fleet.runner(identity).agent.pipeline for identity in identities]
        await fleet.until(lambda: sum(one.inbox.unsettled for one in pipelines) == agents * messages, timeout=30)
        assert held() > limit / 2
        handler_module("slow").gate.set()
        await fleet.until(lambda: held() == 0 and not any(one.inbox.waiting for one in pipelines), timeout=60)
        # A message is settled once its reply is in the outbox.
        await fleet.until(lambda: not any(one.outbox.waiting for one in pipelines), timeout=30)
        assert most <= limit + agents * size
        for conversation in conversations:
            replies = [m.content for m in fleet.sandbox.messages(conversation) if m.role == "assistant"]
            assert replies == [f"m{number}" for number in range(messages)]
