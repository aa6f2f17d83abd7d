"""Language models: tokens, cost, calls, budgets; OpenTelemetry's GenAI names beside our own."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor.core.clock import Clock
from supervisor.handler import ModelCall, Usage
from supervisor.telemetry.metrics.agents import AgentSeries
from supervisor.telemetry.metrics.families import Vocabulary, Workshop

#: OpenTelemetry's buckets for gen_ai.client.token.usage.
TOKENS = tuple(float(4**power) for power in range(14))
#: OpenTelemetry's for gen_ai.client.operation.duration: 0.01 doubling to 81.92.
MODEL_SECONDS = tuple(0.01 * 2**power for power in range(14))
MODELS, PROVIDERS, ERRORS = 50, 20, 40
#: The label ``error_type`` of a model call that went well.
NO_ERROR = ""
#: The only operation that there is (OpenTelemetry's gen_ai.operation.name).
CHAT = "chat"
SCOPES, LEVELS = ("agent", "fleet"), ("warning", "exhausted")
USAGE_HELP = "input and output make the total; cached is the part of input that came from a cache."


class ModelMetrics:
    """The instruments of language models, and their verbs. These may be called from any thread."""

    def __init__(self, make: Workshop, handlers: Vocabulary, agents: AgentSeries) -> None:
        self._by_agent = agents
        self._reporting = threading.Lock()  # guards all of them: handlers report from threads too
        models = Vocabulary(MODELS)
        self._make_own(make, handlers, models)
        self._make_gen_ai(make, models)
        self._make_alerts(make)

    def _make_own(self, make: Workshop, handlers: Vocabulary, models: Vocabulary) -> None:
        self._llm_tokens = make.counters(
            "supervisor_llm_tokens_total",
            f"LLM tokens, by type: {USAGE_HELP}",
            "tokens",
            handler=handlers,
            model=models,
            type=Vocabulary(0, "input", "output", "cached"),
        )
        self._llm_cost = make.counters(
            "supervisor_llm_cost_total",
            "What LLM tokens cost, in the currency of the configured prices; nothing of a model without a price.",
            "currency",
            handler=handlers,
            model=models,
        )

        # Apart from the tokens above: whoever sums up all types but ``cached`` would count them twice.
        self._reasoning = make.counters(
            "supervisor_llm_reasoning_tokens_total",
            "LLM tokens that models spent on reasoning; they are part of the output.",
            "tokens",
            handler=handlers,
            model=models,
        )
        self._estimated = make.counters(
            "supervisor_llm_estimated_total",
            "Answers of models whose tokens are an estimate, for the server reported none.",
            "answers",
            handler=handlers,
            model=models,
        )

    def _make_gen_ai(self, make: Workshop, models: Vocabulary) -> None:
        """Under OpenTelemetry's names."""
        providers, operations = Vocabulary(PROVIDERS), Vocabulary(0, CHAT)
        self._gen_ai_tokens = make.histograms(
            "gen_ai_client_token_usage",
            "LLM tokens of one answer (OpenTelemetry's gen_ai.client.token.usage), in tokens.",
            "tokens",
            TOKENS,
            gen_ai_request_model=models,
            gen_ai_provider_name=providers,
            gen_ai_operation_name=operations,
            gen_ai_token_type=Vocabulary(0, "input", "output"),
        )
        self._model_calls = make.histograms(
            "gen_ai_client_operation_duration_seconds",
            "Time of one model call (OpenTelemetry's gen_ai.client.operation.duration), in seconds; error_type is "
            "empty where it went well.",
            "seconds",
            MODEL_SECONDS,
            gen_ai_request_model=models,
            gen_ai_provider_name=providers,
            gen_ai_operation_name=operations,
            error_type=Vocabulary(ERRORS, NO_ERROR),
        )

    def _make_alerts(self, make: Workshop) -> None:
        self._budget_alerts = make.counters(
            "supervisor_budget_alerts_total",
            "Budgets of a day that were nearly (warning) or wholly used (exhausted), in alerts.",
            "alerts",
            scope=Vocabulary(0, *SCOPES),
            level=Vocabulary(0, *LEVELS),
        )
        for scope in SCOPES:
            for level in LEVELS:
                self._budget_alerts.begin(scope, level)

    def tokens(self, agent_id: str, handler: str, usage: Usage) -> None:
        """An answer took the tokens of ``usage``; a count that is no positive number is left out."""
        kinds = (("input", usage.prompt_tokens), ("output", usage.completion_tokens), ("cached", usage.cached_tokens))
        for kind, count in kinds:
            if not _counts(count):
                continue
            self._by_agent.add_tokens(agent_id, kind, count)
            with self._reporting:
                self._llm_tokens[handler, usage.model, kind].total += count
                if kind != "cached":
                    self._gen_ai_tokens[usage.model, usage.provider, CHAT, kind].observe(count)
        with self._reporting:
            if _counts(usage.reasoning_tokens):
                self._reasoning[handler, usage.model].total += usage.reasoning_tokens
            if usage.estimated:
                self._estimated[handler, usage.model].total += 1

    def cost(self, agent_id: str, handler: str, model: str, amount: float) -> None:
        """An answer cost ``amount``, in the currency of ``PRICES``; only of a model that has a price."""
        if 0 <= amount < math.inf:
            with self._reporting:
                self._llm_cost[handler, model].total += amount
            self._by_agent.add_cost(agent_id, amount)

    @contextmanager
    def model_call(self, model: str, provider: str, clock: Clock, trace_id: str = "") -> Iterator[ModelCall]:
        """Time a model call; whatever it raises is counted under the name of its class.

        Args:
            trace_id: that of the message for which it is made, if it has a trace.
        """
        call = ModelCall(model)
        started, error_type = clock.monotonic(), NO_ERROR
        try:
            yield call
        except BaseException as error:
            error_type = type(error).__name__
            raise
        finally:
            seconds = max(0.0, clock.monotonic() - started)
            with self._reporting:
                calls = self._model_calls[str(call.model), str(provider), CHAT, error_type]
                calls.observe(seconds)
                if trace_id:
                    calls.exemplify(seconds, trace_id, clock.now())

    def budget_alert(self, scope: str, level: str) -> None:
        """A budget is nearly or wholly used; ``scope``: one of :data:`SCOPES`, ``level``: one of :data:`LEVELS`."""
        with self._reporting:
            self._budget_alerts[scope, level].total += 1


def _counts(count: object) -> bool:
    """Whether a figure may be counted: handlers report what they like, and a NaN or a minus would spoil a counter."""
    return isinstance(count, int | float) and 0 < count < math.inf
