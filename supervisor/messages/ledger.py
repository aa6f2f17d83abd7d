"""What language models cost today, for each agent and the fleet, and the budgets that bound it.

The journal keeps what was used. The sums of today are here, in memory, so that a handler can ask before every model
call; what other processes spend that share the registry is taken up now and then. A day is a UTC day.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from supervisor.core.clock import Clock
from supervisor.core.days import day_of
from supervisor.core.records import UsageRecord
from supervisor.handler import Budget, Usage
from supervisor.messages.budgets import NO_LIMITS, Level, Limits, Spent
from supervisor.messages.notices import SPENT_NOTICE
from supervisor.settings import Price
from supervisor.telemetry.logs import get_logger
from supervisor.telemetry.metrics import OTHER

#: Prices are per so many tokens.
PRICED_TOKENS: Final = 1_000_000
#: Different models of one agent on one day; what it calls further ones counts under ``_other``.
MAX_MODELS: Final = 50
#: Days whose sums are kept in memory: a wall clock may step back over midnight.
_DAYS: Final = 2


@dataclass(slots=True)
class _Day:
    """The sums of one day.

    Attributes:
        alerted: the level that was last alerted of each agent's budget, and of the fleet's under None.
        unpriced: models without a price that were warned of.
    """

    fleet: Spent = field(default_factory=Spent)
    agents: dict[str, Spent] = field(default_factory=dict)
    models: dict[str, set[str]] = field(default_factory=dict)
    alerted: dict[str | None, Level] = field(default_factory=dict)
    unpriced: set[str] = field(default_factory=set)

    def add(self, record: UsageRecord) -> None:
        """Count what was used."""
        self.fleet.add(record)
        self.agents.setdefault(record.agent_id, Spent()).add(record)
        self.models.setdefault(record.agent_id, set()).add(record.model)

    def raise_to(self, agents: Mapping[str, Iterable[UsageRecord]]) -> None:
        """Count at least what agents used as some records say; who runs an agent knows more than was written."""
        for agent_id, records in agents.items():
            known, total = self.agents.setdefault(agent_id, Spent()), Spent()
            for record in records:
                total.add(record)
                self.models.setdefault(agent_id, set()).add(record.model)
            for name in ("tokens", "cost"):
                more = max(0, getattr(total, name) - getattr(known, name))
                setattr(known, name, getattr(known, name) + more)
                setattr(self.fleet, name, getattr(self.fleet, name) + more)

    def model(self, agent_id: str, model: str) -> str:
        """The name under which a model of an agent counts."""
        known = self.models.get(agent_id, set())
        return model if model in known or len(known) < MAX_MODELS else OTHER


def cost_of(usage: Usage, price: Price) -> float:
    """What usage costs; cached tokens are part of the prompt's and have a price of their own where it is given."""
    cached_price = price.input if price.cached is None else price.cached
    fresh = usage.prompt_tokens - usage.cached_tokens
    spent = fresh * price.input + usage.cached_tokens * cached_price + usage.completion_tokens * price.output
    return spent / PRICED_TOKENS


class Ledger:
    """Today's spending and the budgets. Every method may be called from any thread.

    Args:
        prices: by model, as handlers report it.
        fleet: the budget of all agents together.
        write: takes what was used, to be kept.
        on_alert: called with the scope (``agent`` or ``fleet``) and the level when a budget is nearly or wholly used,
            once a day and level, and again where its limit was changed in between.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        prices: Mapping[str, Price],
        fleet: Limits,
        write: Callable[[UsageRecord], None],
        on_alert: Callable[[str, str], None] = lambda _scope, _level: None,
    ) -> None:
        self._clock = clock
        self._prices = prices
        self._fleet = fleet
        self._write = write
        self._on_alert = on_alert
        self._lock = threading.Lock()  # guards all that follows
        self._limits: dict[str, Limits] = {}
        self._days: dict[str, _Day] = {}
        #: What calls under way are expected to cost, of each agent and, under None, of all.
        self._expected: dict[str | None, Spent] = {}
        self._log = get_logger("supervisor.ledger")

    def load(self, records: Iterable[UsageRecord]) -> None:
        """Take up what the registry holds of a day, where it is more than what is known here.

        Before anything is recorded that is all of it; later, what others recorded who share the registry.
        """
        written: dict[str, dict[str, list[UsageRecord]]] = {}
        for record in records:
            written.setdefault(record.day, {}).setdefault(record.agent_id, []).append(record)
        with self._lock:
            for day, agents in written.items():
                self._day(day).raise_to(agents)
        self._alert(None)

    @property
    def bounded(self) -> bool:
        """Whether there is any budget."""
        with self._lock:
            return self._fleet != NO_LIMITS or bool(self._limits)

    def record(self, agent_id: str, usage: Usage) -> float | None:
        """Count what one model call used; ``usage`` has been through :func:`supervisor.telemetry.usage.cleaned`.

        Returns:
            What it cost, in the currency of the prices; None where the model has no price.
        """
        price = self._prices.get(usage.model)
        with self._lock:
            today = day_of(self._clock.now())
            day = self._day(today)
            record = UsageRecord(
                agent_id,
                day.model(agent_id, usage.model),
                today,
                requests=1,
                input_tokens=usage.prompt_tokens,
                output_tokens=usage.completion_tokens,
                cached_tokens=usage.cached_tokens,
                cost=cost_of(usage, price) if price else 0.0,
                unpriced_requests=0 if price else 1,
                reasoning_tokens=usage.reasoning_tokens,
                estimated_requests=int(usage.estimated),
            )
            day.add(record)
            bounded = (self._fleet.cost, self._limits.get(agent_id, NO_LIMITS).cost) != (None, None)
            unbounded = bounded and price is None and record.model not in day.unpriced
            if unbounded:
                day.unpriced.add(record.model)
        if unbounded:
            # What the model costs counts in no budget of money: nobody would notice.
            self._log.warning("model_without_price", agent=agent_id, model=record.model)
        self._write(record)
        self._alert(agent_id)
        self._alert(None)
        return record.cost if price else None

    def limit(self, agent_id: str, limits: Limits) -> None:
        """An agent may spend so much from now on."""
        with self._lock:
            if limits == NO_LIMITS:
                self._limits.pop(agent_id, None)
            else:
                self._limits[agent_id] = limits
        self._alert(agent_id)

    def forget(self, agent_id: str) -> None:
        """An agent is gone; what it spent today still counts for the fleet, and for itself should it come back."""
        with self._lock:
            self._limits.pop(agent_id, None)

    def budget(self, agent_id: str) -> Budget:
        """What an agent may still spend: its own budget or the fleet's, whichever is nearer to its end."""
        with self._lock:
            spent, limits = self._scope(agent_id)
            fleet, fleet_limits = self._scope(None)
            pending = self._is_pending(agent_id, spent, limits) or self._is_pending(None, fleet, fleet_limits)
            used, fleet_used = spent.ratio(limits), fleet.ratio(fleet_limits)
            if fleet_used is not None and (used is None or fleet_used > used):
                spent, limits, used = fleet, fleet_limits, fleet_used
            exhausted = used is not None and used >= 1
            notice = SPENT_NOTICE if exhausted else ""
            return Budget(exhausted, notice, spent.tokens, limits.tokens, spent.cost, limits.cost, pending)

    def used_up(self, agent_id: str) -> str:
        """Which budget of today is used up that bounds an agent, in words; empty where none is.

        The fleet's bounds only who has spent of it today: an agent that calls no model goes on answering.
        """
        with self._lock:
            if self._fleet == NO_LIMITS and agent_id not in self._limits:
                return ""
            spent, limits = self._scope(agent_id)
            fleet, fleet_limits = self._scope(None)
            if spent.level(limits) is Level.EXHAUSTED:
                return f"its budget of today is used up ({spent.in_words(limits)}), until 00:00 UTC"
            if spent != Spent() and fleet.level(fleet_limits) is Level.EXHAUSTED:
                return f"the fleet's budget of today is used up ({fleet.in_words(fleet_limits)}), until 00:00 UTC"
            return ""

    @contextmanager
    def expecting(self, agent_id: str, usage: Usage) -> Iterator[None]:
        """Hold what a call under way is expected to cost against the budgets: calls at once must not overdraw them.

        Args:
            usage: has been through :func:`supervisor.telemetry.usage.cleaned`.
        """
        price = self._prices.get(usage.model)
        cost = cost_of(usage, price) if price else 0.0
        self._expect(agent_id, usage.total_tokens, cost)
        try:
            yield
        finally:
            self._expect(agent_id, -usage.total_tokens, -cost)

    def _expect(self, agent_id: str, tokens: int, cost: float) -> None:
        with self._lock:
            for scope in (agent_id, None):
                expected = self._expected.setdefault(scope, Spent())
                expected.tokens += tokens
                expected.cost += cost
                if expected.tokens <= 0:
                    # Nothing is under way, and what is left of the cost is rounding.
                    del self._expected[scope]

    def _is_pending(self, agent_id: str | None, spent: Spent, limits: Limits) -> bool:
        """Whether what is under way may use the rest of a budget up; to be called with the lock held."""
        expected = self._expected.get(agent_id)
        if expected is None:
            return False
        return (Spent(spent.tokens + expected.tokens, spent.cost + expected.cost).ratio(limits) or 0.0) >= 1

    def used_ratios(self) -> tuple[float | None, dict[str, float]]:
        """The used part of the fleet's budget, if it has one, and of each agent's that has one."""
        with self._lock:
            day, nothing = self._day(day_of(self._clock.now())), Spent()
            own = {agent_id: day.agents.get(agent_id, nothing).ratio(own) for agent_id, own in self._limits.items()}
            return day.fleet.ratio(self._fleet), {agent_id: used for agent_id, used in own.items() if used is not None}

    def _day(self, name: str) -> _Day:
        """A day's sums; to be called with the lock held."""
        day = self._days.get(name)
        if day is None:
            day = self._days[name] = _Day()
            while len(self._days) > _DAYS:
                del self._days[min(other for other in self._days if other != name)]
        return day

    def _scope(self, agent_id: str | None) -> tuple[Spent, Limits]:
        """What an agent, or with None the fleet, has spent today and may spend; to be called with the lock held."""
        day = self._day(day_of(self._clock.now()))
        if agent_id is None:
            return day.fleet, self._fleet
        return day.agents.get(agent_id) or Spent(), self._limits.get(agent_id, NO_LIMITS)

    def _alert(self, agent_id: str | None) -> None:
        """Say, once, that the budget of an agent, or the fleet's, is nearly or wholly used."""
        with self._lock:
            spent, limits = self._scope(agent_id)
            level, figures = spent.level(limits), spent.figures(limits)
            alerted = self._day(day_of(self._clock.now())).alerted
            # Where a limit was raised the level falls, and the new limit has alerts of its own.
            before, alerted[agent_id] = alerted.get(agent_id, Level.FINE), level
        if level <= before:
            return
        scope = "fleet" if agent_id is None else "agent"
        log = self._log.bind(scope=scope) if agent_id is None else self._log.bind(scope=scope, agent=agent_id)
        log.warning("budget_exhausted" if level is Level.EXHAUSTED else "budget_nearly_used", **figures)
        self._on_alert(scope, level.name.lower())
