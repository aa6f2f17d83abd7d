"""A real Prometheus beside a test: it scrapes at sub-second intervals, answers queries, and ends with the test."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from grafana.picture.data import Series

START_SECONDS = 20.0
MISSING = "no {}; install it with: sudo apt-get install --no-install-recommends prometheus"


def prometheus_tool(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``; missing, the test is skipped, but fails in CI."""
    found = shutil.which(name)
    if found is None:
        reason = MISSING.format(name)
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class QueryError(Exception):
    """Prometheus refused a query."""


class Prometheus:
    """A running one. Made by :func:`prometheus`."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def query(self, expression: str, at: float) -> list[Series]:
        """What an expression is at a time.

        Raises:
            QueryError: it is no PromQL, or cannot be evaluated.
        """
        return await self._ask("query", query=expression, time=str(at))

    async def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """What it was from ``start`` to ``end``, every ``step`` seconds.

        Raises:
            QueryError: as above.
        """
        return await self._ask("query_range", query=expression, start=str(start), end=str(end), step=str(step))

    async def exemplars(self, expression: str) -> dict[str, set[str]]:
        """The trace ids of exemplars of the last minute, by the metrics that an expression reads.

        Raises:
            QueryError: it is no PromQL.
        """
        start, end = str(time.time() - 60), str(time.time() + 60)
        found: dict[str, set[str]] = {}
        for one in await self._answer("query_exemplars", query=expression, start=start, end=end):
            traces = found.setdefault(one["seriesLabels"]["__name__"], set())
            traces.update(exemplar["labels"]["trace_id"] for exemplar in one["exemplars"])
        return found

    async def last_scrape(self) -> float:
        """When the last scrape that brought something began, as Prometheus dates it.

        Not the present time: a scrape that is under way and fails is dated back to its beginning, and leaves nothing to
        see from there on.
        """
        found = await self.until("timestamp(up) * (up == 1)", bool)
        return found[0].samples[0][1]

    async def until(
        self, expression: str, holds: Callable[[list[Series]], bool], timeout: float = 20.0
    ) -> list[Series]:
        """Wait until the present value of an expression is as wanted.

        Raises:
            TimeoutError: it was not; names the expression.
        """
        until = time.monotonic() + timeout
        while not holds(found := await self._ask("query", query=expression)):
            if time.monotonic() > until:
                raise TimeoutError(f"{expression} was not as wanted within {timeout:g} s: {found}")
            await asyncio.sleep(0.1)
        return found

    async def _answer(self, what: str, **parameters: str) -> Any:
        async with self._session.post(f"{self.url}/api/v1/{what}", data=parameters) as answer:
            body = await answer.json()
        if body["status"] != "success":
            raise QueryError(f"{body['errorType']}: {body['error']}")
        return body["data"]

    async def _ask(self, what: str, **parameters: str) -> list[Series]:
        data = await self._answer(what, **parameters)
        if data["resultType"] == "scalar":
            return [Series({}, (_sample(data["result"]),))]
        return [
            Series(one["metric"], tuple(map(_sample, one.get("values") or [one["value"]]))) for one in data["result"]
        ]


def _sample(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _configuration(interval_seconds: float, job: str, targets: list[str]) -> str:
    interval = f"{round(interval_seconds * 1000)}ms"
    return (
        f"global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}\n"
        f"scrape_configs: [{{job_name: {job}, static_configs: [{{targets: {targets}}}]}}]\n"
    )


@asynccontextmanager
async def prometheus(
    folder: Path, targets: list[str], *, job: str = "aiwm-supervisor", interval_seconds: float = 0.5
) -> AsyncIterator[Prometheus]:
    """Run one on a free port of loopback, with its data in ``folder``.

    Args:
        targets: ``host:port`` of whom it scrapes, at ``/metrics``.
    """
    program, place = prometheus_tool("prometheus"), folder / "prometheus"
    place.mkdir()
    (place / "prometheus.yml").write_text(_configuration(interval_seconds, job, targets))
    port = _free_port()
    with (place / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={place / 'prometheus.yml'}",
            f"--storage.tsdb.path={place / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            running = Prometheus(f"http://127.0.0.1:{port}", session)
            await _ready(running.url, session, process, place / "log")
            yield running
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _ready(url: str, session: aiohttp.ClientSession, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            assert process.returncode is None, log.read_text()
            try:
                async with session.get(f"{url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                # It does not listen yet.
                pass
            await asyncio.sleep(0.05)
