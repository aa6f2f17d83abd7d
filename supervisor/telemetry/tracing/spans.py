"""Traces as OpenTelemetry's SDK makes them.

A trace's id, and that of its root span, are digests of what names the message: attempts of different processes land in
one trace without telling each other, and the root is written once, when all is over. Of a message that is replayed the
number of the replay is part of it: that is a trace of its own.

The provider is our own and not the process's global one, which belongs to whoever writes handlers. The current span is
set all the same: what a library traces within a handler, through a global provider, is a child of ours.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.context import Context, attach, get_current
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from supervisor import __version__
from supervisor.core.clock import Clock
from supervisor.core.records import JournaledMessage, Reply
from supervisor.core.states import FINAL_MESSAGE_STATES, FINAL_REPLY_STATES, MessageState, ReplyState
from supervisor.handler import ModelCall
from supervisor.protocol.text import clean_text
from supervisor.telemetry.redaction import redact
from supervisor.telemetry.tracing.export import Exporter
from supervisor.telemetry.tracing.interface import AttemptTrace, Collector, Traces
from supervisor.telemetry.usage import cleaned

SERVICE: Final = "aiwm-supervisor"
#: Models, tools and handlers name things as they like.
MAX_NAME_CHARS: Final = 100
#: What became of a message or reply that somebody else changed or erased meanwhile.
LOST: Final = "lost"

Attributes = dict[str, AttributeValue]


class _Ids(RandomIdGenerator):
    """Random ids, but for a root span's, which are given."""

    def __init__(self) -> None:
        # One for each thread, because handlers begin spans in theirs.
        self._given = threading.local()

    @contextmanager
    def given(self, trace_id: int, span_id: int) -> Iterator[None]:
        self._given.ids = trace_id, span_id
        try:
            yield
        finally:
            del self._given.ids

    def generate_trace_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._given, "ids", None)
        return ids[0] if ids else super().generate_trace_id()

    def generate_span_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._given, "ids", None)
        return ids[1] if ids else super().generate_span_id()


class SpanTracing:
    """See :class:`supervisor.telemetry.tracing.Tracing`."""

    def __init__(self, collector: Collector, *, sample_ratio: float) -> None:
        resource: dict[str, AttributeValue] = {
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
            **collector.resource,
            "service.name": SERVICE,
            "service.version": __version__,
            "service.instance.id": str(uuid.uuid4()),
            "telemetry.sdk.language": "python",
        }
        self._exporter = Exporter(collector)
        self.clock = collector.clock
        self.ids = _Ids()
        self._sampler = TraceIdRatioBased(sample_ratio)
        # Not of Resource.create() and without an end at exit: settings.py alone reads the environment, and
        # close() is the end.
        provider = TracerProvider(
            sampler=self._sampler, resource=Resource(resource), shutdown_on_exit=False, id_generator=self.ids
        )
        provider.add_span_processor(self._exporter)
        self.tracer: Tracer = provider.get_tracer("supervisor", __version__)

    def of(self, agent_id: str, describe: Callable[[], tuple[str, str]]) -> Traces:
        return _AgentTraces(self, agent_id, describe)

    def samples(self, trace_id: int) -> bool:
        """Whether a message of this trace id has a trace."""
        return bool(self._sampler.should_sample(None, trace_id, "message").decision.is_sampled())  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._exporter.close()


def trace_ids(row: JournaledMessage) -> tuple[int, int]:
    """The trace id of a message, and the id of its root span."""
    named = "\0".join((SERVICE, row.agent_id, row.key, str(row.replay)))
    digest = hashlib.sha256(named.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:24], "big")


@dataclass(slots=True)
class _Open:
    """A message with replies on their way: their numbers, and whether the message itself is settled."""

    replies: set[int] = field(default_factory=set)
    settled: bool = False


class _AgentTraces:
    """The traces of one agent's messages. Everything but what goes on within a handler is written once it is over."""

    def __init__(self, tracing: SpanTracing, agent_id: str, describe: Callable[[], tuple[str, str]]) -> None:
        self._tracing = tracing
        self._agent_id = agent_id
        self._describe = describe
        self._open: dict[int, _Open] = {}

    def log_fields(self, row: JournaledMessage) -> Mapping[str, str]:
        trace_id, _ = trace_ids(row)
        return {"trace_id": format_trace_id(trace_id)} if self._tracing.samples(trace_id) else {}

    def attempt(self, row: JournaledMessage) -> AttemptTrace:
        parent = self._root(row)
        if row.attempts <= 1:
            self._write("queue", row, row.received_at, parent=parent)
        attributes: Attributes = {"aiwm.attempt": row.attempts}
        return _SpanAttempt(self._tracing, parent, attributes, self.log_fields(row), self._conversing(row))

    def _conversing(self, row: JournaledMessage) -> Attributes:
        """Whose conversation it is, by OpenTelemetry's GenAI names: its viewers put calls together by them."""
        name, _ = self._describe()
        attributes: Attributes = {
            "gen_ai.agent.id": self._agent_id,
            "gen_ai.conversation.id": _utf8(row.conversation_id),
        }
        return attributes | ({"gen_ai.agent.name": _name(name)} if name else {})

    def replied(self, row: JournaledMessage, reply: Reply) -> None:
        self._open.setdefault(row.id, _Open()).replies.add(reply.id)

    def sent(self, row: JournaledMessage, reply: Reply, sends: int) -> None:
        attributes: Attributes = {
            "messaging.system": "aiwm",
            "messaging.operation.type": "send",
            "aiwm.reply.part": reply.part,
            "aiwm.reply.sends": sends,
            "aiwm.reply.outcome": str(reply.state) if reply.state in FINAL_REPLY_STATES else LOST,
        }
        if reply.message.id:
            attributes["aiwm.reply.id"] = reply.message.id
        failed = reply.state in (ReplyState.DEAD, ReplyState.UNKNOWN)
        self._write("send", row, reply.created_at, attributes, kind=SpanKind.PRODUCER, failed=failed)
        unsent = self._open.get(row.id)
        # The trace of a reply that a person had sent again ended long ago.
        if unsent is not None:
            unsent.replies.discard(reply.id)
            if unsent.settled and not unsent.replies:
                self._finish(row)

    def settled(self, row: JournaledMessage) -> None:
        unsent = self._open.get(row.id)
        if unsent is not None and unsent.replies:
            unsent.settled = True
        else:
            self._finish(row)

    def _finish(self, row: JournaledMessage) -> None:
        """Write the root."""
        self._open.pop(row.id, None)
        # On the root alone: people search by it, and every attribute of a span takes room.
        attributes: Attributes = {
            "messaging.system": "aiwm",
            "messaging.operation.type": "process",
            "messaging.message.id": _utf8(row.key),
            "aiwm.agent.id": self._agent_id,
            "aiwm.handler": _utf8(self._describe()[1]),
            "aiwm.conversation.id": _utf8(row.conversation_id),
            "aiwm.message.id": _utf8(row.key),
            "aiwm.message.attempts": row.attempts,
            "aiwm.message.outcome": str(row.state) if row.state in FINAL_MESSAGE_STATES else LOST,
            **self._conversing(row),
        }
        if row.replay:
            attributes["aiwm.message.replay"] = row.replay
        with self._tracing.ids.given(*trace_ids(row)):
            self._write(
                "message",
                row,
                row.received_at,
                attributes,
                parent=Context(),
                kind=SpanKind.CONSUMER,
                failed=row.state is MessageState.DEAD,
            )

    def _write(
        self,
        name: str,
        row: JournaledMessage,
        started_at: float,
        attributes: Attributes | None = None,
        *,
        parent: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        failed: bool = False,
    ) -> None:
        """A span that ends now."""
        span = self._tracing.tracer.start_span(
            name,
            context=self._root(row) if parent is None else parent,
            kind=kind,
            attributes=attributes,
            start_time=_ns(started_at),
        )
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        # Wall clocks step back.
        span.end(max(_ns(started_at), _ns(self._tracing.clock.now())))

    @staticmethod
    def _root(row: JournaledMessage) -> Context:
        """The parent of what belongs to a message, which need not be written yet."""
        trace_id, span_id = trace_ids(row)
        root = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        return set_span_in_context(NonRecordingSpan(root), Context())


class _SpanAttempt:
    """One attempt: the span ``handle``, the current one of the task that began it, and those below it."""

    def __init__(
        self,
        tracing: SpanTracing,
        parent: Context,
        attributes: Attributes,
        log_fields: Mapping[str, str],
        conversing: Attributes,
    ) -> None:
        self.log_fields = log_fields
        self.trace_id = log_fields.get("trace_id", "")
        self._conversing = conversing
        self._tracer = tracing.tracer
        self._clock: Clock = tracing.clock
        self._started = _ns(self._clock.now())
        self._span = self._tracer.start_span("handle", context=parent, attributes=attributes, start_time=self._started)
        self._trace_id = self._span.get_span_context().trace_id
        self._before = get_current()
        attach(set_span_in_context(self._span, self._before))

    @contextmanager
    def model_call(self, call: ModelCall, provider: str) -> Iterator[None]:
        asked = _name(call.model)
        attributes: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _name(provider),
            "gen_ai.request.model": asked,
            **self._conversing,
        }
        with self._below(f"chat {asked}", attributes, kind=SpanKind.CLIENT) as span:
            try:
                yield
            finally:
                if (answered := _name(call.model)) != asked:
                    span.set_attribute("gen_ai.response.model", answered)
                if call.usage is not None:
                    spent = cleaned(call.usage)
                    span.set_attribute("gen_ai.usage.input_tokens", spent.prompt_tokens)
                    span.set_attribute("gen_ai.usage.output_tokens", spent.completion_tokens)
                    span.set_attribute("gen_ai.usage.cache_read.input_tokens", spent.cached_tokens)
                    if spent.reasoning_tokens:
                        span.set_attribute("gen_ai.usage.reasoning.output_tokens", spent.reasoning_tokens)
                    if spent.estimated:
                        span.set_attribute("aiwm.usage.estimated", True)

    @contextmanager
    def tool_call(self, name: str, call_id: str | None) -> Iterator[None]:
        name = _name(name)
        attributes: Attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, **self._conversing}
        if call_id is not None:
            attributes["gen_ai.tool.call.id"] = _name(call_id)
        with self._below(f"execute_tool {name}", attributes):
            yield

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        with self._below(_name(name), {}):
            yield

    def headers(self) -> dict[str, str]:
        of = self._current().get_span_context()
        flags = int(of.trace_flags) & TraceFlags.SAMPLED
        return {"traceparent": f"00-{format_trace_id(of.trace_id)}-{format_span_id(of.span_id)}-{flags:02x}"}

    def fail(self, error: BaseException) -> None:
        _fail(self._span, error)

    def end(self, outcome: str) -> None:
        self._span.set_attribute("aiwm.attempt.outcome", outcome)
        self._end(self._span, self._started)
        attach(self._before)

    def _current(self) -> Span:
        """The innermost span of ours here; in a task or thread that knows nothing of any, the attempt's."""
        here = get_current_span()
        return here if here.get_span_context().trace_id == self._trace_id else self._span

    @contextmanager
    def _below(self, name: str, attributes: Attributes, *, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
        # Attached anew and never detached: the parts of a generator may be made in contexts of their own.
        before, started = get_current(), _ns(self._clock.now())
        context = set_span_in_context(self._current(), before)
        span = self._tracer.start_span(name, context, kind, attributes, start_time=started)
        attach(set_span_in_context(span, before))
        try:
            yield span
        except GeneratorExit:
            # Nobody wants its further parts.
            raise
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            self._end(span, started)
            attach(before)

    def _end(self, span: Span, started: int) -> None:
        # Wall clocks step back.
        span.end(max(started, _ns(self._clock.now())))


def _fail(span: Span, error: BaseException) -> None:
    """Mark a span as failed; what an error says may quote people, so only its class is told."""
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR))


def _name(text: object) -> str:
    """What others call something, on one short line and without what looks like a secret."""
    shown = " ".join(clean_text(redact(str(text)[: MAX_NAME_CHARS * 4]))[0].split())
    return shown[:MAX_NAME_CHARS] or "unknown"


def _utf8(text: str) -> str:
    """Ids of the platform's as protobuf can hold them."""
    return text.encode("utf-8", "replace").decode()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
