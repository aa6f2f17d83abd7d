"""One of those who are scraped, in a process of its own: told by lines of JSON when to begin and end a measurement.

Both answer over uvicorn with as many series an agent: up, token expiry, tokens of three types, cost, budget, inbox.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, make_asgi_app

from supervisor.handler import Usage
from supervisor.messages import Limits
from supervisor.service import Service
from supervisor.settings import Price, Settings

MODEL: Final = "large"
KINDS: Final = ("input", "output", "cached")
GAUGES: Final = (
    *("supervisor_agent_up", "supervisor_agent_auth_expiry_timestamp_seconds"),
    *("supervisor_agent_budget_used_ratio", "supervisor_agent_inbox_messages"),
)
USED: Final = Usage(1000, 100, MODEL, 10, "openai")


def agent_id(number: int) -> str:
    """The id of the agent with this number: 24 hex digits."""
    return f"a9{number:022x}"


@asynccontextmanager
async def supervisor(agents: int) -> AsyncIterator[str]:
    """A supervisor with so many agents, paused so that no socket is measured, and figures of all of them."""
    with tempfile.TemporaryDirectory(prefix="supervisor-benchmark-") as folder:
        path = Path(folder) / "supervisor.db"
        settings = Settings(
            registry_url=f"sqlite+aiosqlite:///{path}",
            api_url="http://127.0.0.1:9/api",
            ws_url="ws://127.0.0.1:9/ws",
            admin_port=0,
            metrics_agent_limit=agents,
            prices={MODEL: Price(input=1.0, output=2.0)},
            budget_tokens=10**12,
        )
        await (await Service.start(settings)).stop()
        rows = [(agent_id(number), "echo", "env:AGENT_SECRET", True) for number in range(agents)]
        with closing(sqlite3.connect(path)) as sql, sql:
            sql.executemany("INSERT INTO agents (id, handler, secret, paused) VALUES (?, ?, ?, ?)", rows)
        service = await Service.start(settings)
        try:
            for number in range(agents):
                agent = service.fleet.runner(agent_id(number)).agent
                agent.profile.spending.count(USED)
                service.metrics.auth_expiry(agent_id(number), time.time() + number)
                service.shared.ledger.limit(agent_id(number), Limits(tokens=10**6))
            await service.registry.journal.flush()
            yield f"{service.admin_url}/metrics"
        finally:
            await service.stop(grace_seconds=1)


def _library_registry(agents: int) -> CollectorRegistry:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    up, expiry, budget, inbox = (Gauge(name, name, ["agent"], registry=registry) for name in GAUGES)
    tokens = Counter("supervisor_agent_llm_tokens", "tokens", ["agent", "type"], registry=registry)
    cost = Counter("supervisor_agent_llm_cost", "cost", ["agent"], registry=registry)
    for number in range(agents):
        agent = agent_id(number)
        for gauge, value in ((up, 0), (expiry, time.time() + number), (budget, 0.0011), (inbox, 0)):
            gauge.labels(agent).set(value)
        for kind, count in zip(KINDS, (1000, 100, 10), strict=True):
            tokens.labels(agent, kind).inc(count)
        cost.labels(agent).inc(0.0012)
    return registry


@asynccontextmanager
async def library(agents: int) -> AsyncIterator[str]:
    """The client library as it comes: a Gauge or Counter a figure, labelled by agent, and its own ASGI app."""
    app = make_asgi_app(_library_registry(agents))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/metrics"
        server.should_exit = True
        await serving


class Holds:
    """The longest time for which the event loop let nobody else run."""

    def __init__(self) -> None:
        self.cpu_seconds = self.wall_seconds = 0.0
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        cpu, wall = time.thread_time(), time.perf_counter()
        while True:
            await asyncio.sleep(0)
            cpu_now, wall_now = time.thread_time(), time.perf_counter()
            self.cpu_seconds = max(self.cpu_seconds, cpu_now - cpu)
            self.wall_seconds = max(self.wall_seconds, wall_now - wall)
            cpu, wall = cpu_now, wall_now

    def stop(self) -> dict[str, float]:
        """End the watch; what was seen."""
        self._task.cancel()
        return {"hold_cpu_ms": self.cpu_seconds * 1000, "hold_wall_ms": self.wall_seconds * 1000}


SUBJECTS: Final[dict[str, Callable[[int], AbstractAsyncContextManager[str]]]] = {
    "supervisor": supervisor,
    "library": library,
}


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


async def serve(subject: str, agents: int) -> None:
    """Measure between ``cpu`` or ``holds`` and ``end``, until stdin ends."""
    os.environ.setdefault("AGENT_SECRET", "s3cret")
    async with SUBJECTS[subject](agents) as url:
        _say({"url": url})
        holds: Holds | None = None
        cpu = 0.0
        while line := await asyncio.to_thread(sys.stdin.readline):
            match json.loads(line)["do"]:
                case "cpu":
                    cpu = time.process_time()
                    _say({})
                case "holds":
                    # Beside the watch, which burns CPU itself, no CPU is measured.
                    holds = Holds()
                    _say({})
                case "end" if holds is not None:
                    _say(holds.stop())
                    holds = None
                case "end":
                    _say({"cpu_ms": (time.process_time() - cpu) * 1000})


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
