"""Instruments behind small verbs, and their exposition (DESIGN §6).

Two rules keep the number of series bounded whatever the platform, a handler or a model calls itself: label values from
outside are cut, cleaned and limited in number, the rest counted under ``_other``; and only ``agent_limit`` agents have
series of their own. Histograms never carry an agent.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from supervisor import __version__
from supervisor.clock import Clock
from supervisor.handler import ModelCall, Usage
from supervisor.series import OTHER, USAGE_HELP, AgentSeries
from supervisor.states import AgentState
from supervisor.status import InboxCounts

MAX_LABEL_CHARS = 64
_UNFIT = re.compile(r"[^A-Za-z0-9_.:/@+-]+")
#: From a cached answer to a model that thinks for minutes; a handler is timed out after 300 s by default.
_WORK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
#: From a commit to a fast disk to one that hangs.
_FAST_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
#: OpenTelemetry's buckets for gen_ai.client.token.usage (TOOLING, "Prometheus").
_TOKENS = tuple(float(4**power) for power in range(14))
#: OpenTelemetry's for gen_ai.client.operation.duration: 0.01 doubling to 81.92.
_MODEL_SECONDS = tuple(0.01 * 2**power for power in range(14))
_HANDLERS, _MODELS, _PROVIDERS, _WORDS = 100, 50, 20, 40
#: The label ``error_type`` of a model call that went well.
NO_ERROR = ""
#: What is watched; each has a line in the log under the same name (RELIABILITY).
WATCHDOGS = ("loop_stalled", "connection_silent", "handler_abandoned", "handler_blocks", "side_task_died")

_Instrument = TypeVar("_Instrument", Counter, Histogram)


class _Vocabulary:
    """The values that one label may take: the first ``limit`` different ones, cleaned; :data:`OTHER` after that."""

    def __init__(self, limit: int, *known: str) -> None:
        self._limit = limit + len(known)
        self._known = set(known)

    def fit(self, value: str) -> str:
        if value in self._known:
            return value
        word = _UNFIT.sub("_", str(value)[: MAX_LABEL_CHARS * 2]).strip("_")[:MAX_LABEL_CHARS] or "unknown"
        if word not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(word)
        return word


class _Family(Generic[_Instrument]):
    """A metric with labels and its kept children: a dict look-up is four times as fast as ``.labels()``."""

    def __init__(self, metric: _Instrument, *vocabularies: _Vocabulary) -> None:
        self._metric: _Instrument = metric
        self._vocabularies = vocabularies
        self._children: dict[tuple[str, ...], _Instrument] = {}

    def child(self, *values: str) -> _Instrument:
        found = self._children.get(values)
        return found if found is not None else self._new_child(values)

    def _new_child(self, values: tuple[str, ...]) -> _Instrument:
        fitted = tuple(words.fit(value) for words, value in zip(self._vocabularies, values, strict=True))
        child: _Instrument = self._metric.labels(*fitted)
        # A value that had to be changed is not kept: there may be any number of those.
        if fitted == values:
            self._children[values] = child
        return child


class _One:
    """A registry of one family, as the encoders want it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


class Metrics:
    """Every figure that the supervisor shows. All verbs are cheap and none of them fails.

    Wall clocks step back: a negative duration counts as none.

    Args:
        agent_limit: how many agents have series of their own (``METRICS_AGENT_LIMIT``).
    """

    def __init__(self, *, agent_limit: int = 1000) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._agents = AgentSeries(agent_limit)
        self._registry.register(self._agents)
        self._handlers = _Vocabulary(_HANDLERS)
        self._models = _Vocabulary(_MODELS)
        self._connections()
        self._messages()
        self._storage()
        self._llm()
        Info("supervisor_build", "The version that runs.", registry=self._registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        ProcessCollector(registry=self._registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=self._registry)

    def _histogram(self, name: str, help_text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(name, help_text, labels, buckets=tuple(buckets), registry=self._registry)

    def _words(self, name: str, help_text: str, label: str) -> _Family[Counter]:
        return _Family(self._counter(name, help_text, label), _Vocabulary(_WORDS))

    def _connections(self) -> None:
        self._attempts = self._words(
            "supervisor_connection_attempts_total", "Attempts to connect, by how they ended.", "outcome"
        )
        self._disconnects = self._words("supervisor_disconnects_total", "Connections that ended, by reason.", "reason")
        self._refreshes = self._words(
            "supervisor_auth_refreshes_total", "Token requests, by how they ended.", "outcome"
        )

    def _messages(self) -> None:
        handler = self._handlers
        self._received = _Family(
            self._counter("supervisor_messages_received_total", "Messages accepted into the journal.", "handler"),
            handler,
        )
        outcomes = _Vocabulary(_WORDS)
        self._handled = _Family(
            self._counter("supervisor_messages_handled_total", "Messages handled, by outcome.", "handler", "outcome"),
            handler,
            outcomes,
        )
        self._dropped = self._words(
            "supervisor_messages_dropped_total", "Messages not accepted into the journal, by reason.", "reason"
        )
        self._unknown = self._words(
            "supervisor_unknown_total", "What the platform sent and this version does not know, by kind.", "kind"
        )
        self._queue = self._timed("queue", "Wait from received to the handler's start, seconds.")
        self._latency = self._timed("latency", "Time from received to the reply's acknowledgement, seconds.")
        self._handle = _Family(
            self._histogram(
                "supervisor_message_handle_seconds",
                "Time that the handler took, seconds.",
                _WORK_SECONDS,
                "handler",
                "outcome",
            ),
            handler,
            outcomes,
        )
        self._sends = self._words(
            "supervisor_sends_total", "Messages sent to the platform, by how it ended.", "outcome"
        )
        self._acks = self._histogram(
            "supervisor_send_ack_seconds", "Time from a send to its acknowledgement, seconds.", _WORK_SECONDS
        )

    def _timed(self, what: str, help_text: str) -> _Family[Histogram]:
        name = f"supervisor_message_{what}_seconds"
        return _Family(self._histogram(name, help_text, _WORK_SECONDS, "handler"), self._handlers)

    def _storage(self) -> None:
        self._commits = self._histogram(
            "supervisor_journal_commit_seconds", "Time of one commit of the journal, seconds.", _FAST_SECONDS
        )
        self._operations = self._counter("supervisor_journal_operations_total", "Changes that those commits held.")
        self._lag = self._histogram(
            "supervisor_event_loop_lag_seconds", "How late the event loop woke a sleeper, seconds.", _FAST_SECONDS
        )
        self._watchdogs = self._words("supervisor_watchdog_total", "How often a watchdog has struck.", "watchdog")
        for name in WATCHDOGS:
            # From the start, so that an alert on its increase sees the first one.
            self._watchdogs.child(name)
        self._memory = Gauge(
            "supervisor_memory_bytes",
            "Content and attachments of the messages held in memory until they are settled, bytes.",
            registry=self._registry,
        )

    def _llm(self) -> None:
        self._llm_tokens = _Family(
            self._counter(
                "supervisor_llm_tokens_total", f"LLM tokens, by type. {USAGE_HELP}", "handler", "model", "type"
            ),
            self._handlers,
            self._models,
            _Vocabulary(4),
        )
        self._gen_ai_tokens = _Family(
            self._histogram(
                "gen_ai_client_token_usage",
                "LLM tokens of one answer (OpenTelemetry's gen_ai.client.token.usage), tokens.",
                _TOKENS,
                "gen_ai_request_model",
                "gen_ai_token_type",
            ),
            self._models,
            _Vocabulary(4),
        )
        self._model_calls = _Family(
            self._histogram(
                "gen_ai_client_operation_duration_seconds",
                "Time of one model call (OpenTelemetry's gen_ai.client.operation.duration), seconds.",
                _MODEL_SECONDS,
                "gen_ai_request_model",
                "gen_ai_provider_name",
                "gen_ai_operation_name",
                "error_type",
            ),
            self._models,
            _Vocabulary(_PROVIDERS),
            _Vocabulary(4),
            _Vocabulary(_WORDS, NO_ERROR),
        )
        self._budget_alerts = _Family(
            self._counter(
                "supervisor_budget_alerts_total", "Budgets that were nearly or wholly used.", "scope", "level"
            ),
            _Vocabulary(4),
            _Vocabulary(4),
        )
        for scope in ("agent", "fleet"):
            for level in ("warning", "exhausted"):
                # From the start, so that an alert on its increase sees the first one.
                self._budget_alerts.child(scope, level)

    def agent_state(self, agent_id: str, old: AgentState | None, new: AgentState | None) -> None:  # noqa: ARG002
        """An agent changes its state; ``old`` None: it appears; ``new`` None: it is gone.

        The state that is left is the one last told here, so that a call made twice cannot skew the figures.
        """
        self._agents.set_state(agent_id, new)

    def agent_removed(self, agent_id: str) -> None:
        """An agent is gone from the registry: its series disappear."""
        self._agents.remove(agent_id)

    def auth_expiry(self, agent_id: str, timestamp: float) -> None:
        """An agent has a token that expires at ``timestamp``, seconds since the epoch."""
        self._agents.set_expiry(agent_id, timestamp)

    def connection_attempt(self, outcome: str) -> None:
        """An attempt to connect ended."""
        self._attempts.child(outcome).inc()

    def disconnected(self, reason: str) -> None:
        """A registered connection ended."""
        self._disconnects.child(reason).inc()

    def auth_refreshed(self, outcome: str) -> None:
        """A token request ended."""
        self._refreshes.child(outcome).inc()

    def received(self, handler: str) -> None:
        """A message was accepted into the journal."""
        self._received.child(handler).inc()

    def dropped(self, reason: str, count: int = 1) -> None:
        """Messages were not accepted."""
        self._dropped.child(reason).inc(count)

    def unknown(self, kind: str) -> None:
        """The platform sent something that this version does not know; it did no harm (PROTOCOL §4)."""
        self._unknown.child(kind).inc()

    def queued(self, handler: str, seconds: float) -> None:
        """A message waited that long for its handler."""
        self._queue.child(handler).observe(max(0.0, seconds))

    def handled(self, handler: str, outcome: str, seconds: float) -> None:
        """A handler ended after that long."""
        self._handled.child(handler, outcome).inc()
        self._handle.child(handler, outcome).observe(max(0.0, seconds))

    def answered(self, handler: str, seconds: float) -> None:
        """The last reply to a message was acknowledged that long after the message came."""
        self._latency.child(handler).observe(max(0.0, seconds))

    def sent(self, outcome: str, ack_seconds: float | None = None) -> None:
        """A send ended; ``ack_seconds`` where it was acknowledged."""
        self._sends.child(outcome).inc()
        if ack_seconds is not None:
            self._acks.observe(ack_seconds)

    def tokens(self, agent_id: str, handler: str, usage: Usage) -> None:
        """An answer cost that many LLM tokens."""
        kinds = (("input", usage.prompt_tokens), ("output", usage.completion_tokens), ("cached", usage.cached_tokens))
        for kind, count in kinds:
            # Handlers report what they like: a NaN or a minus would spoil a counter for good.
            if not (isinstance(count, int | float) and 0 < count < math.inf):
                continue
            self._llm_tokens.child(handler, usage.model, kind).inc(count)
            self._agents.add_tokens(agent_id, kind, count)
            if kind != "cached":
                self._gen_ai_tokens.child(usage.model, kind).observe(count)

    @contextmanager
    def model_call(self, model: str, provider: str, clock: Clock) -> Iterator[ModelCall]:
        """Time a model call; whatever it raises is counted under the name of its class."""
        call = ModelCall(model)
        started, error_type = clock.monotonic(), NO_ERROR
        try:
            yield call
        except BaseException as error:
            error_type = type(error).__name__
            raise
        finally:
            seconds = max(0.0, clock.monotonic() - started)
            self._model_calls.child(str(call.model), str(provider), "chat", error_type).observe(seconds)

    def budget_alert(self, scope: str, level: str) -> None:
        """A budget is nearly or wholly used."""
        self._budget_alerts.child(scope, level).inc()

    def bind_budgets(self, ratios: Callable[[], tuple[float | None, Mapping[str, float]]]) -> None:
        """Read the used parts of the budgets, the fleet's and the agents', from here whenever somebody scrapes."""
        self._agents.budgets = ratios

    def committed(self, seconds: float, operations: int) -> None:
        """The journal committed ``operations`` changes in one transaction."""
        self._commits.observe(seconds)
        self._operations.inc(operations)

    def loop_lag(self, seconds: float) -> None:
        """The event loop woke its watcher that much too late."""
        self._lag.observe(seconds)

    def watchdog(self, name: str) -> None:
        """One of :data:`WATCHDOGS` has struck. May be called from any thread."""
        self._watchdogs.child(name).inc()

    def bind_memory(self, held_bytes: Callable[[], float]) -> None:
        """Read from here, whenever somebody scrapes, how many bytes of messages are held in memory."""
        self._memory.set_function(held_bytes)

    def bind_inbox(self, counts: Callable[[], Mapping[str, InboxCounts]], oldest_seconds: Callable[[], float]) -> None:
        """Read the inbox's figures from here whenever somebody scrapes.

        Args:
            counts: each agent's messages.
            oldest_seconds: the age of the oldest message that waits; 0 when none does.
        """
        self._agents.inbox = counts
        self._agents.oldest_seconds = oldest_seconds

    def slices(self, accept: str) -> tuple[Iterator[bytes], str]:
        """All figures, one family a step, so that the event loop can run in between (DESIGN §7).

        Args:
            accept: the ``Accept`` header: OpenMetrics when it asks for it, else Prometheus' text format.

        Returns:
            The pieces of the answer, and its content type.
        """
        if "application/openmetrics-text" in accept:
            return self._openmetrics(), openmetrics.CONTENT_TYPE_LATEST
        return self._plain(), CONTENT_TYPE_PLAIN_0_0_4

    def _plain(self) -> Iterator[bytes]:
        for family in self._registry.collect():
            yield generate_latest(_One(family))

    def _openmetrics(self) -> Iterator[bytes]:
        end = b"# EOF\n"
        for family in self._registry.collect():
            text: bytes = openmetrics.generate_latest(_One(family))  # type: ignore[no-untyped-call]
            yield text.removesuffix(end)
        yield end

    def render(self, accept: str) -> tuple[bytes, str]:
        """All figures at once: the answer and its content type."""
        pieces, content_type = self.slices(accept)
        return b"".join(pieces), content_type
