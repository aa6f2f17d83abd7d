"""Works are fetched by REST only while the row asks for them, and only over the connection in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import structlog

from supervisor.core.clock import SystemClock, Timer
from supervisor.core.errors import PlatformError, Verdict
from supervisor.core.records import Sleep
from supervisor.fleet.works import Pace, WorkFetcher
from supervisor.platform.beats import HeartbeatClient
from supervisor.platform.connection import Connection
from supervisor.platform.heartbeats import Pulse, Task
from supervisor.platform.hosts.agent_api import Access
from supervisor.platform.hosts.api_gate import Asker
from supervisor.platform.questions import HEARTBEAT
from supervisor.telemetry.logs import get_logger
from tests.support.messaging import until
from tests.support.token_server import AGENT, TokenServer, answering_json, client, token_server

#: How often they are fetched, for the clock of this test.
SECONDS = 30.0
WORK = {"id": "w1", "title": "Tidy up"}


class CountingClock(SystemClock):
    """Counts how often something was due, and lets nothing wait for long."""

    turns = 0
    seconds = 0.0

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        self.seconds = seconds

        def call() -> None:
            callback()
            self.turns += 1

        return super().call_later(min(seconds, 0.005), call)


class Round:
    """One agent's fetcher before a real server, and what came of it."""

    def __init__(self, server: TokenServer, beats: HeartbeatClient) -> None:
        self.server = server
        self.gate = beats.gate(Access(server.url, "tok"))
        self.clock = CountingClock()
        self.connection = Connection(AGENT, on_event=lambda *_: None)
        self.takes = self.in_use = True
        self.sleep: Sleep | None = None
        self.tasks: list[Task] = []
        self.refused: list[PlatformError] = []
        pulse = Pulse(
            takes_tasks=lambda: self.takes,
            working=lambda: False,
            sleep=lambda: self.sleep,
            on_task=self.tasks.append,
        )
        self.fetcher = WorkFetcher(
            beats,
            pulse,
            lambda: Access(server.url, "tok"),
            Pace(self.clock, SECONDS, uniform=lambda low, _: low),
            on_refused=self.refused.append,
            log=get_logger("supervisor.agent"),
        )

    async def turns(self, count: int) -> None:
        """Wait until the fetcher has come round so often."""
        end = self.clock.turns + count
        await until(lambda: self.clock.turns >= end)


@asynccontextmanager
async def going_round() -> AsyncIterator[Round]:
    async with token_server() as server, client() as made:
        server.answer = answering_json(201, {"success": True, "work": WORK})
        here = Round(server, HeartbeatClient(made.agent_api))
        connection = here.connection
        here.fetcher.follow(connection, lambda: here.in_use)
        yield here
        here.in_use = False
        await here.turns(1)
        turns = here.clock.turns
        await asyncio.sleep(0.05)
        assert here.clock.turns == turns, "another one has rounds of its own"
        await connection.close()


async def test_works_are_fetched_while_they_are_wanted_and_the_connection_is_in_use() -> None:
    async with going_round() as here:
        await until(lambda: len(here.tasks) >= 2)
        assert {task.id for task in here.tasks} == {"w1"}
        assert here.server.requests[0] == (f"/agents/{AGENT}/heartbeat", {"status": "idle"})
        here.takes = False
        await here.turns(10)
        asked = len(here.server.requests)
        await here.turns(10)
        here.takes, here.sleep = True, Sleep(0.0)
        await here.turns(10)
        here.sleep = None
        here.connection.facts.answered(HEARTBEAT)
        await here.turns(10)
        assert len(here.server.requests) == asked


async def test_trouble_is_told_once_and_a_refusal_to_whoever_runs_the_agent() -> None:
    async with going_round() as here:
        with structlog.testing.capture_logs() as log:
            here.server.answer = answering_json(400, {"message": "Agent is suspended. Heartbeat rejected."})
            await until(lambda: len(here.refused) >= 3)
        assert {error.verdict for error in here.refused} == {Verdict.REJECT}
        assert [line["event"] for line in log] == ["works_not_fetched"]
        here.server.answer = answering_json(201, {"success": True, "work": WORK})
        before = len(here.tasks)
        await until(lambda: len(here.tasks) > before)


async def test_many_agents_ask_less_often_than_one_and_those_that_do_not_ask_count_for_nothing() -> None:
    async with going_round() as here:
        await until(lambda: len(here.tasks) >= 1)
        assert here.clock.seconds == pytest.approx(SECONDS * 2 / 3)
        gate = here.gate
        others = [Asker("heartbeat") for _ in range(999)]
        for asker in others:
            asker.ask_at(gate)
        await until(lambda: here.clock.seconds > SECONDS)
        # A quarter of 50 questions a second, among a thousand agents.
        assert here.clock.seconds == pytest.approx(80 * 2 / 3)
        for asker in others:
            asker.leave()
        here.takes = False
        await here.turns(2)
        assert gate.interval("heartbeat", 0.0) == 0
        assert here.clock.seconds == pytest.approx(SECONDS * 2 / 3)
