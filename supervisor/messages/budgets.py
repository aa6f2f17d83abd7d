"""Budgets: what may be spent in a UTC day, what was, and how far the one is used by the other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from supervisor.core.records import UsageRecord

#: The used part of a budget from which on it counts as nearly used.
WARNING_RATIO: Final = 0.8


class Level(IntEnum):
    """How far a budget is used."""

    FINE = 0
    WARNING = 1
    EXHAUSTED = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent in a UTC day; None: no limit. Against ``tokens`` count input and output together."""

    tokens: int | None = None
    cost: float | None = None


NO_LIMITS: Final = Limits()


@dataclass(slots=True)
class Spent:
    """Tokens and cost of one day."""

    tokens: int = 0
    cost: float = 0.0

    def add(self, record: UsageRecord) -> None:
        """Count what was used."""
        self.tokens += record.total_tokens
        self.cost += record.cost

    def ratio(self, limits: Limits) -> float | None:
        """The part of the limits that is used, of tokens or cost, whichever is more; None without limits."""
        by_tokens = None if limits.tokens is None else self.tokens / limits.tokens
        by_cost = None if limits.cost is None else self.cost / limits.cost
        if by_tokens is None or by_cost is None:
            return by_cost if by_tokens is None else by_tokens
        return max(by_tokens, by_cost)

    def level(self, limits: Limits) -> Level:
        """How far the limits are used."""
        used = self.ratio(limits) or 0.0
        return Level.EXHAUSTED if used >= 1 else Level.WARNING if used >= WARNING_RATIO else Level.FINE

    def in_words(self, limits: Limits) -> str:
        """What is spent of what may be: ``2,140 of 2,000 tokens, cost 0.31 of 0.50``; only what is limited."""
        tokens = [] if limits.tokens is None else [f"{self.tokens:,} of {limits.tokens:,} tokens"]
        cost = [] if limits.cost is None else [f"cost {self.cost:.2f} of {limits.cost:.2f}"]
        return ", ".join(tokens + cost)

    def figures(self, limits: Limits) -> dict[str, Any]:
        """What is spent and what may be, for a line of the log; limits that there are not are left out."""
        figures: dict[str, Any] = {
            "spent_tokens": self.tokens,
            "limit_tokens": limits.tokens,
            "spent_cost": round(self.cost, 6),
            "limit_cost": limits.cost,
        }
        return {name: value for name, value in figures.items() if value is not None}
