"""What one agent's model calls use: counted in the day's sums and in the metrics, and bounded by its budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from supervisor.handler import Budget, ModelCall, Usage
from supervisor.messages.ledger import Ledger
from supervisor.messages.scope import Scope
from supervisor.telemetry.usage import cleaned


class Spending:
    """One agent's page of the ledger. Every method may be called from any thread.

    Args:
        handler: the reference of the agent's handler.
    """

    def __init__(self, scope: Scope, ledger: Ledger, handler: Callable[[], str]) -> None:
        self._agent_id = scope.agent_id
        self._metrics = scope.metrics
        self._activity = scope.activity
        self._clock = scope.clock
        self._ledger = ledger
        self._handler = handler

    def count(self, usage: Usage) -> None:
        """Count what a model call used, whatever a handler reports."""
        usage = cleaned(usage)
        self._metrics.tokens(self._agent_id, self._handler(), usage)
        self._activity.used(usage.prompt_tokens, usage.completion_tokens)
        cost = self._ledger.record(self._agent_id, usage)
        if cost is not None:
            self._metrics.cost(self._agent_id, self._handler(), usage.model, cost)

    def budget(self) -> Budget:
        """What may still be spent today."""
        return self._ledger.budget(self._agent_id)

    @property
    def used_up(self) -> str:
        """Which budget of today is used up, in words; empty where none is."""
        return self._ledger.used_up(self._agent_id)

    @contextmanager
    def model_call(
        self, model: str, provider: str, expected: Usage | None = None, trace_id: str = ""
    ) -> Iterator[ModelCall]:
        """Measure a call of a model; what it is expected to cost counts in the budgets until its end.

        Args:
            trace_id: that of the message for which it is made, if it has a trace.
        """
        with ExitStack() as held:
            if expected is not None:
                held.enter_context(self._ledger.expecting(self._agent_id, cleaned(expected)))
            yield held.enter_context(self._metrics.model_call(model, provider, self._clock, trace_id))
