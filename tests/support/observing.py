"""What fault tests look at: figures, log lines, lag, readiness, and agents beside the fault that must not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from supervisor.core.states import AgentState
from supervisor.platform.connection import Connection
from supervisor.sandbox import Sandbox
from supervisor.telemetry.metrics import Metrics
from tests.support.reliability import Case
from tests.support.stack import Stack

_AGENTS = Path(__file__).parents[2] / "agents"


def handlers_folder(folder: Path, modules: Mapping[str, str]) -> Path:
    """A folder of handlers: these modules, by name, and the bundled echo."""
    made = folder / "handlers"
    made.mkdir()
    for name, code in modules.items():
        (made / f"{name}.py").write_text(code)
    (made / "echo.py").write_text((_AGENTS / "echo.py").read_text())
    return made


def figures(metrics: Metrics) -> dict[str, float]:
    """Every series that ``/metrics`` shows, by its name and labels as they are written there."""
    text = metrics.render("text/plain")[0].decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def dropped(metrics: Metrics) -> dict[str, int]:
    """How many messages were dropped, by reason; reasons that there were not are left out."""
    begin = 'supervisor_messages_dropped_total{reason="'
    found = {name: value for name, value in figures(metrics).items() if name.startswith(begin)}
    return {name.removeprefix(begin).removesuffix('"}'): int(value) for name, value in found.items() if value}


@contextmanager
def captured_logs() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with structlog.testing.capture_logs() as log:
        yield log


def named(log: list[Any], *events: str) -> list[Any]:
    """The entries of these names."""
    return [entry for entry in log if entry["event"] in events]


@dataclass
class Lag:
    """How late a sleeper was woken, in seconds, each time."""

    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """The lag that this share of the wakings stayed below."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@asynccontextmanager
async def measured_lag(interval: float = 0.01) -> AsyncIterator[Lag]:
    """The event loop's lag while the block runs."""
    lag = Lag()
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        while True:
            due = loop.time() + interval
            await asyncio.sleep(interval)
            lag.seconds.append(max(0.0, loop.time() - due))

    watching = asyncio.create_task(watch())
    try:
        yield lag
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@dataclass
class Bystander:
    """An agent beside the fault: it answers throughout, over one and the same socket."""

    fleet: Stack
    id: str
    connection: Connection
    connects: int
    _numbers: Iterator[int] = field(default_factory=count)

    @classmethod
    async def join(cls, fleet: Stack, number: int = 999) -> Bystander:
        """Add one; returns when it is online."""
        identity = await fleet.add(number)
        await fleet.state(identity, AgentState.ONLINE)
        connection = fleet.service.fleet.runner(identity).agent.connection
        assert connection is not None
        return cls(fleet, identity, connection, _connects(fleet, identity))

    async def answers(self, times: int = 1) -> None:
        """Ask it; fails where it does not answer, or over another socket than it had."""
        for _ in range(times):
            text = f"bystander {next(self._numbers)}"
            [reply] = await self.fleet.ask(self.id, text)
            assert reply.content == f"Echo: {text}"
        self.is_undisturbed()

    def is_undisturbed(self) -> None:
        """Fails where it has, or had, another socket than at first."""
        assert self.fleet.service.fleet.runner(self.id).agent.connection is self.connection
        assert self.connection.connected
        assert _connects(self.fleet, self.id) == self.connects


def _connects(fleet: Stack, identity: str) -> int:
    return sum(attempt.agent_id == identity for attempt in fleet.sandbox.connects)


async def readiness(address: str) -> tuple[int, str]:
    """What ``/readyz`` answers: the status, and the problems."""
    async with aiohttp.ClientSession() as session, session.get(f"{address}/readyz") as answer:
        return answer.status, str((await answer.json())["problems"])


async def until_not_ready(address: str, problem: str, timeout: float = 60.0) -> None:
    """Wait until the supervisor says that it is not ready, and why."""
    async with asyncio.timeout(timeout):
        while (answer := await readiness(address))[0] != 503:
            await asyncio.sleep(0.02)
    assert problem in answer[1]


async def until_ready(address: str, timeout: float = 60.0) -> None:
    """Wait until it is ready again."""
    async with asyncio.timeout(timeout):
        while (await readiness(address))[0] != 200:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def talking(sandbox: Sandbox, identity: str, counted: Case, pause: float = 0.02) -> AsyncIterator[list[str]]:
    """Say something all the while; afterwards each message must have been answered once, in order."""
    user = await sandbox.user()
    conversation = await user.open(identity)
    first = await user.say(conversation, "first")
    sent = ["first"]

    async def talk() -> None:
        while True:
            await asyncio.sleep(pause)
            sent.append(f"m{len(sent)}")
            await user.say(conversation, sent[-1])

    task = asyncio.create_task(talk())
    try:
        yield sent
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    replies = await user.wait_for_reply(conversation, after=first, count=len(sent), timeout=60)
    answers = [reply.content for reply in replies]
    expected = [f"Echo: {text}" for text in sent]
    counted.answers(expected, answers)
    assert answers == expected, "lost, doubled or out of order"
