"""Sends spans to a collector: OTLP over HTTP, in batches, from a thread of its own.

A collector that is away costs traces and nothing else: the queue is bounded, a batch that cannot be delivered is
dropped, an outage is two lines in the log, and the end waits two seconds for it. The SDK's own processor and exporter
are not used, because they take endpoints and headers from ``OTEL_*`` variables as well, log every failure by
themselves, and wait for up to half a minute when they are shut down.
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from supervisor.net import one_line, tls_context
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.outage_log import OutageLog
from supervisor.telemetry.tracing.interface import Collector

#: Spans in one request; so many are sent at once, fewer once the first has waited for the collector's batch_seconds.
BATCH_LIMIT: Final = 512
#: How long the collector may take to connect, and for each step of its answer.
POST_SECONDS: Final = 10.0
#: How long between two lines about spans that were dropped while the collector answers.
WARN_SECONDS: Final = 60.0
#: How long the end of the process waits for what is left.
CLOSE_SECONDS: Final = 2.0


class _RefusedError(Exception):
    """The collector answered, and did not take it."""


class Exporter(SpanProcessor):
    """Takes ended spans and sends them on; :meth:`close` ends it."""

    def __init__(self, collector: Collector) -> None:
        parts = urlsplit(collector.url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = parts.path + (f"?{parts.query}" if parts.query else "")
        self._headers = {
            **collector.headers,
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "User-Agent": "aiwm-supervisor",
        }
        self._batch_seconds = collector.batch_seconds
        self._queue_limit = collector.queue_limit
        self._tls = tls_context(collector.ca_file) if parts.scheme == "https" else None
        self._log = get_logger("supervisor.tracing")
        # The outage and the count of dropped spans belong to this thread alone.
        self._outage = OutageLog(
            self._log, collector.clock, subject="collector", began="traces_not_exported", ended="traces_exported_again"
        )
        self._dropped = 0
        self._warn_again_at = 0.0
        self._changed = threading.Condition()  # guards the queue and what follows
        self._queue: deque[ReadableSpan] = deque()
        self._overflown = 0
        self._until: float | None = None  # once it is to end, when
        self._over: Future[None] = Future()
        threading.Thread(target=self._work, name="traces", daemon=True).start()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """A span is exported once it ends."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span; from any thread, at once."""
        with self._changed:
            if len(self._queue) >= self._queue_limit or self._until is not None:
                self._overflown += 1
                return
            self._queue.append(span)
            if len(self._queue) in (1, BATCH_LIMIT):
                self._changed.notify()

    def shutdown(self) -> None:
        """Only :meth:`close` ends it."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - as the SDK has it
        """Nobody waits for it while the process goes on."""
        return True

    def _work(self) -> None:
        # Whoever waits for the end can give up from here on, but not cancel it.
        self._over.set_running_or_notify_cancel()
        while batch := self._next():
            self._send(batch)
        self._over.set_result(None)

    def _next(self) -> list[ReadableSpan]:
        """The next batch, once there is one; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._until is not None)
            self._changed.wait_for(
                lambda: len(self._queue) >= BATCH_LIMIT or self._until is not None, timeout=self._batch_seconds
            )
            if self._until is not None and time.monotonic() >= self._until:
                return []
            self._dropped += self._overflown
            self._overflown = 0
            return [self._queue.popleft() for _ in range(min(BATCH_LIMIT, len(self._queue)))]

    def _send(self, batch: Sequence[ReadableSpan]) -> None:
        place = self._host if self._port is None else f"{self._host}:{self._port}"
        try:
            self._post(gzip.compress(encode_spans(batch).SerializeToString(), compresslevel=1))
        except Exception as error:  # noqa: BLE001  whatever it is, traces are not worth a thread
            self._dropped += len(batch)
            self._outage.failed(place, _reason(error))
        else:
            if self._outage.recovered(place, dropped_spans=self._dropped):
                self._dropped = 0
            self._warn_dropped()

    def _warn_dropped(self) -> None:
        """Say, now and then, that more spans come than the collector takes."""
        now = time.monotonic()
        if self._dropped and now >= self._warn_again_at:
            self._log.warning("spans_dropped", spans=self._dropped, reason="more come than the collector takes")
            self._dropped, self._warn_again_at = 0, now + WARN_SECONDS

    def _post(self, body: bytes) -> None:
        """One request. No redirects: the headers would go along.

        Raises:
            OSError, http.client.HTTPException, _RefusedError: it was not taken.
        """
        left = POST_SECONDS if self._until is None else max(0.1, min(POST_SECONDS, self._until - time.monotonic()))
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=left, context=self._tls)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=left)
        try:
            connection.request("POST", self._path, body, self._headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise _RefusedError(f"it answered {status}")

    async def close(self) -> None:
        """Take nothing more and send what is left, for two seconds at most; idempotent."""
        with self._changed:
            if self._until is None:
                self._until = time.monotonic() + CLOSE_SECONDS
            self._changed.notify()
        over = asyncio.wrap_future(self._over)
        await asyncio.wait([over], timeout=CLOSE_SECONDS)
        if not self._over.done():
            self._log.warning("traces_cut_short", seconds=CLOSE_SECONDS, spans=len(self._queue))
        over.cancel()


def _reason(error: Exception) -> str:
    """Why a batch was not taken, in words, and none of the request's."""
    if isinstance(error, _RefusedError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {POST_SECONDS:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = one_line(error.verify_message or "it does not match")
        return f"its TLS certificate is not trusted ({detail}); a private CA goes into SUPERVISOR_CA_FILE"
    if isinstance(error, OSError):
        return one_line(error.strerror or type(error).__name__)
    return type(error).__name__
