"""An OpenTelemetry collector over real HTTP, which keeps what it is sent and goes wrong when a test says so."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from supervisor.core.clock import Clock
from supervisor.service.assembly import TracingOpener, collector_of
from supervisor.settings import Settings
from supervisor.telemetry.tracing import Tracing, start_tracing


@dataclass(frozen=True)
class Span:
    """One span as it arrived; ids in hexadecimal, times in seconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    started_at: float
    ended_at: float
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What arrived, and how it behaves: ``status`` is its answer, while ``go`` is not set it gives none."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    raw: bytes = b""
    status: int = 200
    asked: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    async def take(self, request: web.Request) -> web.Response:
        """Take a batch."""
        body = await request.read()
        self.asked += 1
        await self.go.wait()
        if self.status != 200:
            return web.Response(status=self.status)
        self.headers.append(dict(request.headers))
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({pair.key: _plain(pair.value) for pair in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans += [_span(span) for span in scope.spans]
        return web.Response(body=b"")

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_post("/v1/traces", self.take)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls).start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Be gone."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def traces(self) -> dict[str, list[Span]]:
        """The spans of each trace, in the order of their beginnings."""
        found: dict[str, list[Span]] = {}
        for span in sorted(self.spans, key=lambda span: span.started_at):
            found.setdefault(span.trace_id, []).append(span)
        return found

    def roots(self) -> list[Span]:
        """The spans without a parent."""
        return [span for span in self.spans if not span.parent_id]

    async def ended(self, count: int = 1, seconds: float = 20.0) -> list[list[Span]]:
        """Wait until the roots of so many traces are here; all traces, in the order of their beginnings."""
        await self.until(lambda: len(self.roots()) >= count, seconds)
        return sorted(self.traces().values(), key=lambda spans: spans[0].started_at)

    async def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until ``condition`` holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)


def _plain(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


def _span(span: WireSpan) -> Span:
    return Span(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        span.status.code == Status.STATUS_CODE_ERROR,
        {pair.key: _plain(pair.value) for pair in span.attributes},
    )


def tree(spans: list[Span]) -> dict[str, Any]:
    """The names of a trace's spans, nested; those of one parent in the order of their beginnings."""
    below: dict[str, list[Span]] = {}
    for span in spans:
        below.setdefault(span.parent_id, []).append(span)

    def named(span: Span) -> Any:
        children = [named(child) for child in sorted(below.get(span.span_id, []), key=lambda one: one.started_at)]
        return {span.name: children} if children else span.name

    [root] = below[""]
    found = named(root)
    return found if isinstance(found, dict) else {found: []}


def opens_tracing(**given: Any) -> TracingOpener:
    """Starts the traces of a service; ``given`` are fields of where they go, such as ``batch_seconds``."""

    def open_tracing(settings: Settings, clock: Clock) -> Tracing:
        collector = collector_of(settings, clock)
        assert collector is not None
        return start_tracing(replace(collector, **given), sample_ratio=settings.trace_sample_ratio)

    return open_tracing


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A running collector that takes all it is sent."""
    collector = Collector()
    collector.go.set()
    await collector.start()
    try:
        yield collector
    finally:
        collector.go.set()
        await collector.stop()
