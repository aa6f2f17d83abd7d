"""R23: agents that come and go, and a day of disconnects in fast motion: nothing of it stays."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from supervisor.core.states import AgentState
from supervisor.sandbox import Sandbox
from supervisor.store import Registry
from supervisor.telemetry.events import Event
from tests.support.command import Command
from tests.support.observing import figures
from tests.support.reliability import Case
from tests.support.stack import SECRET, SECRET_FILE, Stack, agent_id, stack
from tests.support.traces import open_files

#: SQLite's journal is written from its beginning again once it has this size (4,000 pages and their headers).
WAL_BYTES = 4_000 * (4_096 + 24)
#: What fails in a way that had not occurred before makes series of its own: a few, where agents would make hundreds.
FURTHER_SERIES = 20
#: After so many waves of agents a process is worn in, or never.
MOST_WAVES = 12
#: One agent's return after a disconnect must not take a test's time.
QUICK: dict[str, Any] = {"backoff_initial_seconds": 0.005, "backoff_cap_seconds": 0.02}


@dataclass(frozen=True)
class Size:
    """What may grow: tasks, open files, objects of ours, series of the metrics, bytes of the write-ahead log."""

    tasks: int
    files: int
    objects: int
    series: int
    wal_bytes: int

    @classmethod
    def of(cls, fleet: Stack) -> Size:
        """The sizes now, without what the garbage collector has not come to yet."""
        gc.collect()
        return cls(
            tasks=len(asyncio.all_tasks()),
            files=sum(1 for _ in open_files()),
            objects=len(our_objects()),
            series=len(figures(fleet.service.metrics)),
            wal_bytes=(fleet.folder / "supervisor.db-wal").stat().st_size,
        )

    def is_back_to(self, before: Size) -> bool:
        """Whether nothing has grown since ``before``."""
        return (
            self.tasks <= before.tasks
            and self.files <= before.files
            and self.objects <= before.objects * 1.05
            and self.series <= before.series + FURTHER_SERIES
            and self.wal_bytes <= max(before.wal_bytes, 1.1 * WAL_BYTES)
        )


def our_objects() -> list[object]:
    """Every object of the supervisor's classes that is alive."""
    return [one for one in gc.get_objects() if _is_ours(one)]


def _is_ours(one: object) -> bool:
    # The sandbox is in this process too, and keeps all that ever happened. Events, for whoever follows them, are in a
    # ring that fills once and never grows past its bounds (tests/unit/telemetry/test_events.py).
    module = str(type(one).__module__)
    return module.startswith("supervisor.") and not module.startswith("supervisor.sandbox") and type(one) is not Event


async def settled(fleet: Stack, before: Size, figures_of_the_case: Case) -> Size:
    """Wait until all is back to what it was; fails with the sizes where it does not come back."""
    began, now = time.monotonic(), Size.of(fleet)
    while not now.is_back_to(before):
        assert time.monotonic() - began < 20, (before, now, Counter(map(type, our_objects())).most_common(8))
        # Sockets that were closed say goodbye for a while.
        await asyncio.sleep(0.2)
        now = Size.of(fleet)
    figures_of_the_case.recovered(time.monotonic() - began)
    print(f"before {before}\nafter  {now}")
    return now


async def come_and_go(fleet: Stack, number: int) -> None:
    """An agent is added, answers, and is removed."""
    identity = await fleet.add(number)
    await fleet.service.fleet.reconcile()
    await fleet.state(identity, AgentState.ONLINE)
    [reply] = await fleet.ask(identity, "hello")
    assert reply.content == "Echo: hello"
    await fleet.service.registry.remove_agent(identity)
    await fleet.service.fleet.reconcile()
    await fleet.until(lambda: not fleet.sandbox.is_online(identity))


async def grow_and_shrink(folder: Path, counted: Case, agents: int) -> None:
    """So many agents, one after another."""
    async with stack(folder, **QUICK) as fleet:
        await fleet.add(1)
        await fleet.online()
        for number in range(10, 30):
            await come_and_go(fleet, number)
        before = Size.of(fleet)
        for number in range(100, 100 + agents):
            await come_and_go(fleet, number)
            counted.rounds = counted.messages = number - 99
        await settled(fleet, before, counted)
        assert len(fleet.service.control.statuses()) == 1
        assert not [name for name in figures(fleet.service.metrics) if f'"{agent_id(100)}"' in name]


async def test_r23_agents_added_and_removed_one_after_another(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await grow_and_shrink(tmp_path, case("R23 agents"), 50)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_r23_a_thousand_agents_added_and_removed_one_after_another(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    await grow_and_shrink(tmp_path, case("R23 1,000 agents"), 1_000)


async def disconnect(fleet: Stack, identity: str, number: int) -> None:
    """Lose an agent's connection in one of the ways there are; returns when it is online again."""
    runner = fleet.service.fleet.runner(identity)
    before = runner.agent.connection
    ways: list[Callable[..., int]] = [fleet.sandbox.kick, fleet.sandbox.cut]
    assert ways[number % len(ways)](identity) == 1
    await fleet.until(lambda: runner.agent.connection not in (None, before), timeout=30)
    await fleet.state(identity, AgentState.ONLINE, timeout=30)
    if number % 10 == 0:
        [reply] = await fleet.ask(identity, f"{number}")
        assert reply.content == f"Echo: {number}"


async def lose_connections(folder: Path, counted: Case, disconnects: int) -> None:
    """So many disconnects of a few agents, as fast as they come back."""
    agents = 4
    async with stack(folder, **QUICK) as fleet:
        ids = [await fleet.add(number) for number in range(1, agents + 1)]
        await fleet.online(agents)
        for number in range(10):
            await asyncio.gather(*[disconnect(fleet, identity, number) for identity in ids])
        before = Size.of(fleet)
        for number in range(disconnects // agents):
            await asyncio.gather(*[disconnect(fleet, identity, number) for identity in ids])
            counted.faults += agents
        await settled(fleet, before, counted)
        assert fleet.service.fleet.states()[AgentState.ONLINE] == agents


async def test_r23_disconnects(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await lose_connections(tmp_path, case("R23 disconnects"), 100)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_r23_a_day_of_disconnects(tmp_path: Path, case: Callable[[str], Case]) -> None:
    # One a minute and agent.
    await lose_connections(tmp_path, case("R23 a day"), 4 * 24 * 60)


@dataclass
class Process:
    """A supervisor in a process of its own, and the rows and the platform that it follows."""

    folder: Path
    sandbox: Sandbox
    measured: psutil.Process
    address: str

    async def wave(self, numbers: range) -> None:
        """Agents come, are cut off once, and go, some at a time."""
        for start in numbers[::25]:
            ids = [agent_id(number) for number in range(start, min(start + 25, numbers.stop))]
            for identity in ids:
                self.sandbox.add_agent(identity, SECRET)
            self.sql(
                "INSERT INTO agents (id, handler, secret) VALUES (?, 'echo', ?)",
                ids,
                f"file:{self.folder / SECRET_FILE}",
            )
            await self.sandbox.wait_online(*ids, timeout=60)
            self.sandbox.cut(*ids)
            await self.sandbox.wait_until(lambda ids=ids: not any(map(self.sandbox.is_online, ids)), 60)  # type: ignore[misc]
            await self.sandbox.wait_online(*ids, timeout=60)
            self.sql("DELETE FROM agents WHERE id = ?", ids)
            await self.sandbox.wait_until(lambda ids=ids: not any(map(self.sandbox.is_online, ids)), 60)  # type: ignore[misc]
            for identity in ids:
                del self.sandbox.agents[identity]

    def sql(self, statement: str, ids: list[str], *values: str) -> None:
        """Write rows as anybody might."""
        with closing(sqlite3.connect(self.folder / "supervisor.db", timeout=30)) as database, database:
            database.executemany(statement, [(identity, *values) for identity in ids])

    async def sizes(self) -> tuple[int, int, int, int]:
        """Resident memory, open files, threads, and series."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.address}/metrics") as answer:
            series = sum(not line.startswith("#") for line in (await answer.text()).splitlines())
        return self.measured.memory_info().rss, self.measured.num_fds(), self.measured.num_threads(), series


@asynccontextmanager
async def process(folder: Path) -> AsyncIterator[Process]:
    """A supervisor that runs, without agents."""
    (folder / SECRET_FILE).write_text(SECRET)
    url = f"sqlite+aiosqlite:///{folder / 'supervisor.db'}"
    await (await Registry.open(url, upgrade=True)).close()
    async with Sandbox() as sandbox:
        names = {"REGISTRY_URL": url, "API_URL": sandbox.api_url, "WS_URL": sandbox.ws_url, "ADMIN_PORT": "0"}
        names |= {"SECRET_DIRS": str(folder), "LOG_FORMAT": "json"}
        names |= {
            "CONNECT_RATE": "1000",
            "AUTH_RATE": "1000",
            "BACKOFF_INITIAL_SECONDS": "0.01",
            "BACKOFF_CAP_SECONDS": "0.05",
        }
        command = Command(folder, {f"SUPERVISOR_{name}": value for name, value in names.items()})
        try:
            started = command.start("run")
            found = await asyncio.to_thread(command.wait_for_log, "run", r'"admin": ?"([^"]+)"')
            yield Process(folder, sandbox, psutil.Process(started.pid), found[1])
        finally:
            # In a thread: the platform that it says goodbye to is in this one.
            await asyncio.to_thread(command.close)


async def worn_in(running: Process, agents: int) -> tuple[int, int, int, int]:
    """The sizes once a wave of agents adds next to nothing: the first ones pay for imports, pools and caches.

    How many those are differs between versions of Python. What each agent leaves behind is never worn in.
    """
    memory = 0
    for number in range(MOST_WAVES):
        await running.wave(range(1 + number * agents, 1 + (number + 1) * agents))
        before, sizes = memory, await running.sizes()
        memory = sizes[0]
        if memory <= before * 1.02:
            return sizes
    pytest.fail(f"after {MOST_WAVES} waves of {agents} agents it still grows: {memory / 2**20:.1f} MiB")


async def wear(folder: Path, counted: Case, agents: int) -> None:
    """So many agents come, are cut off, and go; memory, files, threads and series are what they were."""
    async with process(folder) as running:
        memory, files, threads, series = await worn_in(running, max(50, agents // 3))
        bounds = (memory * 1.05, files, threads, series + FURTHER_SERIES)
        await running.wave(range(100_000, 100_000 + agents))
        counted.rounds, counted.faults = agents, agents
        began, now = time.monotonic(), await running.sizes()
        while any(size > bound for size, bound in zip(now, bounds, strict=True)):
            assert time.monotonic() - began < 20, (memory, bounds, now)
            await asyncio.sleep(0.2)
            now = await running.sizes()
        print(f"{agents} agents: {memory / 2**20:.1f}, then {now[0] / 2**20:.1f} MiB; bounds {bounds}, sizes {now}")
        counted.recovered(time.monotonic() - began)


async def test_r23_a_process_is_as_small_as_before(tmp_path: Path, case: Callable[[str], Case]) -> None:
    await wear(tmp_path, case("R23 memory"), 100)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_r23_a_process_is_as_small_as_before_a_thousand_agents(
    tmp_path: Path, case: Callable[[str], Case]
) -> None:
    await wear(tmp_path, case("R23 memory of 1,000"), 1_000)
